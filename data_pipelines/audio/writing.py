"""Writing of audio files from arrays and blocks. A file appears under its name only when it is complete and on disk."""

import contextlib
import errno
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import soundfile

from data_pipelines.audio.lengths import channel_mask_position
from data_pipelines.files import FREE_SPACE, unfinished_path

# Bytes of audio above which a WAV file needs the 64-bit header of RF64, since its own sizes end at 4 GiB.
LARGEST_WAV = 2**32 - 2**16
# Samples per channel that libsndfile gets in each call, because its Vorbis encoder overflows the stack on long signals.
_PIECE = 2**14
# FLAC states higher rates (Hz) in tens.
_HIGHEST_EXACT_FLAC_RATE = 2**16 - 1
_MOST_ALAC_CHANNELS = 8
# Sample formats that cut off what is beyond full scale.
INTEGER = ("PCM_S8", "PCM_U8", "PCM_16", "PCM_24", "PCM_32", "ULAW", "ALAW", "ALAC_16")
# libsndfile's encoder of ALAC damages frames above 16 bits that do not become smaller, such as noise.
_WITHOUT_ALAC = {"ALAC_20": "PCM_24", "ALAC_24": "PCM_24", "ALAC_32": "PCM_32"}
_LOSSY = ("VORBIS", "OPUS", "MPEG_LAYER_III")
# Sample formats that are preserved where the container supports them. Others change the length (ADPCM, GSM).
_PRESERVED = (*INTEGER, *_LOSSY, "FLOAT", "DOUBLE")
# FFmpeg's names of codecs without loss, of up to 24 bits and more.
_LOSSLESS = ("alac", "flac", "wavpack", "ape", "tta", "tak", "dsd", "pcm_s24", "pcm_s32", "pcm_f")
# The container of each extension, and its sample format for inputs whose own format is not preserved.
_CONTAINERS = {
    ".wav": ("WAV", "PCM_16"),
    ".wave": ("WAV", "PCM_16"),
    ".bwf": ("WAV", "PCM_16"),
    ".rf64": ("RF64", "PCM_16"),
    ".w64": ("W64", "PCM_16"),
    ".flac": ("FLAC", "PCM_24"),
    ".ogg": ("OGG", "VORBIS"),
    ".oga": ("OGG", "VORBIS"),
    ".opus": ("OGG", "OPUS"),
    ".mp3": ("MP3", "MPEG_LAYER_III"),
    ".aiff": ("AIFF", "PCM_16"),
    ".aif": ("AIFF", "PCM_16"),
    ".aifc": ("AIFF", "PCM_16"),
    ".caf": ("CAF", "PCM_16"),
    ".au": ("AU", "PCM_16"),
    ".snd": ("AU", "PCM_16"),
}


def output_suffix(path: Path) -> str:
    """The extension for outputs of an input file: its own, or `.wav` if that format cannot be written (such as M4A)."""
    suffix = path.suffix.lower()
    return suffix if suffix in _CONTAINERS else ".wav"


def format_for(path: Path, subtype: str, samples: int, channel_mask: int = 0) -> tuple[str, str]:
    """The container and the sample format of an output file.

    The extension determines the container. The sample format of the input is preserved if the container supports it.

    Args:
      subtype: sample format of the input, as `AudioFile.subtype`.
      samples: number of samples to write, over all channels.
      channel_mask: speakers of the channels, as `AudioFile.channel_mask`.

    Raises:
      ValueError: for an extension that cannot be written.
    """
    if path.suffix.lower() not in _CONTAINERS:
        raise ValueError(f"{path}: cannot write '{path.suffix}' files; give one of {', '.join(_CONTAINERS)}")
    container, default = _CONTAINERS[path.suffix.lower()]
    subtype = _WITHOUT_ALAC.get(subtype, subtype)
    misplaced = subtype.startswith("MPEG") and container != "MP3"
    if misplaced or subtype not in _PRESERVED or not soundfile.check_format(container, subtype):
        precise = subtype.startswith(_LOSSLESS) and default == "PCM_16"
        subtype = "PCM_24" if precise else default
    if container == "WAV":
        width = {"PCM_16": 2, "PCM_24": 3, "DOUBLE": 8}.get(subtype, 4)
        container = "RF64" if samples * width > LARGEST_WAV else "WAVEX" if channel_mask else "WAV"
    return container, subtype


