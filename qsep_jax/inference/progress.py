"""Progress of long work for a Python caller, who may cancel it."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from data_pipelines.audio.arrays import Audio

# Called with the fraction that is done, 0 to 1; the work ends with `Cancelled` if it returns False.
Progress = Callable[[float], Any]


class Cancelled(Exception):
    """A progress callback returned False. Nothing was written."""


def counter(progress: Progress | None, total: int) -> Callable[[int], None]:
    """A function that is called with counts, of `total` in all, and calls `progress` with the fraction.

    The function raises `Cancelled` where `progress` returns False.
    """
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        if progress is not None and progress(min(1.0, done / max(1, total))) is False:
            raise Cancelled("the progress callback returned False")

    return advance


def counted(audio: Audio, advance: Callable[[int], None]) -> Iterator[np.ndarray]:
    """The blocks of a recording; `advance` is called with the samples of each."""
    for block in audio.blocks():
        advance(len(block))
        yield block
