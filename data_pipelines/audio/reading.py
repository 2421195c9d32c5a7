"""Audio files into arrays and blocks, with one clear error for each thing that can be wrong, and from rate to rate."""

import contextlib
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import soundfile
import soxr

from data_pipelines.schema import AUDIO_DTYPE, FULL_SCALE

LOWEST_RATE, HIGHEST_RATE = 8_000, 192_000
# Samples per channel that pass at a time.
BLOCK = 2**16
READABLE = (".wav", ".flac", ".ogg", ".mp3", ".aiff", ".aif", ".rf64", ".w64", ".caf")


class AudioFile:
    """An audio file to be read block by block, any number of times.

    Attributes:
      sample_rate: Hz.
      channels: how many.
      container, subtype: libsndfile's names of what it is, `WAV` and `PCM_24`.
      frames: samples per channel as the header has them.

    Raises:
      ValueError: if the file is missing, is not audio, is truncated, is empty, or has a rate outside 8 to 192 kHz.
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
            # A truncated WAV reads without complaint: libsndfile shortens `frames` to what is there. The header tells.
            with path.open("rb") as file:
                self._check_whole(_missing_bytes(file.read(4096), path.stat().st_size))

    @property
    def name(self) -> str:
        """The path, for error messages."""
        return str(self.path)

    def blocks(self, samples: int = BLOCK) -> Iterator[np.ndarray]:
        """The file from its beginning as float32 `[n, C]` in −1…1, n = `samples` but for the last block.

        Raises:
          ValueError: if it ends too soon, cannot be decoded, or holds samples that are not finite.
        """
        done = 0
        with self._opened() as file:
            while len(block := file.read(samples, dtype="float32", always_2d=True)):
                if not np.isfinite(block).all():
                    bad = done + int(np.argmin(np.isfinite(block).all(axis=1)))
                    raise ValueError(f"{self.path}: sample {bad} is NaN or infinite; repair the file first")
                done += len(block)
                yield block
        self._check_whole(self.frames - done)

    @contextlib.contextmanager
    def _opened(self) -> Iterator[soundfile.SoundFile]:
        try:
            with soundfile.SoundFile(self.path) as file:
                yield file
        except (soundfile.LibsndfileError, RuntimeError) as error:
            reason = _reason(error)
            raise ValueError(f"{self.path}: cannot be read as audio ({reason}); is it damaged or misnamed?") from None

    def _check_whole(self, missing: int) -> None:
        if missing > 0:
            raise ValueError(f"{self.path}: is truncated: its header promises more audio than the file holds")


def read_audio(path: Path | str) -> tuple[np.ndarray, int]:
    """Whole file as float32 `[T, C]` in −1…1, and its sample rate in Hz.

    Raises:
      ValueError: as `AudioFile` and its blocks.
    """
    file = AudioFile(path)
    return np.concatenate(list(file.blocks())), file.sample_rate


def check_rate(rate: int, path: Path | str) -> None:
    if not LOWEST_RATE <= rate <= HIGHEST_RATE:
        raise ValueError(f"{path}: sample rate {rate} Hz is outside {LOWEST_RATE} to {HIGHEST_RATE} Hz; resample it")


def _reason(error: Exception) -> str:
    return str(error).rsplit(": ", 1)[-1].strip().rstrip(".")


def _missing_bytes(head: bytes, size: int) -> int:
    """Bytes of the data chunk that a RIFF header promises and the file lacks; 0 when the header does not say."""
    if head[:4] != b"RIFF" or head[8:12] != b"WAVE":
        return 0
    position = 12
    while position + 8 <= len(head):
        name, length = head[position : position + 4], int.from_bytes(head[position + 4 : position + 8], "little")
        if name == b"data":
            # Writers that stream leave 0 or the largest number there, and fill it in only when they are closed.
            return 0 if length in (0, 0xFFFFFFFF, 0xFFFFFFFF - 1) else max(0, position + 8 + length - size)
        position += 8 + length + length % 2
    return 0


def resample(audio: np.ndarray, rate: int, target_rate: int) -> np.ndarray:
    """`[T, C]` at `rate` → float32 `[⌈T · target_rate / rate⌉, C]` (soxr, high quality)."""
    return np.concatenate(list(resample_blocks([audio], rate, target_rate)))


def resample_blocks(blocks: Iterable[np.ndarray], rate: int, target_rate: int) -> Iterator[np.ndarray]:
    """A signal in blocks `[n, C]` at another rate, float32: to the bit what `resample` gives, however it is cut."""
    if rate == target_rate:
        yield from blocks
        return
    stream, taken, given, channels = None, 0, 0, 1
    for block in blocks:
        channels = block.shape[1]
        stream = stream or soxr.ResampleStream(rate, target_rate, channels, dtype="float32", quality="HQ")
        taken += len(block)
        out = stream.resample_chunk(np.ascontiguousarray(block, np.float32))
        given += len(out)
        yield out
    length = -(-taken * target_rate // rate)
    rest = stream.resample_chunk(np.zeros((0, channels), np.float32), last=True) if stream else np.zeros((0, channels))
    yield fit_length(rest.astype(np.float32, copy=False), length - given)


def fit_length(audio: np.ndarray, length: int) -> np.ndarray:
    """Cut or zero-pad `[T, C]` to `[length, C]`."""
    if len(audio) >= length:
        return audio[:length]
    return np.concatenate([audio, np.zeros((length - len(audio), *audio.shape[1:]), audio.dtype)])


def fit_channels(audio: np.ndarray, channels: int) -> np.ndarray:
    """`[T, C]` → `[T, channels]`: the mean of all channels for one, copies of a single one for several.

    Raises:
      ValueError: for any other change of channel count.
    """
    if audio.shape[1] == channels:
        return audio
    if channels == 1:
        return audio.mean(axis=1, keepdims=True, dtype=np.float32)
    if audio.shape[1] == 1:
        return np.repeat(audio, channels, axis=1)
    raise ValueError(f"cannot turn {audio.shape[1]} channels into {channels}: give 1 or {channels} channels")


def to_int16(audio: np.ndarray) -> np.ndarray:
    """Float −1…1 → int16, rounded; clips, and warns by how much, when samples pass full scale."""
    peak = float(np.max(np.abs(audio), initial=0.0))
    if peak > 1.0:
        warnings.warn(f"audio peaks at {peak:.3f} and is clipped to full scale", stacklevel=2)
    return np.clip(np.rint(audio * FULL_SCALE), -FULL_SCALE, FULL_SCALE - 1).astype(AUDIO_DTYPE)


def read_matching(path: Path, mixture: np.ndarray, rate: int) -> np.ndarray:
    """The audio of a file at a rate, with the samples and channels of `mixture` `[T, C]`."""
    audio, own = read_audio(path)
    return fit_length(fit_channels(resample(audio, own, rate), mixture.shape[1]), len(mixture))