class AudioWriter:
    """Write float blocks `[n, C]` in −1…1 to a file that appears when the `with` block ends without an error.

    Samples beyond full scale are clipped in integer formats. MP3 is written with its best variable bitrate.

    Args:
      channel_mask: Speakers of the channels (`dwChannelMask`), for the containers WAVEX and RF64.

    Attributes:
      path: Path of the file.
      frames: Samples per channel written so far.
      clipped: Number of samples that were clipped.
      peak: Largest absolute sample.

    Raises:
      ValueError: if the container does not support this sample rate, channel count or sample format.
      OSError: if the folder cannot be written or the disk is full; the unfinished file and new folders are removed.
    """

    def __init__(
        self,
        path: Path,
        sample_rate: int,
        channels: int,
        subtype: str = "PCM_16",
        container: str = "WAV",
        channel_mask: int = 0,
    ):
        unsupported = f"{path}: {container} with {subtype} cannot hold {channels} channels at {sample_rate} Hz"
        # libsndfile notices these two only when the audio is written.
        odd_rate = container == "FLAC" and sample_rate > _HIGHEST_EXACT_FLAC_RATE and sample_rate % 10
        if odd_rate or (subtype.startswith("ALAC") and channels > _MOST_ALAC_CHANNELS):
            raise ValueError(f"{unsupported}: write another format")
        self.path, self.frames, self.clipped, self.peak = path, 0, 0, 0.0
        self._channel_mask = channel_mask
        self._integer = subtype in INTEGER
        self._unfinished = unfinished_path(path)
        self._new_folders = [folder for folder in path.parents if not folder.exists()]
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._unfinished.touch()
            quality = {"bitrate_mode": "VARIABLE", "compression_level": 0.0} if container == "MP3" else {}
            self._sound = soundfile.SoundFile(
                self._unfinished, "w", sample_rate, channels, subtype, format=container, **quality
            )
        except soundfile.LibsndfileError as error:
            if _is_full(self._unfinished.parent):
                raise self._abandon(error) from None
            self.discard()
            raise ValueError(f"{unsupported}: write another format") from None
        except OSError as error:
            raise self._abandon(error) from None
        except BaseException:  # a signal that ends the command
            self.discard()
            raise

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
        try:
            if kind is None:
                self.finish()
                self.publish()
        finally:
            self.discard()  # nothing is left to discard if the file appeared

    def finish(self) -> None:
        """Complete the file on disk, still under its hidden name.

        Raises:
          OSError: if the disk is full or cannot be written.
        """
        try:
            self._sound.close()
            with self._unfinished.open("r+b") as file:
                position = channel_mask_position(file, self._unfinished.stat().st_size) if self._channel_mask else 0
                if position:  # libsndfile writes zeros there
                    file.seek(position)
                    file.write(self._channel_mask.to_bytes(4, "little"))
                    file.flush()
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
def all_or_none(
    writers: list[AudioWriter],
    publishing: Callable[[], contextlib.AbstractContextManager[None]] = contextlib.nullcontext,
) -> Iterator[list[AudioWriter]]:
    """Let the files of several writers appear when all of them are complete, or none of them.

    They appear within the context that `publishing` returns.
    """
    try:
        yield writers
        for writer in writers:
            writer.finish()
        with publishing():
            for writer in writers:
                writer.publish()
    except BaseException:
        for writer in reversed(writers):  # the first writer has created the folders and must remove them last
            writer.discard()
        raise


def write_wav(path: Path, audio: np.ndarray, sample_rate: int, subtype: str = "PCM_16") -> None:
    """Write float `[T, C]` in −1…1 as a WAV file.

    Raises:
      ValueError, OSError: as `AudioWriter`.
    """
    with AudioWriter(path, sample_rate, audio.shape[1], subtype) as file:
        file.write(audio)
