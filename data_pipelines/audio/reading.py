"""Reading of audio files, complete or in blocks."""

import shlex
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from data_pipelines.audio import formats, lengths, mpeg, ogg
from data_pipelines.audio.ffmpeg import FfmpegDecoder
from data_pipelines.audio.formats import Format
from data_pipelines.audio.libsndfile import SndfileDecoder
from data_pipelines.audio.samples import fit_channels, fit_length, resample

LOWEST_RATE, HIGHEST_RATE = 8_000, 192_000
MOST_CHANNELS = 64
# Samples per channel in each block that is read.
BLOCK = 2**16
# Samples over all channels of the longest file that is read as a whole; 2 GiB as float32, 100 minutes of stereo.
MOST_SAMPLES = 2**29
# The extensions by which audio is found in folders. A file that is given itself may have any extension.
READABLE = (
    *(".wav", ".wave", ".bwf", ".rf64", ".w64", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".mp2", ".aiff", ".aif"),
    *(".aifc", ".caf", ".au", ".snd", ".m4a", ".m4b", ".aac", ".ac3", ".wma", ".webm", ".weba", ".mka", ".wv", ".ape"),
    *(".tta", ".tak", ".amr", ".dsf", ".mpc"),
)
# FFmpeg's names of the codecs that libsndfile decodes.
_SNDFILE_CODECS = ("pcm", "flac", "vorbis", "opus", "alac", "adpcm", "gsm", "mp3")


class AudioFile:
    """An audio file that can be read block by block, any number of times.

    The content determines the container, whatever the extension says. libsndfile decodes what it reads completely,
    FFmpeg the rest.

    Attributes:
      sample_rate: Sample rate in Hz.
      channels: Number of channels.
      container, subtype: Container and sample format as libsndfile names them, for example `WAV` and `PCM_24`; FFmpeg's
        names of both for what libsndfile does not read.
      channel_mask: Speakers of the channels (`dwChannelMask` of WAVE_FORMAT_EXTENSIBLE), 0 if the file names none.

    Raises:
      ValueError: if the file is missing, is not audio, is truncated, is empty, has a sample rate outside 8 to 192 kHz
        or has more than 64 channels.
    """

    def __init__(self, path: Path | str):
        self.path = path = Path(path)
        if not path.is_file():
            raise ValueError(f"{path}: no such file")
        if not path.stat().st_size:
            raise ValueError(f"{path}: is an empty file")
        self._decoder = _decoder_of(path)
        self.channel_mask = lengths.channel_mask(path) if self._decoder.container in ("WAVEX", "RF64") else 0
        self.sample_rate, self.channels = self._decoder.sample_rate, self._decoder.channels
        self.container, self.subtype = self._decoder.container, self._decoder.subtype
        check_rate(self.sample_rate, path)
        if self.channels > MOST_CHANNELS:
            raise ValueError(f"{path}: has {self.channels} channels, more than {MOST_CHANNELS}: split it first")
        self._frames = self._decoder.stated
        if self._frames == 0:
            raise ValueError(f"{path}: holds no samples")

    @property
    def name(self) -> str:
        """The path, for error messages."""
        return str(self.path)

    @property
    def frames(self) -> int:
        """Samples per channel: those that the header states or, if it states no exact number, counted by decoding."""
        if self._frames is None:
            self._frames = sum(len(block) for block in self._decoder.blocks(BLOCK))
        return self._frames

    def blocks(self, samples: int = BLOCK) -> Iterator[np.ndarray]:
        """Yield the file from its beginning as float32 `[n, C]` in −1…1, with n near `samples`.

        Raises:
          ValueError: if the file ends too early, cannot be decoded, or holds samples that are not finite.
        """
        done = 0
        for block in self._decoder.blocks(samples):
            if not np.isfinite(block).all():
                bad = done + int(np.argmin(np.isfinite(block).all(axis=1)))
                raise ValueError(f"{self.path}: sample {bad} is NaN or infinite; repair the file first")
            done += len(block)
            yield block
        if self._decoder.stated is not None and done < self._decoder.stated:
            raise lengths.truncated(self.path)


def read_audio(path: Path | str) -> tuple[np.ndarray, int]:
    """The complete file as float32 `[T, C]` in −1…1, and its sample rate in Hz.

    Raises:
      ValueError: as `AudioFile` and `AudioFile.blocks` do, or if the file has more than `MOST_SAMPLES` samples.
    """
    file = AudioFile(path)
    blocks, samples = [], 0
    _check_size(file, file._decoder.stated or 0)
    for block in file.blocks():
        samples += len(block)
        _check_size(file, samples)
        blocks.append(block)
    return np.concatenate(blocks), file.sample_rate


