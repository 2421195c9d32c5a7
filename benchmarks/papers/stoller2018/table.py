"""The table of the slides: `python -m benchmarks.papers.stoller2018.table --runs runs/supervised runs/v runs/va`.

The runs must have been evaluated with `qsep evaluate tracks --protocol bss_eval_v3 --channels 1` on the same corpora.
The table has means over songs, first over all corpora together, then for each corpus. Runs of the same system with
different seeds are combined into a mean and the spread between runs.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.papers import published
from benchmarks.papers.stoller2018 import paper
from qsep_jax.command_line import console
from qsep_jax.metrics.tracks import TrackScores
from qsep_jax.runs.bundle import find_model
from qsep_jax.systems.stoller2018 import Stoller2018

EXAMPLE = "python -m benchmarks.papers.stoller2018.table --runs runs/supervised runs/v runs/va --out runs/table"
ALL = "all"
METRICS = ("SDR", "SIR", "SAR")


@dataclasses.dataclass(frozen=True)
class Table:
    """Print evaluated runs of configs/stoller2018.py in the form of the slides' table.

    Attributes:
      runs: Run folders; runs with the same critics count as one system, trained with several seeds.
      split: Split of the evaluation.
      out: Folder for the table and the rows.
    """

    runs: tuple[Path, ...] = ()
    split: str = "test"
    out: Path = Path("evaluation/stoller2018")


@dataclasses.dataclass(frozen=True)
class Run:
    """The scores of a run, `{corpus: {song: {(metric, stem): dB}}}`, and those of the unprocessed mixtures."""

    system: str
    scores: dict[str, dict[str, dict[tuple[str, str], float]]]
    mixtures: dict[str, dict[str, dict[tuple[str, str], float]]]


def system_of(system: Stoller2018) -> str:
    """The slides' name of a system; a system that they do not have is named after its critics."""
    names = {(): "baseline", ("vocals",): "V", ("vocals", "accompaniment"): "VA"}
    return names.get(system.critics, "critics of " + ", ".join(system.critics))


def read(workdir: Path, split: str) -> Run:
    """The scores that `evaluate` has written for a run, on all corpora.

    Raises:
      ValueError: if the run is of another system, or if it has not been evaluated.
    """
    saved = find_model(str(workdir))
    system = saved.experiment().system
    if not isinstance(system, Stoller2018):
        raise ValueError(f"{workdir} has a {type(system).__name__}: give a run of configs/stoller2018.py")
    scores: dict[str, dict[str, dict[str, dict[tuple[str, str], float]]]] = {"model": {}, "mixture": {}}
    for folder in sorted(saved.evaluation.glob(f"*_{split}_bss_eval_v3")):
        corpus = folder.name.removesuffix(f"_{split}_bss_eval_v3")
        for kind, corpora in scores.items():
            paths = sorted((folder / "tracks" / kind).glob("*.json"))
            songs = [TrackScores.from_file(path) for path in paths]
            if songs:
                corpora[corpus] = {song.track: _song_scores(song) for song in songs}
    if not scores["model"]:
        command = f"qsep evaluate tracks --workdir {workdir} --protocol bss_eval_v3 --channels 1"
        raise ValueError(f"{workdir} has no scores of the {split} split yet: run {command}")
    return Run(system_of(system), scores["model"], scores["mixture"])


def _song_scores(song: TrackScores) -> dict[tuple[str, str], float]:
    return {(metric, stem): float(scores[metric][0]) for stem, scores in song.stems.items() for metric in METRICS}


def means(scores: dict[str, dict[str, dict[tuple[str, str], float]]], corpus: str) -> dict[tuple[str, str], float]:
    """The means over the songs of a corpus (or of all); a song without a score of a stem is excluded for that stem."""
    songs = [song for name, by_song in scores.items() if corpus in (name, ALL) for song in by_song.values()]
    keys = dict.fromkeys(key for song in songs for key in song)
    return {key: float(np.nanmean([song[key] for song in songs if key in song])) for key in keys}


def rows_of(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """A row for each system, test set, metric and stem: the mean over runs, its spread, and the number of runs.

    Raises:
      ValueError: if the runs were not evaluated on the same songs.
    """
    songs_of_runs = [{corpus: sorted(songs) for corpus, songs in run.scores.items()} for run in runs]
    if any(songs != songs_of_runs[0] for songs in songs_of_runs):
        raise ValueError("the runs were not evaluated on the same songs: evaluate all of them on the same corpora")
    corpora, rows = [*([ALL] if len(songs_of_runs[0]) > 1 else []), *songs_of_runs[0]], []
    by_system: dict[str, list[dict]] = {"mixture": [runs[0].mixtures]} if runs[0].mixtures else {}
    for run in runs:
        by_system.setdefault(run.system, []).append(run.scores)
    for corpus in corpora:
        songs = sum(len(names) for name, names in songs_of_runs[0].items() if corpus in (name, ALL))
        for system, scores_of_runs in by_system.items():
            means_of_runs = [means(scores, corpus) for scores in scores_of_runs]
            for metric, stem in means_of_runs[0]:
                values = [run_means[metric, stem] for run_means in means_of_runs]
                spread = float(np.std(values, ddof=1)) if len(values) > 1 else None
                facts = {"system": system, "corpus": corpus, "metric": metric, "stem": stem}
                rows.append(
                    {**facts, "mean": float(np.mean(values)), "spread": spread, "runs": len(values), "songs": songs}
                )
    return rows


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The Markdown table in the form of the slides: a line per metric and stem, a column per test set and system."""
    cells = {(row["metric"], row["stem"], row["corpus"], row["system"]): row for row in rows}
    order = {name: index for index, name in enumerate(("mixture", *paper.SYSTEMS))}
    systems = sorted(dict.fromkeys(row["system"] for row in rows), key=lambda name: order.get(name, len(order)))
    corpora = list(dict.fromkeys((row["corpus"], row["songs"]) for row in rows))
    stems = sorted({row["stem"] for row in rows}, key=lambda stem: (stem == "vocals", stem))
    heads = [f"{corpus} ({songs}), {system}" for corpus, songs in corpora for system in systems]
    lines = [f"| dB | {' | '.join(heads)} |", f"| --- |{' --: |' * len(heads)}"]
    for metric in METRICS:
        for stem in stems:
            row = [cells.get((metric, stem, corpus, system)) for corpus, _ in corpora for system in systems]
            lines.append(f"| {metric} {stem} | {' | '.join(_cell(cell) for cell in row)} |")
    return "\n".join(lines) + "\n"


def paper_table() -> str:
    """The Markdown table of the slides."""
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
        raise ValueError(f"--runs is needed. Example: {EXAMPLE}")
    rows = rows_of([read(workdir, options.split) for workdir in options.runs])
    protocol = f"{options.split} split, BSS Eval v3, complete songs, no permutation"
    text = f"{protocol}; mean over songs ± standard deviation between runs\n\n{table(rows)}\n{paper_table()}"
    published.publish(options.out, rows, text)


if __name__ == "__main__":
    console.run(main)
