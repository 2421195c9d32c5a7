"""Audio that a program already has in memory: one clear error for each thing that can be wrong with an array."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from data_pipelines.audio.reading import BLOCK, HIGHEST_RATE, LOWEST_RATE, MOST_CHANNELS

# Value of full scale for each integer type that samples are stored in, and the value of silence.
_INTEGERS = {"int16": (2.0**15, 0.0), "int32": (2.0**31, 0.0), "int8": (2.0**7, 0.0), "uint8": (2.0**7, 2.0**7)}


class Audio(Protocol):
    """Audio that is read block by block, any number of times: an `AudioFile` or an `AudioArray`.

    Attributes:
      name: What error messages call it.
      sample_rate: Hz.
      channels: Number of channels.
      frames: Samples per channel.
    """

    @property
    def name(self) -> str: ...
    @property
    def sample_rate(self) -> int: ...
    @property
    def channels(self) -> int: ...
    @property
    def frames(self) -> int: ...

    def blocks(self) -> Iterator[np.ndarray]:
        """The audio from its beginning as float32 `[n, C]` in −1…1."""
        ...


@dataclasses.dataclass(frozen=True, eq=False)
class AudioArray:
    """Samples float32 `[T, C]` in −1…1 with their sample rate in Hz."""

    samples: np.ndarray
    sample_rate: int
    name: str = "the audio"

    @property
    def channels(self) -> int:
        return self.samples.shape[1]

    @property
    def frames(self) -> int:
        return self.samples.shape[0]

    def blocks(self) -> Iterator[np.ndarray]:
        """The samples in blocks `[n, C]`."""
        for start in range(0, self.frames, BLOCK):
            yield self.samples[start : start + BLOCK]


def to_audio(samples: Any, sample_rate: Any, name: str = "the audio") -> AudioArray:
    """Check an array and bring it into the form that models take.

    Args:
      samples: `[T]` or `[T, C]`. Floating-point samples are taken as they are, full scale being ±1; int8, int16, int32
        and uint8 are divided by the full scale of their type.
      sample_rate: Hz, a whole number from 8,000 to 192,000.
      name: What error messages call the array.

    Raises:
      ValueError: if the array has another shape, dtype or layout, is empty, has more than 64 channels or holds NaN or
        infinity; or if the sample rate is out of range.
    """
    if isinstance(samples, str | Path):
        raise ValueError(f"{name} is the path {samples}: read the file first, or use separate_file")
    rate = _checked_rate(sample_rate, name)
    array = np.asarray(samples)
    if array.ndim not in (1, 2):
        raise ValueError(f"{name} has the shape {array.shape}: give [T] or [T, C], one recording at a time")
    if array.ndim == 1:
        array = array[:, None]
    if not array.size:
        raise ValueError(f"{name} is empty: its shape is {np.shape(samples)}")
    if array.shape[0] < array.shape[1]:
        raise ValueError(
            f"{name} has the shape {array.shape}, which is fewer samples than channels: time comes first, [T, C]; give "
            "its transpose, audio.T"
        )
    if array.shape[1] > MOST_CHANNELS:
        raise ValueError(
            f"{name} has {array.shape[1]} channels, more than {MOST_CHANNELS}: give [T, C] with time first"
        )
    array = _scaled(array, name)
    finite = np.isfinite(array).all(axis=1)
    if not finite.all():
        sample = int(np.argmin(finite))
        raise ValueError(f"{name} is NaN or infinite at sample {sample} ({sample / rate:.3f} s): repair it first")
    return AudioArray(np.ascontiguousarray(array), rate, name)


def _checked_rate(sample_rate: Any, name: str) -> int:
    try:
        rate = int(sample_rate)
    except (TypeError, ValueError, OverflowError):
        rate = 0
    if rate != sample_rate or not LOWEST_RATE <= rate <= HIGHEST_RATE:
        raise ValueError(
            f"the sample rate of {name} is {sample_rate!r}: give a whole number of {LOWEST_RATE} to {HIGHEST_RATE} Hz"
        )
    return rate


def _scaled(array: np.ndarray, name: str) -> np.ndarray:
    """The samples as float32, full scale ±1."""
    if np.issubdtype(array.dtype, np.floating):
        with np.errstate(over="ignore"):  # infinity is refused by the caller
            return array.astype(np.float32)
    if array.dtype.name not in _INTEGERS:
        raise ValueError(
            f"{name} has the dtype {array.dtype}, whose full scale is unknown: give floating-point samples in −1…1, or "
            f"{', '.join(_INTEGERS)}"
        )
    full_scale, silence = _INTEGERS[array.dtype.name]
    return ((array - silence) / full_scale).astype(np.float32)
