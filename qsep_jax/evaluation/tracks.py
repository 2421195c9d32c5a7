"""Judge a model, or anyone's estimates, on whole tracks: one JSON per track, then a table and boxes.

A track that has its JSON is not scored again, so an evaluation that was stopped goes on where it was.
"""

import dataclasses
import json
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np

from data_pipelines.files import write_text
from data_pipelines.prepared.corpus import Corpus
from data_pipelines.progress import Progress
from qsep_jax.figures.scores import boxes
from qsep_jax.inference.bank import Bank
from qsep_jax.inference.chunks import default_plan, over_chunks
from qsep_jax.inference.conditions import encode, is_loud
from qsep_jax.inference.cues import MixtureCondition, playing
from qsep_jax.inference.model import Model
from qsep_jax.inference.separation import separate_blocks
from qsep_jax.metrics import oracles
from qsep_jax.metrics.protocols import Protocol
from qsep_jax.metrics.tracks import TrackScores, summary_rows, with_improvement

Ask = Literal["mean", "gt", "iterative", "nearest"]
Oracle = Literal["mixture", "irm", "ibm"]
# Samples in which the oracles pass, so that a long track does not need its whole spectrogram at once.
ORACLE_CHUNK = 2**18
Stems = Mapping[str, np.ndarray]  # [T, C] each
# Estimates of a track's stems, out of its name and the true ones.
Estimate = Callable[[str, Stems], Stems]


@dataclasses.dataclass(frozen=True)
class ScoredTrack:
    """A track to be scored: how to get its true stems and, by name, what makes estimates of them out of those.

    `facts` are what the scores depend on: scores with others are made anew.
    """

    name: str
    sample_rate: int
    references: Callable[[], Stems]
    estimates: Mapping[str, Callable[[Stems], Stems]]
    facts: Mapping[str, Any]


def of_corpus(corpus: Corpus, estimates: Mapping[str, Estimate], model: Mapping[str, Any]) -> list[ScoredTrack]:
    """The tracks of a split that have two stems or more; `model` says which one the estimates come from.

    Raises:
      ValueError: if there is none.
    """

    def references(name: str) -> Stems:
        stems = playing(corpus, name)
        length = max(stem.samples for stem in stems)
        return {stem.stem: corpus.read(dataclasses.replace(stem, samples=length)) for stem in stems}

    return tracks_of(corpus, references, estimates, facts_of(corpus, model))


def tracks_of(
    corpus: Corpus, references: Callable[[str], Stems], estimates: Mapping[str, Estimate], facts: Mapping[str, Any]
) -> list[ScoredTrack]:
    """The tracks of a split that have two stems or more, each with the `references` of its name and the same facts.

    Raises:
      ValueError: if there is none.
    """
    return [
        ScoredTrack(
            name,
            corpus.sample_rate,
            partial(references, name),
            {kind: partial(estimate, name) for kind, estimate in estimates.items()},
            facts,
        )
        for name in of_several(corpus)
    ]


def of_several(corpus: Corpus) -> list[str]:
    """Names of the tracks that have two stems or more.

    Raises:
      ValueError: if there is none.
    """
    names = sorted({track for stem in corpus.stems for track in corpus.tracks(stem)})
    several = [name for name in names if sum(name in corpus.tracks(stem) for stem in corpus.stems) > 1]
    if not several:
        raise ValueError(f"{corpus.folder} has no {corpus.split} track with two stems or more")
    return several


def facts_of(corpus: Corpus, model: Mapping[str, Any]) -> dict[str, Any]:
    """What scores of a model on a corpus depend on."""
    metadata = corpus.metadata
    facts = {**model, "corpus": metadata.name, "fingerprint": metadata.fingerprint, "split": corpus.split}
    return facts | {"sample_rate": corpus.sample_rate, "channels": corpus.channels, "stems": list(corpus.stems)}


def by_model(
    model: Model, bank: Bank | None, asks: Sequence[Ask], told: Callable[[str], MixtureCondition] = lambda track: ()
) -> dict[str, Estimate]:
    """What a model makes of a track, for each way to ask it; a system without queries gives all its stems at once.

    `mean`: the class means, one separation (Lee 2019, §4.4); `iterative`: once more with the estimates as queries
    (§4.6); `gt`: the true stems as queries, an upper bound (§4.7); `nearest`: the training track nearest to the true
    stem (§4.5). Where a query would be silent, the class mean asks.

    Args:
      told: what a system without queries is told of a track.
    """
    if bank is None:

        def at_once(track: str, references: Stems) -> Stems:
            return dict(zip(model.system.stems, _separated(model, references, [told(track)]), strict=True))

        return {"model": at_once}
    return {f"model_{ask}": partial(_asked, model, bank, ask) for ask in asks}


def _asked(model: Model, bank: Bank, ask: Ask, track: str, references: Stems) -> Stems:
    means = {stem: bank.mean(stem) for stem in references}
    queries = references
    if ask == "iterative":
        queries = dict(zip(references, _separated(model, references, list(means.values())), strict=True))
    conditions = []
    for stem, query in queries.items():
        condition = means[stem]
        if ask != "mean" and is_loud(query.mean(axis=1)):
            condition = encode(model, query, stem)
            if ask == "nearest":
                condition = bank.tracks[stem][bank.nearest(stem, condition)]
        conditions.append(condition)
    return dict(zip(references, _separated(model, references, conditions), strict=True))


