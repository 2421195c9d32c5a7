"""Progress callbacks of the Python interface, which can cancel the work."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from data_pipelines.audio.arrays import Audio

# Called with the completed fraction, 0 to 1. If it returns False, the work ends with `Cancelled`.
Progress = Callable[[float], Any]


class Cancelled(Exception):
    """The progress callback returned False. No file was written."""


def counter(progress: Progress | None, total: int) -> Callable[[int], None]:
    """Return a function that adds counts up and calls `progress` with their fraction of `total`.

    The function raises `Cancelled` if `progress` returns False.
    """
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        if progress is not None and progress(min(1.0, done / max(1, total))) is False:
            raise Cancelled("the progress callback returned False")

    return advance


def counted(audio: Audio, advance: Callable[[int], None]) -> Iterator[np.ndarray]:
    """Yield the blocks of a recording after calling `advance` with their number of samples."""
    for block in audio.blocks():
        advance(len(block))
        yield block
