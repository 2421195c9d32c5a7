"""The table of the slides: `python -m benchmarks.papers.stoller2018.table --runs runs/supervised runs/v runs/va`.

Of runs that were evaluated with `evaluate --protocol bss_eval_v3 --channels 1` on the same corpora: means over songs,
all corpora together first, then each. Several runs of a system, of other seeds, are a mean with its spread.
"""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.papers.stoller2018 import paper
from data_pipelines.files import write_text
from qsep_jax.command_line import console
from qsep_jax.metrics.tracks import TrackScores
from qsep_jax.runs.bundle import find_model
from qsep_jax.systems.stoller2018 import Stoller2018

EXAMPLE = "python -m benchmarks.papers.stoller2018.table --runs runs/supervised runs/v runs/va --out runs/table"
ALL = "all"
METRICS = ("SDR", "SIR", "SAR")


@dataclasses.dataclass(frozen=True)
class Table:
    """Set evaluated runs of configs/stoller2018.py in the form of the slides' table.

    Attributes:
      runs: run folders; those with the same critics are one system, trained from several seeds.
      split: that they were evaluated on.
      out: where table and rows go.
    """

    runs: tuple[Path, ...] = ()
    split: str = "test"
    out: Path = Path("evaluation/stoller2018")


@dataclasses.dataclass(frozen=True)
class Run:
    """A run and its scores: `{corpus: {song: {(metric, stem): dB}}}`, those of the untouched mixture beside them."""

    system: str
    scores: dict[str, dict[str, dict[tuple[str, str], float]]]
    mixtures: dict[str, dict[str, dict[tuple[str, str], float]]]


def system_of(system: Stoller2018) -> str:
    """What the slides call it; by its critics where they have no name for it."""
    names = {(): "baseline", ("vocals",): "V", ("vocals", "accompaniment"): "VA"}
    return names.get(system.critics, "critics of " + ", ".join(system.critics))


def read(workdir: Path, split: str) -> Run:
    """What `evaluate` found of a run, on all corpora that it was tried on.

    Raises:
      ValueError: if it is no such run, or was not evaluated.
    """
    source = find_model(str(workdir))
    system = source.experiment().system
    if not isinstance(system, Stoller2018):
        raise ValueError(f"{workdir} holds a {type(system).__name__}: this table is of configs/stoller2018.py")
    found: dict[str, dict[str, dict[str, dict[tuple[str, str], float]]]] = {"model": {}, "mixture": {}}
    for folder in sorted(source.evaluation.glob(f"*_{split}_bss_eval_v3")):
        corpus = folder.name.removesuffix(f"_{split}_bss_eval_v3")
        for kind, corpora in found.items():
            paths = sorted((folder / "tracks" / kind).glob("*.json"))
            songs = [TrackScores.from_file(path) for path in paths]
            if songs:
                corpora[corpus] = {song.track: _of_song(song) for song in songs}
    if not found["model"]:
        command = f"python -m qsep_jax.evaluate --workdir {workdir} --protocol bss_eval_v3 --channels 1"
        raise ValueError(f"{workdir} has no scores of the {split} split yet: run {command}")
    return Run(system_of(system), found["model"], found["mixture"])


def _of_song(song: TrackScores) -> dict[tuple[str, str], float]:
    return {(metric, stem): float(scores[metric][0]) for stem, scores in song.stems.items() for metric in METRICS}


def means(scores: dict[str, dict[str, dict[tuple[str, str], float]]], corpus: str) -> dict[tuple[str, str], float]:
    """Means over the songs of a corpus, or of all of them; a song without a score of a stem does not count there."""
    songs = [song for name, found in scores.items() if corpus in (name, ALL) for song in found.values()]
    keys = dict.fromkeys(key for song in songs for key in song)
    return {key: float(np.nanmean([song[key] for song in songs if key in song])) for key in keys}


