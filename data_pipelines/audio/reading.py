"""Reading of audio files, complete or in blocks."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile

from data_pipelines.audio.samples import fit_channels, fit_length, resample

LOWEST_RATE, HIGHEST_RATE = 8_000, 192_000
# Samples per channel in each block that is read.
BLOCK = 2**16
READABLE = (".wav", ".flac", ".ogg", ".mp3", ".aiff", ".aif", ".rf64", ".w64", ".caf")


class AudioFile:
    """An audio file that can be read block by block, any number of times.

    Attributes:
      sample_rate: Sample rate in Hz.
      channels: Number of channels.
      container, subtype: Container and sample format as libsndfile names them, for example `WAV` and `PCM_24`.
      frames: Samples per channel, according to the header.

    Raises:
      ValueError: if the file is missing, is not audio, is truncated, is empty, or has a sample rate outside 8 to
        192 kHz.
    """

    def __init__(self, path: Path | str):
        self.path = path = Path(path)
        if not path.is_file():
            raise ValueError(f"{path}: no such file")
        if path.suffix.lower() not in READABLE:
            raise ValueError(f"{path}: '{path.suffix}' is not a known audio extension; known are {', '.join(READABLE)}")
        with self._opened() as file:
            self.sample_rate, self.channels, self.frames = file.samplerate, file.channels, file.frames
            self.container, self.subtype = file.format, file.subtype
        check_rate(self.sample_rate, path)
        if self.frames == 0:
            raise ValueError(f"{path}: holds no samples")
        if path.suffix.lower() == ".wav":
            # libsndfile reads a truncated WAV without an error and reduces `frames`. Only the header shows the loss.
            with path.open("rb") as file:
                self._check_complete(_missing_bytes(file.read(4096), path.stat().st_size))

    @property
    def name(self) -> str:
        """The path, for error messages."""
        return str(self.path)

    def blocks(self, samples: int = BLOCK) -> Iterator[np.ndarray]:
        """Yield the file from its beginning as float32 `[n, C]` in −1…1, with n = `samples` except in the last block.

        Raises:
          ValueError: if the file ends too early, cannot be decoded, or holds samples that are not finite.
        """
        done = 0
        with self._opened() as file:
            while len(block := file.read(samples, dtype="float32", always_2d=True)):
                if not np.isfinite(block).all():
                    bad = done + int(np.argmin(np.isfinite(block).all(axis=1)))
                    raise ValueError(f"{self.path}: sample {bad} is NaN or infinite; repair the file first")
                done += len(block)
                yield block
        self._check_complete(self.frames - done)

    @contextlib.contextmanager
    def _opened(self) -> Iterator[soundfile.SoundFile]:
        try:
            with soundfile.SoundFile(self.path) as file:
                yield file
        except (soundfile.LibsndfileError, RuntimeError) as error:
            reason = _reason(error)
            raise ValueError(f"{self.path}: cannot be read as audio ({reason}); is it damaged or misnamed?") from None

    def _check_complete(self, missing: int) -> None:
        if missing > 0:
            raise ValueError(f"{self.path}: is truncated: its header promises more audio than the file holds")


def read_audio(path: Path | str) -> tuple[np.ndarray, int]:
    """The complete file as float32 `[T, C]` in −1…1, and its sample rate in Hz.

    Raises:
      ValueError: as `AudioFile` and `AudioFile.blocks` do.
    """
    file = AudioFile(path)
    return np.concatenate(list(file.blocks())), file.sample_rate


def check_rate(rate: int, path: Path | str) -> None:
    """Raise ValueError if the sample rate (Hz) of a file is outside 8 to 192 kHz."""
    if not LOWEST_RATE <= rate <= HIGHEST_RATE:
        raise ValueError(f"{path}: sample rate {rate} Hz is outside {LOWEST_RATE} to {HIGHEST_RATE} Hz; resample it")


def _reason(error: Exception) -> str:
    return str(error).rsplit(": ", 1)[-1].strip().rstrip(".")


def _missing_bytes(head: bytes, size: int) -> int:
    """Bytes of the data chunk that the file lacks according to its RIFF header; 0 if the header does not say.

    Args:
      head: the first bytes of the file.
      size: bytes of the file.
    """
    if head[:4] != b"RIFF" or head[8:12] != b"WAVE":
        return 0
    position = 12
    while position + 8 <= len(head):
        name, length = head[position : position + 4], int.from_bytes(head[position + 4 : position + 8], "little")
        if name == b"data":
            # Streaming writers put 0 or the largest number here and replace it only when they are closed.
            return 0 if length in (0, 0xFFFFFFFF, 0xFFFFFFFF - 1) else max(0, position + 8 + length - size)
        position += 8 + length + length % 2
    return 0


def read_matching(path: Path, mixture: np.ndarray, rate: int) -> np.ndarray:
    """Read a file at `rate` (Hz), with as many samples and channels as `mixture` `[T, C]` has."""
    audio, file_rate = read_audio(path)
    return fit_length(fit_channels(resample(audio, file_rate, rate), mixture.shape[1]), len(mixture))
