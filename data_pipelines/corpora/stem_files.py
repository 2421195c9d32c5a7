"""Tracks as audio files: the folders that hold them, what must be there, and stems that are sums of files."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from data_pipelines.audio.reading import fit_channels, fit_length, read_audio, resample, to_int16
from data_pipelines.corpora.base import Stem


def track_folders(place: Path) -> list[Path]:
    """Folders in `place` in the order of their names, hidden ones left out; none if there is no such place."""
    return [path for path in sorted(place.glob("*")) if path.is_dir() and not path.name.startswith(".")]


def check_present(files: Iterable[Path], expected: str) -> None:
    """Says which of the files of a track is missing, and what a track is `expected` to have.

    Raises:
      ValueError: if one is missing.
    """
    for path in files:
        if not path.is_file():
            raise ValueError(f"{path}: no such file; {expected}")


def read_stems(files: Mapping[str, Iterable[Path]], sample_rate: int) -> list[Stem]:
    """A stem for each entry of `files`, the sum of its files at `sample_rate`.

    Files may differ in rate. Shorter ones are padded with silence at the end, mono ones copied to the channels of the
    others.

    Raises:
      ValueError: as `read_audio`, or if the channel counts do not go together.
    """
    sums = {name: _sum(paths, sample_rate) for name, paths in files.items()}
    length, channels = (max(audio.shape[axis] for audio in sums.values()) for axis in (0, 1))
    return [Stem(name, to_int16(_fit(audio, length, channels))) for name, audio in sums.items()]


def _sum(paths: Iterable[Path], sample_rate: int) -> np.ndarray:
    # One after the other: a song may have thirty files, far more than fit into memory side by side.
    total = np.zeros((0, 1), np.float32)
    for path in paths:
        audio, rate = read_audio(path)
        audio = resample(audio, rate, sample_rate)
        length, channels = (max(total.shape[axis], audio.shape[axis]) for axis in (0, 1))
        total = _fit(total, length, channels) + _fit(audio, length, channels)
    return total


def _fit(audio: np.ndarray, length: int, channels: int) -> np.ndarray:
    return fit_length(fit_channels(audio, channels), length)