def rows(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """A row for each system, test set, metric and stem: mean over runs, its spread, and how many they are.

    Raises:
      ValueError: if the runs were not tried on the same songs.
    """
    tried = [{corpus: sorted(songs) for corpus, songs in run.scores.items()} for run in runs]
    if any(each != tried[0] for each in tried):
        raise ValueError("the runs were not tried on the same songs: evaluate them alike")
    corpora, found = [*([ALL] if len(tried[0]) > 1 else []), *tried[0]], []
    by_system: dict[str, list[dict]] = {"mixture": [runs[0].mixtures]} if runs[0].mixtures else {}
    for run in runs:
        by_system.setdefault(run.system, []).append(run.scores)
    for corpus in corpora:
        songs = sum(len(names) for name, names in tried[0].items() if corpus in (name, ALL))
        for system, several in by_system.items():
            each = [means(scores, corpus) for scores in several]
            for metric, stem in each[0]:
                values = [mean[metric, stem] for mean in each]
                spread = float(np.std(values, ddof=1)) if len(values) > 1 else None
                facts = {"system": system, "corpus": corpus, "metric": metric, "stem": stem}
                found.append(
                    {**facts, "mean": float(np.mean(values)), "spread": spread, "runs": len(values), "songs": songs}
                )
    return found


def table(found: Sequence[dict[str, Any]]) -> str:
    """In the slides' form: metrics and stems down, test sets and systems across."""
    cells = {(row["metric"], row["stem"], row["corpus"], row["system"]): row for row in found}
    order = {name: place for place, name in enumerate(("mixture", *paper.SYSTEMS))}
    systems = sorted(dict.fromkeys(row["system"] for row in found), key=lambda name: order.get(name, len(order)))
    corpora = list(dict.fromkeys((row["corpus"], row["songs"]) for row in found))
    stems = sorted({row["stem"] for row in found}, key=lambda stem: (stem == "vocals", stem))
    heads = [f"{corpus} ({songs}), {system}" for corpus, songs in corpora for system in systems]
    lines = [f"| dB | {' | '.join(heads)} |", f"| --- |{' --: |' * len(heads)}"]
    for metric in METRICS:
        for stem in stems:
            row = [cells.get((metric, stem, corpus, system)) for corpus, _ in corpora for system in systems]
            lines.append(f"| {metric} {stem} | {' | '.join(_cell(cell) for cell in row)} |")
    return "\n".join(lines) + "\n"


def paper_table() -> str:
    """The slides' own numbers."""
    numbers = paper.published()
    heads = [f"{corpus}, {system}" for corpus in paper.TEST_SETS for system in paper.SYSTEMS]
    lines = [f"| dB, paper | {' | '.join(heads)} |", f"| --- |{' --: |' * len(heads)}"]
    for metric, stem in paper.ROWS:
        row = [numbers[metric, stem, corpus, system] for corpus in paper.TEST_SETS for system in paper.SYSTEMS]
        lines.append(f"| {metric} {stem} | {' | '.join(f'{score:.2f}' for score in row)} |")
    return "\n".join(lines) + "\n"


def _cell(row: dict[str, Any] | None) -> str:
    if row is None:
        return "–"
    return f"{row['mean']:.2f}" + (f" ± {row['spread']:.2f}" if row["spread"] is not None else "")


def main() -> None:
    options = console.parse(Table, "python -m benchmarks.papers.stoller2018.table", EXAMPLE)
    if not options.runs:
        raise ValueError(f"--runs is missing. Example: {EXAMPLE}")
    found = rows([read(workdir, options.split) for workdir in options.runs])
    protocol = f"{options.split} split, BSS Eval v3, whole songs, no permutation; mean over songs, ± spread over runs"
    text = f"{protocol}\n\n{table(found)}\n{paper_table()}"
    write_text(options.out / "results.json", json.dumps(found, indent=2))
    write_text(options.out / "table.md", text)
    print(f"{text}\nwritten to {options.out}")


if __name__ == "__main__":
    console.run(main)
