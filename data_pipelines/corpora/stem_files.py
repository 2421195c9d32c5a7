"""Tracks in folders of audio files, and stems that are sums of files."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from data_pipelines.audio.reading import read_audio
from data_pipelines.audio.samples import fit_channels, fit_length, resample, to_int16
from data_pipelines.corpora.base import Stem


def check_present(files: Iterable[Path], expected: str) -> None:
    """Check that the files of tracks exist.

    Args:
      expected: description of the expected files, which ends the error message.

    Raises:
      ValueError: if a file is missing.
    """
    for path in files:
        if not path.is_file():
            raise ValueError(f"{path}: no such file; {expected}")


def read_stems(files: Mapping[str, Iterable[Path]], sample_rate: int) -> list[Stem]:
    """A stem for each entry of `files`, which is the sum of its files at `sample_rate` (Hz).

    Files may differ in sample rate. Shorter files are padded with silence at the end, and mono files are copied to the
    channels of the others.

    Raises:
      ValueError: as `read_audio`, or if the files have different channel counts other than one.
    """
    sums = {name: _sum(paths, sample_rate) for name, paths in files.items()}
    length, channels = (max(audio.shape[axis] for audio in sums.values()) for axis in (0, 1))
    return [Stem(name, to_int16(_fit(audio, length, channels))) for name, audio in sums.items()]


def _sum(paths: Iterable[Path], sample_rate: int) -> np.ndarray:
    # Files are read one after the other, because a song may have thirty files, which do not fit into memory.
    total = np.zeros((0, 1), np.float32)
    for path in paths:
        audio, rate = read_audio(path)
        audio = resample(audio, rate, sample_rate)
        length, channels = (max(total.shape[axis], audio.shape[axis]) for axis in (0, 1))
        total = _fit(total, length, channels) + _fit(audio, length, channels)
    return total


def _fit(audio: np.ndarray, length: int, channels: int) -> np.ndarray:
    return fit_length(fit_channels(audio, channels), length)
