"""Summaries of scores: over single signals, or over the frames of tracks and then over the tracks."""

import dataclasses
from collections.abc import Sequence

import numpy as np


@dataclasses.dataclass(frozen=True)
class Summary:
    """Mean and median of `count` finite scores.

    Attributes:
      ci95: Half width of the 95 % confidence interval of the mean (normal, 1.96 σ/√n).
    """

    mean: float
    median: float
    ci95: float
    count: int


@dataclasses.dataclass(frozen=True)
class TrackSummary(Summary):
    """Summary of the medians of `count` tracks.

    `median` is over all of them; `mean` and `ci95` are over the `count − infinite` tracks whose median is finite.

    Attributes:
      infinite: Number of tracks whose median is infinite.
      unscored: Number of tracks in which no frame has a score. The other numbers leave them out.
    """

    infinite: int
    unscored: int


def summarize(scores: np.ndarray) -> Summary:
    """Summarize `[n]` scores; all four numbers leave out scores that are not finite.

    Raises:
      ValueError: if no score is finite.
    """
    finite = np.asarray(scores, np.float64)
    finite = finite[np.isfinite(finite)]
    if not finite.size:
        raise ValueError("there is no finite score to summarize")
    spread = finite.std(ddof=1) if finite.size > 1 else 0.0
    interval = 1.96 * spread / np.sqrt(finite.size)
    return Summary(float(finite.mean()), float(np.median(finite)), float(interval), finite.size)


def summarize_few(scores: np.ndarray) -> Summary:
    """Summarize `[n]` finite scores of a few repetitions, such as seeds, with an interval by Student's t.

    Raises:
      ValueError: if there are fewer than two scores.
    """
    if len(scores) < 2:
        raise ValueError(f"an interval over repetitions needs two of them or more, not {len(scores)}")
    from scipy.special import stdtrit  # takes a quarter of a second to import

    interval = stdtrit(len(scores) - 1, 0.975) * scores.std(ddof=1) / np.sqrt(len(scores))
    return Summary(float(scores.mean()), float(np.median(scores)), float(interval), len(scores))


def track_medians(frames: Sequence[np.ndarray]) -> np.ndarray:
    """The median of each track's `[frames]`, ignoring NaN: `[tracks]` float64, NaN for a track without any score.

    Infinite frames count: the median of a track is +∞ if at least half of its frames are perfect.
    """
    scores = [np.asarray(track, np.float64)[~np.isnan(track)] for track in frames]
    return np.array([np.median(track) if track.size else np.nan for track in scores])


def summarize_tracks(frames: Sequence[np.ndarray]) -> TrackSummary:
    """Summarize tracks, each given by its `[frames]`, as SiSEC 2018 does (Stöter et al. 2018, museval).

    Each track is first reduced to the median over its frames. `median` is the median over tracks, `mean` and `ci95` are
    those of the mean over tracks, or NaN if no track has a finite median. An infinite median of a track counts in
    `median`, but not in `mean`.
    # Departs from the paper: museval drops infinite frames, which would score a track by its imperfect frames alone.

    Raises:
      ValueError: if no track has a score.
    """
    medians = track_medians(frames)
    scores = medians[~np.isnan(medians)]
    if not scores.size:
        raise ValueError(f"none of the {len(medians)} tracks has a frame with a score")
    infinite = int(np.isinf(scores).sum())
    finite = Summary(np.nan, np.nan, np.nan, 0) if infinite == scores.size else summarize(scores)
    return TrackSummary(
        mean=finite.mean,
        median=float(np.median(scores)),
        ci95=finite.ci95,
        count=scores.size,
        infinite=infinite,
        unscored=medians.size - scores.size,
    )