def _check_size(file: AudioFile, samples: int) -> None:
    """Raise ValueError if so many samples per channel of a file are too much to be read as a whole."""
    if samples * file.channels > MOST_SAMPLES:
        minutes = MOST_SAMPLES // (file.channels * file.sample_rate * 60)
        raise ValueError(
            f"{file.path}: is too long to be read as a whole: cut it into parts of at most {minutes} minutes, or mix "
            f"its {file.channels} channels down"
        )


def read_matching(path: Path, mixture: np.ndarray, rate: int) -> np.ndarray:
    """Read a file at `rate` (Hz), with as many samples and channels as `mixture` `[T, C]` has."""
    audio, file_rate = read_audio(path)
    return fit_length(fit_channels(resample(audio, file_rate, rate), mixture.shape[1]), len(mixture))


def check_rate(rate: int, path: Path | str) -> None:
    """Raise ValueError if the sample rate (Hz) of a file is outside 8 to 192 kHz."""
    if not LOWEST_RATE <= rate <= HIGHEST_RATE:
        raise ValueError(f"{path}: sample rate {rate} Hz is outside {LOWEST_RATE} to {HIGHEST_RATE} Hz; resample it")


def _decoder_of(path: Path) -> SndfileDecoder | FfmpegDecoder:
    """The decoder for the content of a file.

    Raises:
      ValueError: if the content is of no known container, is truncated or cannot be opened.
    """
    container = formats.format_of(path)
    if container is None:
        return _unchecked(path)
    length = formats.length_of(path, container)
    if length.missing:
        raise lengths.truncated(path)
    if container is formats.MP3:
        return _mp3_decoder(path)
    if not container.sndfile:
        return FfmpegDecoder(path, container.name, container.demuxer)
    links = ogg.links(path) if container is formats.OGG else []
    if any(link.streams > 1 for link in links):
        raise ValueError(f"{path}: holds several streams; extract the audio first: {_conversion(path)}")
    try:
        decoder = SndfileDecoder(path, links, length.patches)
    except ValueError:
        other = _other_codec(path, container)
        if other is None:
            raise
        return other
    # libsndfile cannot seek in FLAC of unknown length, which its blocks need.
    # The length of MP3 in another container is an estimate.
    exact = decoder.stated is not None and not decoder.subtype.startswith("MPEG")
    return decoder if exact else FfmpegDecoder(path, container.name, container.demuxer)


def _other_codec(path: Path, container: Format) -> FfmpegDecoder | None:
    """FFmpeg, for a file with a codec that libsndfile does not know, such as AAC in CAF; None for any other file.

    What libsndfile refuses in a codec that it knows is damaged, though FFmpeg would decode a part of it.
    """
    try:
        decoder = FfmpegDecoder(path, container.name, container.demuxer)
    except ValueError:
        return None
    return None if decoder.subtype.startswith(_SNDFILE_CODECS) else decoder


def _mp3_decoder(path: Path) -> SndfileDecoder | FfmpegDecoder:
    """libsndfile, which removes the padding of the encoder, if the tag states the right length; else FFmpeg.

    FFmpeg reads on to the end of the file if there is no tag, or more frames follow than it states.
    """
    frames = mpeg.frames(path)
    if frames is None:
        raise ValueError(f"{path}: uses MP3's free format, which is not read here: decode it first: mpg123 -w")
    if frames.promised is not None and frames.promised > frames.count:
        raise lengths.truncated(path)
    if frames.promised == frames.count:
        return SndfileDecoder(path)
    return FfmpegDecoder(path, formats.MP3.name, formats.MP3.demuxer)


def _unchecked(path: Path) -> SndfileDecoder:
    """A container that only libsndfile knows, or the error for a file that nothing reads."""
    try:
        decoder = SndfileDecoder(path)
    except ValueError:
        decoder = None
    if decoder is None or decoder.container not in formats.OTHERS:
        raise ValueError(
            f"{path}: cannot be read as audio; is it damaged or misnamed? Else convert it first: {_conversion(path)}"
        )
    warnings.warn(f"{path}: whether this {decoder.container} file is complete is not checked", stacklevel=2)
    return decoder


def _conversion(path: Path) -> str:
    """The command that converts a file to WAV."""
    return f"ffmpeg -i {shlex.quote(str(path))} {shlex.quote(path.stem + '.wav')}"
