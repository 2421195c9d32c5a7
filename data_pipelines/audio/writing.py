"""Writing of audio files from arrays and blocks. A file appears under its name only when it is complete and on disk."""

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile

from data_pipelines.files import FREE_SPACE, unfinished_path

# Bytes of audio above which a WAV file needs the 64-bit header of RF64, since its own sizes end at 4 GiB.
LARGEST_WAV = 2**32 - 2**16
# Samples per channel that libsndfile gets in each call, because its Vorbis encoder overflows the stack on long signals.
_PIECE = 2**14
INTEGER = ("PCM_S8", "PCM_U8", "PCM_16", "PCM_24", "PCM_32")
# Sample format of each container for inputs whose own format is not preserved; every program can read these.
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
_PRESERVED = (*INTEGER[2:], "FLOAT", "DOUBLE", "VORBIS", "OPUS")


def output_suffix(path: Path) -> str:
    """The extension for outputs of an input file: its own, or `.wav` if that format cannot be written (MP3)."""
    suffix = path.suffix.lower()
    return suffix if suffix in _SUFFIXES else ".wav"


def format_for(path: Path, subtype: str, samples: int) -> tuple[str, str]:
    """The container and the sample format of an output file.

    The extension determines the container. The sample format of the input is preserved if the container supports it.

    Args:
      subtype: sample format of the input.
      samples: number of samples to write, over all channels.

    Raises:
      ValueError: for an extension that cannot be written.
    """
    container = _SUFFIXES.get(path.suffix.lower())
    if container is None:
        raise ValueError(f"{path}: cannot write '{path.suffix}' files; give one of {', '.join(_SUFFIXES)}")
    if subtype not in _PRESERVED or not soundfile.check_format(container, subtype):
        subtype = _DEFAULT[container]
    width = {"PCM_16": 2, "PCM_24": 3, "DOUBLE": 8}.get(subtype, 4)
    return "RF64" if container == "WAV" and samples * width > LARGEST_WAV else container, subtype


class AudioWriter:
    """Write float blocks `[n, C]` in −1…1 to a file that appears when the `with` block ends without an error.

    Samples beyond full scale are clipped in integer formats.

    Attributes:
      path: Path of the file.
      frames: Samples per channel written so far.
      clipped: Number of samples that were clipped.
      peak: Largest absolute sample.

    Raises:
      ValueError: if the container does not support this sample rate, channel count or sample format.
      OSError: if the folder cannot be written or the disk is full; the unfinished file and new folders are removed.
    """

    def __init__(self, path: Path, sample_rate: int, channels: int, subtype: str = "PCM_16", container: str = "WAV"):
        self.path, self.frames, self.clipped, self.peak = path, 0, 0, 0.0
        self._integer = subtype in INTEGER
        self._unfinished = unfinished_path(path)
        self._new_folders = [folder for folder in path.parents if not folder.exists()]
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._unfinished.touch()
            self._sound = soundfile.SoundFile(self._unfinished, "w", sample_rate, channels, subtype, format=container)
        except soundfile.LibsndfileError as error:
            if _is_full(self._unfinished.parent):
                raise self._abandon(error) from None
            self.discard()
            raise ValueError(
                f"{path}: {container} with {subtype} cannot hold {channels} channels at {sample_rate} Hz: "
                "write another format"
            ) from None
        except OSError as error:
            raise self._abandon(error) from None

    def write(self, block: np.ndarray) -> None:
        """Append a block.

        Raises:
          OSError: if the disk is full or cannot be written.
        """
        peak = float(np.max(np.abs(block), initial=0.0))
        self.peak = max(self.peak, peak)
        if self._integer and peak > 1.0:
            self.clipped += int(np.count_nonzero(np.abs(block) > 1.0))
        try:
            for start in range(0, len(block), _PIECE):
                self._sound.write(block[start : start + _PIECE])
        except (OSError, soundfile.LibsndfileError) as error:
            raise self._abandon(error) from None
        except AssertionError:  # soundfile only asserts that libsndfile wrote all samples
            raise self._abandon(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))) from None
        self.frames += len(block)

    def __enter__(self) -> "AudioWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self.discard()
        else:
            self.finish()
            self.publish()

    def finish(self) -> None:
        """Complete the file on disk, still under its hidden name.

        Raises:
          OSError: if the disk is full or cannot be written.
        """
        try:
            self._sound.close()
            with self._unfinished.open("rb") as file:
                os.fsync(file.fileno())
            # libsndfile reports no error if the last samples of its encoder did not fit on the disk.
            if soundfile.info(self._unfinished).frames != self.frames:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except (OSError, soundfile.LibsndfileError) as error:
            raise self._abandon(error) from None

    def publish(self) -> None:
        """Rename a finished file to its path."""
        try:
            self._unfinished.replace(self.path)
        except OSError as error:
            raise self._abandon(error) from None

    def discard(self) -> None:
        """Remove an unfinished file and the folders that were created for it."""
        if hasattr(self, "_sound"):
            with contextlib.suppress(soundfile.LibsndfileError):
                self._sound.close()
        if self._unfinished.parent.is_dir():
            self._unfinished.unlink(missing_ok=True)
        for folder in self._new_folders:
            with contextlib.suppress(OSError):  # was not created, or is no longer empty
                folder.rmdir()

    def _abandon(self, error: Exception) -> OSError:
        """Discard the file and return the error with the path of the file."""
        # libsndfile has only one error for everything that the system refuses.
        is_full = isinstance(error, soundfile.LibsndfileError) and _is_full(self._unfinished.parent)
        self.discard()
        number = errno.ENOSPC if is_full else getattr(error, "errno", None) or errno.EIO
        reason = os.strerror(number) if is_full else getattr(error, "strerror", None) or str(error).rstrip(".")
        return OSError(number, f"cannot write: {reason}: {FREE_SPACE}", str(self.path))


def _is_full(folder: Path) -> bool:
    """Whether the disk of a folder has no room for another block of samples."""
    return shutil.disk_usage(folder).free < _PIECE * 8


@contextlib.contextmanager
def all_or_none(writers: list[AudioWriter]) -> Iterator[list[AudioWriter]]:
    """Let the files of several writers appear when all of them are complete, or none of them."""
    try:
        yield writers
        for writer in writers:
            writer.finish()
    except BaseException:
        for writer in reversed(writers):  # the first writer has created the folders and must remove them last
            writer.discard()
        raise
    for writer in writers:
        writer.publish()


def write_wav(path: Path, audio: np.ndarray, sample_rate: int, subtype: str = "PCM_16") -> None:
    """Write float `[T, C]` in −1…1 as a WAV file.

    Raises:
      ValueError, OSError: as `AudioWriter`.
    """
    with AudioWriter(path, sample_rate, audio.shape[1], subtype) as file:
        file.write(audio)
