"""SDR of whole tracks, shared by the experiments: one JSON per track and way to ask, made only where it is missing."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.papers.lee2019.setting import Setting, Subject
from data_pipelines.prepared.corpus import Corpus
from qsep_jax.evaluation import tracks as whole_tracks
from qsep_jax.evaluation.comparison import Scores, by_track
from qsep_jax.evaluation.tracks import Ask
from qsep_jax.metrics.protocols import Protocol
from qsep_jax.metrics.tracks import TrackScores

# SDR as museval computes it, for which the paper uses museval.
PROTOCOL = Protocol("bss_eval_v4_sdr")


@dataclasses.dataclass(frozen=True)
class WholeTracks(Setting):
    """Options of the experiments on whole tracks.

    Attributes:
      tracks: how many, in order of their names; 0 for all.
      channels: 1 mixes down, 0 takes what the corpus stores.
      scores: the folder whose `tracks` holds the scores that are shared; by default `lee2019` in the run folder.
    """

    tracks: int = 0
    channels: int = 1
    scores: Path | None = None


def on_tracks(
    subject: Subject,
    options: WholeTracks,
    corpus: Corpus,
    asks: Sequence[Ask],
) -> list[TrackScores]:
    """The scores of all tracks, `model_ASK` for each way to ask.

    Raises:
      ValueError: if there is no track to score.
    """
    if options.tracks < 0:
        raise ValueError(f"--tracks must be 0 or more, not {options.tracks}")
    estimates = whole_tracks.by_model(subject.model, subject.bank, asks)
    tracks = whole_tracks.of_corpus(corpus, estimates, subject.facts)[: options.tracks or None]
    return whole_tracks.score(tracks, PROTOCOL, options.scores or subject.shared)


def scoring(corpus: Corpus) -> str:
    """How tracks are scored, for rows."""
    channels = "mono" if corpus.channels == 1 else f"{corpus.channels} channels"
    return f"SDR of whole tracks, {channels} at {corpus.sample_rate} Hz, by {PROTOCOL}"


def title(rows: Sequence[dict[str, Any]], scored: Sequence[TrackScores]) -> str:
    """What the rows are of and how they came about."""
    tracks = len({found.track for found in scored})
    return f"{rows[0]['corpus']}, {rows[0]['split']} split, {tracks} tracks; {rows[0]['protocol']}"


def frames(scored: Sequence[TrackScores], estimate: str, stem: str) -> list[np.ndarray]:
    """SDR of each track that has the stem, `[frames]` each."""
    return [found.stems[stem]["SDR"] for found in scored if found.estimate == estimate and stem in found.stems]


def differences(scored: list[TrackScores], estimate: str, other: str) -> Scores:
    """SDR of `estimate` less that of `other`, medians over the frames of a track, where both are finite."""
    first, second = by_track(scored, estimate), by_track(scored, other)
    found = {key: first[key] - second[key] for key in first if key in second}
    return {key: value for key, value in found.items() if np.isfinite(value)}