def _separated(model: Model, references: Stems, conditions: list[MixtureCondition]) -> np.ndarray:
    mixture = mixed(references)
    return np.concatenate(list(separate_blocks(model, [mixture], mixture.shape[1], conditions)), axis=1)


def mixed(references: Stems) -> np.ndarray:
    """The sum of all stems."""
    return np.sum(list(references.values()), axis=0)


def by_oracle(names: Sequence[Oracle]) -> dict[str, Estimate]:
    return {name: lambda track, references, name=name: oracle(name, references) for name in names}


def oracle(name: Oracle, references: Stems) -> Stems:
    """`mixture`: the untouched mixture for every stem; `irm`, `ibm`: the ideal ratio or binary mask, per channel."""
    if name == "mixture":
        return dict.fromkeys(references, mixed(references))
    mask = {"irm": oracles.ideal_ratio_mask, "ibm": oracles.ideal_binary_mask}[name]
    signals, found = np.stack(list(references.values())), []  # [S, T, C]
    for channel in range(signals.shape[2]):
        side_by_side = [signals[:, :, channel].T]  # of the sources, as if they were channels

        def masked(chunks: np.ndarray) -> np.ndarray:
            return np.asarray(mask(jnp.asarray(chunks[0].T)))[None, :, :, None]

        blocks = over_chunks(side_by_side, default_plan(ORACLE_CHUNK), 1, masked)
        found.append(np.concatenate(list(blocks), axis=1))
    return dict(zip(references, np.concatenate(found, axis=2), strict=True))


def score(tracks: list[ScoredTrack], protocol: Protocol, out: Path) -> list[TrackScores]:
    """Score the estimates of every track, those that `out` has no scores of yet; all of them, in order."""
    scored = []
    with Progress(f"scoring by {protocol.name}", len(tracks), unit="track") as progress:
        for track in tracks:
            paths = {name: out / "tracks" / name / f"{_file_name(track.name)}.json" for name in track.estimates}
            before = {name: _before(path, track, protocol) for name, path in paths.items()}
            references = track.references() if None in before.values() else {}
            for name, path in paths.items():
                scores = before[name]
                if scores is None:
                    estimates = track.estimates[name](references)
                    stems = [stem for stem in references if stem in estimates]
                    true, found = (np.stack([each[stem] for stem in stems]) for each in (references, estimates))
                    table = protocol.score(true, found, track.sample_rate)
                    by_stem = {stem: {m: table[m][row] for m in table} for row, stem in enumerate(stems)}
                    scores = TrackScores(track.name, name, protocol, dict(track.facts), by_stem)
                    write_text(path, scores.to_json())
                scored.append(scores)
            progress.advance()
    return scored


def _file_name(track: str) -> str:
    return re.sub(r"[^\w .,()&+'-]", "_", track)


def _before(path: Path, track: ScoredTrack, protocol: Protocol) -> TrackScores | None:
    """The scores of an earlier evaluation of the same thing."""
    if not path.exists():
        return None
    scores = TrackScores.from_file(path)
    same = (scores.track, scores.protocol, scores.facts) == (track.name, protocol, track.facts)
    return scores if same else None


def report(scored: list[TrackScores], run: str, corpus: str, split: str, out: Path) -> list[dict[str, Any]]:
    """Write `results.json`, `table.md` and `boxes.png`; the rows.

    Raises:
      ValueError: if no stem of any track has a score.
    """
    mixtures = {scores.track: scores for scores in scored if scores.estimate == "mixture"}
    if mixtures:
        scored = [with_improvement(scores, mixtures[scores.track]) for scores in scored]
    found = summary_rows(scored, run, corpus, split)
    if not found:
        raise ValueError(f"no stem of {corpus} has a score: in every frame one of them is silent")
    write_text(out / "results.json", json.dumps([_plain(row) for row in found], indent=2))
    write_text(out / "table.md", table(found, scored))
    boxes(scored, f"{run} on {corpus}, {split}: {scored[0].protocol}", out / "boxes.png")
    return found


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """A row in strict JSON, which has no NaN and no infinity."""
    return {key: None if isinstance(value, float) and not np.isfinite(value) else value for key, value in row.items()}


def table(found: list[dict[str, Any]], scored: list[TrackScores]) -> str:
    """The rows as a Markdown table, estimates and stems down, metrics across: median (mean ± 95 %)."""
    metrics = list(dict.fromkeys(row["metric"] for row in found))
    cells = {(row["estimate"], row["stem"], row["metric"]): row for row in found}
    tracks = len({scores.track for scores in scored})
    lines = [
        f"{found[0]['corpus']}, {found[0]['split']} split, {tracks} tracks; {found[0]['protocol']}; "
        "dB: median over tracks (mean ± 95 % interval)",
        "",
        f"| estimate | stem | tracks | {' | '.join(metrics)} |",
        f"| --- | --- | --: |{' --: |' * len(metrics)}",
    ]
    for estimate, stem in dict.fromkeys((row["estimate"], row["stem"]) for row in found):
        line = [cells.get((estimate, stem, metric)) for metric in metrics]
        count = max(row["count"] for row in line if row)
        lines.append(f"| {estimate} | {stem} | {count} | {' | '.join(_cell(row) for row in line)} |")
    silent = {
        (scores.track, stem)
        for scores in scored
        for stem, values in scores.stems.items()
        if np.isnan(values[scores.protocol.metrics[0]]).all()
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
