"""Scores of complete tracks: one JSON file per track and kind of estimate, then a table and a box plot.

A track whose file exists is not scored again, so an evaluation that was stopped continues where it stopped.
"""

import dataclasses
import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from data_pipelines.files import write_json, write_text
from data_pipelines.prepared.corpus import Corpus
from data_pipelines.progress import Progress
from qsep_jax.evaluation.estimates import Estimator, Stems
from qsep_jax.figures.scores import boxes
from qsep_jax.inference.cues import stem_excerpts
from qsep_jax.metrics.protocols import Protocol
from qsep_jax.metrics.tracks import TrackScores, summary_rows, with_improvement

# Metrics of BSS Eval whose filters are fitted to all stems of a track, so that they depend on which stems are scored.
OF_ALL_STEMS = ("ISR", "SIR", "SAR")


@dataclasses.dataclass(frozen=True)
class ScoredTrack:
    """A track to score, whose audio is read and estimated only when it is needed.

    Attributes:
      name: Name of the track, which also names the file of its scores.
      sample_rate: Sample rate in Hz.
      references: Returns the true stems.
      estimates: Functions from the true stems to estimates of them, by kind of estimate.
      facts: Everything that the scores depend on; stored scores with other facts are replaced.
    """

    name: str
    sample_rate: int
    references: Callable[[], Stems]
    estimates: Mapping[str, Callable[[Stems], Stems]]
    facts: Mapping[str, Any]


def corpus_tracks(
    corpus: Corpus, estimators: Mapping[str, Estimator], model_facts: Mapping[str, Any]
) -> list[ScoredTrack]:
    """The tracks of a split that have at least two stems; all stems of a track have the length of the longest.

    Args:
      model_facts: What identifies the model that the estimates come from.

    Raises:
      ValueError: if there is no such track.
    """

    def references(name: str) -> Stems:
        stems = stem_excerpts(corpus, name)
        length = max(stem.samples for stem in stems)
        return {stem.stem: corpus.read(dataclasses.replace(stem, samples=length)) for stem in stems}

    return make_tracks(corpus, references, estimators, corpus_facts(corpus, model_facts))


def make_tracks(
    corpus: Corpus, references: Callable[[str], Stems], estimators: Mapping[str, Estimator], facts: Mapping[str, Any]
) -> list[ScoredTrack]:
    """The tracks of a split that have at least two stems, in the order of their names, all with the same facts.

    Args:
      references: Returns the true stems of a track, by its name.

    Raises:
      ValueError: if there is no such track.
    """
    return [
        ScoredTrack(
            name,
            corpus.sample_rate,
            partial(references, name),
            {kind: partial(estimator, name) for kind, estimator in estimators.items()},
            facts,
        )
        for name in multi_stem_tracks(corpus)
    ]


def multi_stem_tracks(corpus: Corpus) -> list[str]:
    """The names of the tracks that have at least two stems.

    Raises:
      ValueError: if there is no such track.
    """
    names = sorted({track for stem in corpus.stems for track in corpus.tracks(stem)})
    multi_stem = [name for name in names if sum(name in corpus.tracks(stem) for stem in corpus.stems) > 1]
    if not multi_stem:
        raise ValueError(f"{corpus.folder} has no {corpus.split} track with at least two stems")
    return multi_stem


def corpus_facts(corpus: Corpus, model_facts: Mapping[str, Any]) -> dict[str, Any]:
    """What the scores of a model on a corpus depend on."""
    metadata = corpus.metadata
    facts = {**model_facts, "corpus": metadata.name, "fingerprint": metadata.fingerprint, "split": corpus.split}
    return facts | {"sample_rate": corpus.sample_rate, "channels": corpus.channels, "stems": list(corpus.stems)}


def score_tracks(
    tracks: list[ScoredTrack],
    protocol: Protocol,
    out: Path,
    skip: Callable[[ScoredTrack, Exception], None] | None = None,
) -> list[TrackScores]:
    """Return the scores of every track and kind of estimate, in order; compute and store those that `out` lacks.

    Args:
      skip: Called with each track that cannot be read, which is then left out; by default its error is raised.

    Raises:
      ValueError: if a track cannot be read or scored.
    """
    scored = []
    with Progress(f"scoring by {protocol.name}", len(tracks), unit="track") as progress:
        for track in tracks:
            try:
                scored += _stored_or_scored(track, protocol, out)
            except (ValueError, OSError) as error:
                if skip is None:
                    raise
                skip(track, error)
            progress.advance()
    return scored


