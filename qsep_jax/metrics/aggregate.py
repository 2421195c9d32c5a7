"""From the scores of single signals, or of the frames of tracks, to the numbers of a table."""

import dataclasses
from collections.abc import Sequence

import numpy as np


@dataclasses.dataclass(frozen=True)
class Summary:
    """Mean and median of `count` finite scores, and the half width of the mean's 95 % interval (normal, 1.96 σ/√n)."""

    mean: float
    median: float
    ci95: float
    count: int


@dataclasses.dataclass(frozen=True)
class TrackSummary(Summary):
    """Median of the medians of `count` tracks; mean and its 95 % interval of those `count − infinite` that are finite.

    Attributes:
      infinite: tracks whose median is infinite.
      unscored: tracks in which no frame has a score; they are in none of the other numbers.
    """

    infinite: int
    unscored: int


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


def track_medians(frames: Sequence[np.ndarray]) -> np.ndarray:
    """Median over each track's `[frames]` that are not NaN, `[tracks]` float64; NaN where all of them are.

    An infinite frame is a value like any other: a track is +∞ when half of its frames or more are perfect.
    """
    scored = [np.asarray(track, np.float64)[~np.isnan(track)] for track in frames]
    return np.array([np.median(track) if track.size else np.nan for track in scored])


def summarize_tracks(frames: Sequence[np.ndarray]) -> TrackSummary:
    """Summary of tracks, each of `[frames]` scores: the protocol of SiSEC 2018 (Stöter et al. 2018, museval).

    Median over frames, then median over tracks: `median`; mean over tracks instead: `mean` and `ci95`, NaN if no track
    has a finite median. An infinite track median counts in the median over tracks, and not in the mean.
    # Departs from the paper: museval drops infinite frames, which would score a track by its imperfect frames alone.

    Raises:
      ValueError: if no track has a score.
    """
    medians = track_medians(frames)
    scored = medians[~np.isnan(medians)]
    if not scored.size:
        raise ValueError(f"none of the {len(medians)} tracks has a frame with a score")
    infinite = int(np.isinf(scored).sum())
    finite = Summary(np.nan, np.nan, np.nan, 0) if infinite == scored.size else summarize(scored)
    return TrackSummary(
        mean=finite.mean,
        median=float(np.median(scored)),
        ci95=finite.ci95,
        count=scored.size,
        infinite=infinite,
        unscored=medians.size - scored.size,
    )
