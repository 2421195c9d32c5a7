"""Runs of configs/slizovskaia2021.py as accuracy records: their scores as rows, and runs from such rows."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.papers.records import Record, read_records
from benchmarks.papers.slizovskaia2021.paper import METRICS
from benchmarks.papers.slizovskaia2021.runs import Run, number_of, variation_of
from qsep_jax.metrics.protocols import Protocol
from qsep_jax.metrics.tracks import TrackScores


def read_recorded(paths: Sequence[Path]) -> list[Run]:
    """The runs of records, or of folders of records.

    Raises:
      ValueError: if a record cannot be read or is of none of these experiments.
    """
    return [from_record(record) for record in read_records(paths)] if paths else []


def from_record(record: Record) -> Run:
    """The scores of a run from its record.

    Raises:
      ValueError: if the run is of none of these experiments.
    """
    experiment, seconds = record.experiment(), record.data["seconds"]
    number = number_of(experiment, record.run)
    data = {name: record.data[name] for name in ("corpus", "fingerprint", "split", "sample_rate")}
    sources: dict[str, list[str]] = {}
    stems: dict[str, dict[str, dict[str, dict[str, np.ndarray]]]] = {}
    for row in record.scores:
        playing, stem, track = sources.setdefault(row["track"], []), row["stem"], row["track"]
        if row["plays"] and stem not in playing:
            playing.append(stem)
        values = {name: np.array(row[name], float) for name in METRICS if name in row}
        empty = np.full(len(next(iter(values.values()))), np.nan)
        stems.setdefault(row["estimate"], {}).setdefault(track, {})[stem] = dict.fromkeys(METRICS, empty) | values
    protocol = Protocol("segments", seconds, seconds)
    scores = {
        estimate: [
            TrackScores(track, estimate, protocol, {**data, "sources": sources[track]}, by_stem)
            for track, by_stem in by_track.items()
        ]
        for estimate, by_track in stems.items()
    }
    return Run(
        None,
        record.run,
        number,
        data["corpus"],
        data["split"],
        scores,
        variation_of(experiment.system, number),
        experiment.train.seed,
        record.budget["share_of_paper"],
    )


def to_scores(run: Run) -> list[dict[str, Any]]:
    """The rows of a record: the scores of each estimate of each stem of each track, with a list over its segments.

    A metric that no segment of the row has is left out; a segment without a score has None.
    """
    rows = []
    for estimate, tracks in run.scores.items():
        for track in tracks:
            for stem, metrics in track.stems.items():
                values = {
                    name: [round(float(value), 3) if np.isfinite(value) else None for value in scores]
                    for name, scores in metrics.items()
                    if np.isfinite(scores).any()
                }
                if values:
                    plays = stem in track.facts["sources"]
                    rows.append({"track": track.track, "stem": stem, "plays": plays, "estimate": estimate, **values})
    return rows
