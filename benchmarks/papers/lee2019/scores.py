"""SDR of complete tracks, shared by the experiments: one JSON file per track and query mode, computed only once."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.papers.lee2019.context import CommonOptions, Context
from data_pipelines.prepared.corpus import Corpus
from qsep_jax.evaluation.comparison import Scores, by_track
from qsep_jax.evaluation.estimates import QueryMode, at_sample_rate, model_estimators
from qsep_jax.evaluation.tracks import corpus_tracks, score_tracks
from qsep_jax.metrics.protocols import Protocol
from qsep_jax.metrics.tracks import TrackScores

# SDR as museval computes it; the paper uses museval.
PROTOCOL = Protocol("bss_eval_v4_sdr")


@dataclasses.dataclass(frozen=True)
class TrackOptions(CommonOptions):
    """Options of the experiments on complete tracks.

    Attributes:
      tracks: Number of tracks, in the order of their names (0: all).
      channels: 1 downmixes to mono, 0 uses the channels that the corpus stores.
      scores: Folder whose `tracks` contains the shared scores (by default, `lee2019` in the run folder, or a folder in
        it for scores at another sample rate).
    """

    tracks: int = 0
    channels: int = 1
    scores: Path | None = None


def scores_of_tracks(
    context: Context,
    options: TrackOptions,
    corpus: Corpus,
    modes: Sequence[QueryMode],
) -> list[TrackScores]:
    """The scores of all tracks; the estimates of a query mode are named `model_MODE`.

    Raises:
      ValueError: if no track can be scored.
    """
    if options.tracks < 0:
        raise ValueError(f"--tracks must be 0 or more, not {options.tracks}")
    model_rate = context.model.system.sample_rate
    estimates = {
        name: at_sample_rate(estimator, corpus.sample_rate, model_rate)
        for name, estimator in model_estimators(context.model, context.bank, modes).items()
    }
    tracks = corpus_tracks(corpus, estimates, context.facts)[: options.tracks or None]
    shared = context.shared if corpus.sample_rate == model_rate else context.shared / str(corpus.sample_rate)
    return score_tracks(tracks, PROTOCOL, options.scores or shared)


def protocol_of(corpus: Corpus) -> str:
    """The protocol of the scores, for the rows of an experiment."""
    channels = "mono" if corpus.channels == 1 else f"{corpus.channels} channels"
    return f"SDR of complete tracks, {channels} at {corpus.sample_rate} Hz, by {PROTOCOL}"


def title(rows: Sequence[dict[str, Any]], scores: Sequence[TrackScores]) -> str:
    """The corpus, split, number of tracks and protocol of the rows."""
    tracks = len({track_scores.track for track_scores in scores})
    return f"{rows[0]['corpus']}, {rows[0]['split']} split, {tracks} tracks; {rows[0]['protocol']}"


def frame_scores(scores: Sequence[TrackScores], estimate: str, stem: str) -> list[np.ndarray]:
    """The SDR of the frames of each track that has the stem, `[frames]` per track."""
    return [
        track_scores.stems[stem]["SDR"]
        for track_scores in scores
        if track_scores.estimate == estimate and stem in track_scores.stems
    ]


def differences(scores: list[TrackScores], estimate: str, other: str) -> Scores:
    """The SDR of `estimate` minus that of `other`, medians over the frames of a track, where both are finite."""
    first, second = by_track(scores, estimate), by_track(scores, other)
    difference = {key: first[key] - second[key] for key in first if key in second}
    return {key: value for key, value in difference.items() if np.isfinite(value)}
