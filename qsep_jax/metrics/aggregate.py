"""From the scores of single signals to the numbers of a table."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Summary:
    """Mean and median of `count` finite scores, and the half width of the mean's 95 % interval (normal, 1.96 σ/√n)."""

    mean: float
    median: float
    ci95: float
    count: int


def summarize(scores: np.ndarray) -> Summary:
    """Summary of `[n]` scores; those that are not finite are left out of all four numbers.

    Raises:
      ValueError: if none is finite.
    """
    finite = np.asarray(scores, np.float64)
    finite = finite[np.isfinite(finite)]
    if not finite.size:
        raise ValueError("there is no finite score to summarize")
    spread = finite.std(ddof=1) if finite.size > 1 else 0.0
    interval = 1.96 * spread / np.sqrt(finite.size)
    return Summary(float(finite.mean()), float(np.median(finite)), float(interval), finite.size)
