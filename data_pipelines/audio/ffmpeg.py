"""Decoding by FFmpeg through PyAV, of what libsndfile does not read: MP4, WMA, WebM, AAC and others."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from data_pipelines.audio.lengths import truncated
from data_pipelines.pyav import opened

# Full scale of the integer sample formats of FFmpeg, and the value of silence.
_INTEGERS = {"uint8": (2.0**7, 2.0**7), "int16": (2.0**15, 0.0), "int32": (2.0**31, 0.0), "int64": (2.0**63, 0.0)}
# Formats that contain only audio and state its exact length.
_EXACT = ("tta", "wv", "ape", "tak")


class FfmpegDecoder:
    """The first audio stream of a file that FFmpeg decodes.

    Attributes:
      sample_rate: Hz.
      channels: Number of channels.
      stated: Samples per channel that the header states, None if it does not state the exact number.
      container: Name of the container.
      subtype: FFmpeg's name of the codec.

    Args:
      path: The file.
      name: Name of the container.
      demuxer: FFmpeg's name of the format. The content of a file never selects one by itself, as playlists would make
        FFmpeg open other files and addresses.

    Raises:
      ValueError: if FFmpeg cannot open the file, or it holds no audio.
    """

    def __init__(self, path: Path, name: str, demuxer: str):
        self._path, self._demuxer, self.container = path, demuxer, name
        with self._opened() as (container, stream):
            self.subtype = stream.codec_context.name
            first = next(container.decode(stream), None)
            if first is None:
                raise ValueError(f"{path}: holds no samples")
            # The header of HE-AAC states half of the sample rate; the decoded audio has the true one.
            self.sample_rate, self.channels = first.sample_rate, first.layout.nb_channels
            exact = demuxer in _EXACT and stream.duration and stream.time_base
            self.stated = round(stream.duration * stream.time_base * self.sample_rate) if exact else None

    def blocks(self, samples: int) -> Iterator[np.ndarray]:
        """The samples as float32 `[n, C]` in −1…1; n is at least `samples` except in the last block.

        Raises:
          ValueError: if FFmpeg cannot decode the file, or its sample rate or channels change.
        """
        with self._opened() as (container, stream):
            waiting: list[np.ndarray] = []
            packets = samples_read = 0
            for packet in container.demux(stream):
                packets += packet.size > 0
                for frame in packet.decode():
                    waiting.append(self._samples(frame))
                    samples_read += frame.samples
                    if sum(map(len, waiting)) >= samples:
                        yield np.concatenate(waiting)
                        waiting = []
            if waiting:
                yield np.concatenate(waiting)
            # The index of an MP4 has one entry for each packet, or for each sample of PCM.
            if max(packets, samples_read if self.subtype.startswith("pcm") else 0) < stream.frames:
                raise truncated(self._path)

    def _samples(self, frame: Any) -> np.ndarray:
        if (frame.sample_rate, frame.layout.nb_channels) != (self.sample_rate, self.channels):
            raise ValueError(f"{self._path}: changes its sample rate or channels on the way: split it first")
        array = frame.to_ndarray()
        array = array.T if frame.format.is_planar else array.reshape(-1, self.channels)
        if array.dtype.name not in _INTEGERS:
            return np.ascontiguousarray(array, np.float32)
        full_scale, silence = _INTEGERS[array.dtype.name]
        return ((array - np.float64(silence)) / full_scale).astype(np.float32)

    @contextlib.contextmanager
    def _opened(self) -> Iterator[tuple[Any, Any]]:
        with opened(self._path, self._demuxer) as container:
            if not container.streams.audio:
                raise ValueError(f"{self._path}: holds no audio")
            stream = container.streams.audio[0]
            if stream.codec_context is None:
                raise ValueError(f"{self._path}: has audio of a kind that FFmpeg does not know; is it damaged?")
            yield container, stream
