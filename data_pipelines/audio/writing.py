"""Audio files out of arrays and blocks: an output appears under its name only when all of it is on disk."""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile

# Bytes of audio above which a WAV file needs the 64-bit header of RF64: its own ends at 4 GiB.
LARGEST_WAV = 2**32 - 2**16
# Samples per channel that libsndfile gets at a time: its Vorbis encoder overflows the stack on a long signal.
_PIECE = 2**14
INTEGER = ("PCM_S8", "PCM_U8", "PCM_16", "PCM_24", "PCM_32")
# What an input of another kind is written as: the nearest that the container can hold and everyone can read.
_DEFAULT = {"WAV": "PCM_16", "FLAC": "PCM_24", "OGG": "VORBIS", "AIFF": "PCM_16", "CAF": "PCM_16", "W64": "PCM_16"}
_SUFFIXES = {
    ".wav": "WAV",
    ".flac": "FLAC",
    ".ogg": "OGG",
    ".aiff": "AIFF",
    ".aif": "AIFF",
    ".caf": "CAF",
    ".w64": "W64",
}
_KEPT = (*INTEGER[2:], "FLOAT", "DOUBLE", "VORBIS", "OPUS")


def output_suffix(path: Path) -> str:
    """The extension for outputs of a file: its own, or `.wav` where that cannot be written (MP3)."""
    suffix = path.suffix.lower()
    return suffix if suffix in _SUFFIXES else ".wav"


def format_for(path: Path, subtype: str, samples: int) -> tuple[str, str]:
    """Container and sample format for `samples` over all channels at `path`: the container by the extension, the
    sample format kept where the container has it.

    Raises:
      ValueError: for an extension that cannot be written.
    """
    container = _SUFFIXES.get(path.suffix.lower())
    if container is None:
        raise ValueError(f"{path}: cannot write '{path.suffix}' files; give one of {', '.join(_SUFFIXES)}")
    kept = subtype in _KEPT and soundfile.check_format(container, subtype)
    subtype = subtype if kept else _DEFAULT[container]
    width = {"PCM_16": 2, "PCM_24": 3, "DOUBLE": 8}.get(subtype, 4)
    return "RF64" if container == "WAV" and samples * width > LARGEST_WAV else container, subtype


class AudioWriter:
    """Write float blocks `[n, C]` in −1…1 to a file that appears when the `with` block ends without an error.

    Integer formats clip what is beyond full scale.

    Attributes:
      frames: samples per channel written so far.
      clipped: how many samples of an integer format were beyond full scale.
      peak: the largest absolute sample.

    Raises:
      ValueError: if the container cannot hold this rate, channel count or sample format.
      OSError: if the folder cannot be written or the disk is full; nothing is left behind then.
    """

    def __init__(self, path: Path, sample_rate: int, channels: int, subtype: str = "PCM_16", container: str = "WAV"):
        self.path, self.frames, self.clipped, self.peak = path, 0, 0, 0.0
        self._integer = subtype in INTEGER
        self._unfinished = path.with_name(f".{path.name}.{os.getpid()}.part")
        self._new_folders = [folder for folder in path.parents if not folder.exists()]
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._unfinished.touch()
            self._sound = soundfile.SoundFile(self._unfinished, "w", sample_rate, channels, subtype, format=container)
        except soundfile.LibsndfileError:
            self.discard()
            raise ValueError(
                f"{path}: {container} with {subtype} cannot hold {channels} channels at {sample_rate} Hz: "
                "write another format"
            ) from None
        except OSError as error:
            raise self._in_words(error) from None

    def write(self, block: np.ndarray) -> None:
        peak = float(np.max(np.abs(block), initial=0.0))
        self.peak = max(self.peak, peak)
        if self._integer and peak > 1.0:
            self.clipped += int(np.count_nonzero(np.abs(block) > 1.0))
        try:
            for start in range(0, len(block), _PIECE):
                self._sound.write(block[start : start + _PIECE])
        except (OSError, soundfile.LibsndfileError) as error:
            raise self._in_words(error) from None
        except AssertionError:  # soundfile's only word when libsndfile wrote less than it should
            raise self._in_words(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))) from None
        self.frames += len(block)

    def __enter__(self) -> "AudioWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self.discard()
        else:
            self.finish()
            self.appear()

    def finish(self) -> None:
        """Put all of it on disk, not yet under its name."""
        try:
            self._sound.close()
            with self._unfinished.open("rb") as file:
                os.fsync(file.fileno())
            # libsndfile does not say when the last of what its encoder held did not fit.
            if soundfile.info(self._unfinished).frames != self.frames:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except (OSError, soundfile.LibsndfileError) as error:
            raise self._in_words(error) from None

    def appear(self) -> None:
        """Give a finished file its name."""
        try:
            os.replace(self._unfinished, self.path)
        except OSError as error:
            raise self._in_words(error) from None

    def discard(self) -> None:
        """Leave nothing of an unfinished file, and no folder that was made for it."""
        if hasattr(self, "_sound"):
            self._sound.close()
        if self._unfinished.parent.is_dir():
            self._unfinished.unlink(missing_ok=True)
        for folder in self._new_folders:
            with contextlib.suppress(OSError):  # not made, or holds something else by now
                folder.rmdir()

    def _in_words(self, error: Exception) -> OSError:
        self.discard()
        number = getattr(error, "errno", None) or errno.EIO
        return OSError(number, f"cannot write: {getattr(error, 'strerror', None) or error}", str(self.path))


@contextlib.contextmanager
def all_or_none(writers: list[AudioWriter]) -> Iterator[list[AudioWriter]]:
    """Several writers whose files appear when all of them are whole, or not at all."""
    try:
        yield writers
        for writer in writers:
            writer.finish()
    except BaseException:
        for writer in reversed(writers):  # folders were made for the first
            writer.discard()
        raise
    for writer in writers:
        writer.appear()


def write_wav(path: Path, audio: np.ndarray, sample_rate: int, subtype: str = "PCM_16") -> None:
    """Write float `[T, C]` in −1…1 as a WAV file; errors as those of `AudioWriter`."""
    with AudioWriter(path, sample_rate, audio.shape[1], subtype) as file:
        file.write(audio)