def _stored_or_scored(track: ScoredTrack, protocol: Protocol, out: Path) -> list[TrackScores]:
    """The scores of each kind of estimate of a track; those that `out` lacks are computed and stored one by one."""
    paths = {kind: out / "tracks" / kind / f"{_file_name(track.name)}.json" for kind in track.estimates}
    stored = {kind: _stored_scores(path, track, protocol) for kind, path in paths.items()}
    references = track.references() if None in stored.values() else {}
    scores_of_track = []
    for kind, path in paths.items():
        scores = stored[kind]
        if scores is None:
            scores = _score(track, kind, protocol, references)
            write_text(path, scores.to_json())
        scores_of_track.append(scores)
    return scores_of_track


def _score(track: ScoredTrack, kind: str, protocol: Protocol, references: Stems) -> TrackScores:
    """Score one kind of estimate of a track; only stems that are in both the references and the estimates count.

    Where the estimates lack a stem, the metrics that depend on the set of stems are NaN, so that summaries of tracks
    leave them out.
    """
    estimates = track.estimates[kind](references)
    stems = [stem for stem in references if stem in estimates]
    reference, estimate = (np.stack([source[stem] for stem in stems]) for source in (references, estimates))
    scores = protocol.score(reference, estimate, track.sample_rate)
    if len(stems) < len(references):
        scores |= {metric: np.full_like(scores[metric], np.nan) for metric in OF_ALL_STEMS if metric in scores}
    by_stem = {stem: {metric: scores[metric][row] for metric in scores} for row, stem in enumerate(stems)}
    return TrackScores(track.name, kind, protocol, dict(track.facts), by_stem)


def _file_name(track: str) -> str:
    return re.sub(r"[^\w .,()&+'-]", "_", track)


def _stored_scores(path: Path, track: ScoredTrack, protocol: Protocol) -> TrackScores | None:
    """Read the scores of an earlier evaluation; None if there are none, or their protocol or facts differ."""
    if not path.exists():
        return None
    scores = TrackScores.from_file(path)
    same = (scores.track, scores.protocol, scores.facts) == (track.name, protocol, track.facts)
    return scores if same else None


def write_report(scored: list[TrackScores], run: str, corpus: str, split: str, out: Path) -> str:
    """Write `results.json`, `table.md` and `boxes.png`, and return the table.

    Raises:
      ValueError: if no stem of any track has a score.
    """
    mixtures = {scores.track: scores for scores in scored if scores.estimate == "mixture"}
    if mixtures:
        scored = [with_improvement(scores, mixtures[scores.track]) for scores in scored]
    rows = summary_rows(scored, run, corpus, split)
    if not rows:
        raise ValueError(f"no stem of {corpus} has a score: in every frame at least one of them is silent")
    text = table(rows, scored)
    write_json(out / "results.json", [_finite_or_null(row) for row in rows])
    write_text(out / "table.md", text)
    boxes(scored, f"{run} on {corpus}, {split}: {scored[0].protocol}", out / "boxes.png")
    return text


def _finite_or_null(row: dict[str, Any]) -> dict[str, Any]:
    """Replace NaN and infinity, which strict JSON does not have, by None."""
    return {key: None if isinstance(value, float) and not np.isfinite(value) else value for key, value in row.items()}


def table(rows: list[dict[str, Any]], scored: list[TrackScores]) -> str:
    """Format rows as a Markdown table: a line for each estimate and stem, a column for each metric."""
    metrics = list(dict.fromkeys(row["metric"] for row in rows))
    cells = {(row["estimate"], row["stem"], row["metric"]): row for row in rows}
    tracks = len({scores.track for scores in scored})
    lines = [
        f"{rows[0]['corpus']}, {rows[0]['split']} split, {tracks} tracks; {rows[0]['protocol']}; "
        "dB: median over tracks (mean ± 95 % interval)",
        "",
        f"| estimate | stem | tracks | {' | '.join(metrics)} |",
        f"| --- | --- | --: |{' --: |' * len(metrics)}",
    ]
    for estimate, stem in dict.fromkeys((row["estimate"], row["stem"]) for row in rows):
        line = [cells.get((estimate, stem, metric)) for metric in metrics]
        count = max(row["count"] for row in line if row)
        lines.append(f"| {estimate} | {stem} | {count} | {' | '.join(_cell(row) for row in line)} |")
    silent = {
        (scores.track, stem)
        for scores in scored
        for stem, metrics_of_stem in scores.stems.items()
        if np.isnan(metrics_of_stem[scores.protocol.metrics[0]]).all()
    }
    if silent:
        names = ", ".join(sorted({stem for _, stem in silent}))
        lines += [
            "",
            f"No score for {len(silent)} stems of tracks ({names}), which are silent or estimated as silence.",
        ]
    return "\n".join(lines) + "\n"


def _cell(row: dict[str, Any] | None) -> str:
    return f"{row['median']:.2f} ({row['mean']:.2f} ± {row['ci95']:.2f})" if row else "–"
