"""The slides' table from records: `python -m benchmarks.papers.cantisani2021.table --record DIR --out DIR`.

Beside the scores, the tables have the improvement over the model before adaptation (B0) and over the mixture, and the
strategies minus their controls on the same songs. Intervals are over songs, or over seeds of the pretraining where
there are several.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.papers import intervals, published, tabulation
from benchmarks.papers.cantisani2021.slide import SDR, STEMS, as_cantisani2021, paper_table
from benchmarks.papers.cantisani2021.strategies import BASE, MIXTURE, title_of, trained_parameters
from benchmarks.papers.records import Record, by_seed, check_comparable
from benchmarks.papers.tabulation import RecordOptions
from data_pipelines import console

EXAMPLE = "python -m benchmarks.papers.cantisani2021.table --record records --out table"
# The mean of a song over its stems, if all of them have a score.
ALL = "mean of stems"
METRICS = (*SDR.values(), "PES", "EPS")
CONTROL = "-mixture"


@dataclasses.dataclass(frozen=True)
class Table(RecordOptions):
    """Tabulate the adaptation to songs from records of one pretraining, or of several with different seeds."""

    out: Path = Path("evaluation/cantisani2021/table")


def scores_of(record: Record, name: str, metric: str, stem: str) -> dict[str, float]:
    """A metric of a stem by song; songs without the score are left out.

    Args:
      name: Strategy, `B0` or `mixture`, with ` gated` where the activations gate the estimates.
    """
    if stem == ALL:
        by_stem = [scores_of(record, name, metric, part) for part in STEMS]
        songs = [song for song in by_stem[0] if all(song in scores for scores in by_stem)]
        return {song: float(np.mean([scores[song] for scores in by_stem])) for song in songs}
    return {
        row["song"]: row[metric]
        for row in record.scores
        if (_name(row), row["stem"]) == (name, stem) and row[metric] is not None
    }


def _name(row: dict[str, Any]) -> str:
    return row["strategy"] + (" gated" if row["gated"] else "")


def names_of(records: Sequence[Record]) -> list[str]:
    """The strategies of the first record, gated and not, in its order."""
    return list(dict.fromkeys(map(_name, records[0].scores)))


def rows_of(records: Sequence[Record]) -> list[dict[str, Any]]:
    """A row for each strategy, metric and stem; `over` names what is subtracted, `B0`, `mixture` or nothing.

    Raises:
      ValueError: if the records are not of the same songs and the same protocol, or have the same seed.
    """
    check_comparable(records)
    members, rows = list(by_seed(records).values()), []
    for name in names_of(records):
        for metric in METRICS:
            for over in ("", BASE, MIXTURE):
                if name == over or (over == MIXTURE and metric not in SDR.values()):
                    continue
                for stem in (*STEMS, ALL):
                    runs = [scores_of(record, name, metric, stem) for record in members]
                    if over:
                        before = [scores_of(record, over, metric, stem) for record in members]
                        runs = [intervals.difference(*pair) for pair in zip(runs, before, strict=True)]
                    summary = intervals.mean_of(runs)
                    songs = list(intervals.over_runs(runs).values())
                    if summary and songs:
                        place = {"strategy": name, "metric": metric, "stem": stem, "over": over, "songs": len(songs)}
                        median = {"median_of_songs": float(np.median(songs))}
                        rows.append({**place, **dataclasses.asdict(summary), **median})
    return rows


def comparison(records: Sequence[Record]) -> list[dict[str, Any]]:
    """The paired differences of strategies to their controls, over songs and, with several seeds, over seeds."""
    members, names, rows = by_seed(records), names_of(records), []
    for name in names:
        if name + CONTROL not in names:
            continue
        for metric in (*SDR.values(), "PES"):
            for stem in (*STEMS, ALL):
                scores = (
                    {seed: scores_of(record, strategy, metric, stem) for seed, record in members.items()}
                    for strategy in (name, name + CONTROL)
                )
                if pair := intervals.paired(*scores):
                    place = {"first": name, "second": name + CONTROL, "metric": metric, "stem": stem}
                    rows.append({**place, **dataclasses.asdict(pair)})
    return rows


def table(rows: Sequence[dict[str, Any]], record: Record, metric: str) -> str:
    """The Markdown table of a metric: a line for each strategy, with means, gains and medians over songs."""
    system = as_cantisani2021(record.experiment().system, record.run)
    cells = {(row["strategy"], row["stem"], row["over"]): row for row in rows if row["metric"] == metric}
    references = (BASE, MIXTURE) if metric in SDR.values() else (BASE,)
    columns = ["", "#TP", *STEMS, ALL, *(f"over {title_of(name)}, {ALL}" for name in references)]
    columns += [f"median of songs: {stem}" for stem in STEMS]
    lines = []
    for name in dict.fromkeys(strategy for strategy, _, _ in cells):
        count = trained_parameters(system, name.split()[0])
        scores = [_cell(cells.get((name, stem, ""))) for stem in (*STEMS, ALL)]
        gains = [_cell(cells.get((name, ALL, reference)), "+") for reference in references]
        medians = [cells.get((name, stem, "")) for stem in STEMS]
        medians = [f"{row['median_of_songs']:.2f}" if row else "–" for row in medians]
        lines.append([title_of(name), f"{count:,}" if count else "–", *scores, *gains, *medians])
    title = f"{metric} in dB, median over frames, mean over songs ± 95 %"
    return published.markdown(title, columns, lines)


def comparison_table(rows: Sequence[dict[str, Any]]) -> str:
    """The Markdown table of the paired differences."""
    columns = ["difference", "metric", "stem", "songs", "mean ± 95 % over songs", "seeds", "mean ± 95 % over seeds"]
    lines = []
    for row in rows:
        name = f"({title_of(row['first'])}) − ({title_of(row['second'])})"
        seeds = str(row["seeds"]["count"]) if row["seeds"] else "1"
        scores = [str(row["items"]["count"]), _cell(row["items"], "+"), seeds, _cell(row["seeds"], "+")]
        lines.append([name, row["metric"], row["stem"], *scores])
    return published.markdown("Activations minus the control with as many updates, dB", columns, lines, 3)


def heading(records: Sequence[Record]) -> str:
    """What the tables are of: songs, protocol, pretraining, and what the intervals are over."""
    first, runs = records[0], ", ".join(record.run for record in records)
    share = 100 * float(np.mean([record.budget["share_of_paper"] for record in records]))
    weights = first.config["train"]["weights"]
    audio = "published weights" if weights else f"audio heard {share:.2f} % of the paper's"
    over = "seeds" if len(records) > 1 else "songs"
    data = f"{first.data['corpus']}, {first.data['split']} split; {first.protocol}"
    return f"{data}; pretraining: {runs}, {audio}; intervals over {over}"


def tables(records: Sequence[Record]) -> dict[str, str]:
    """The Markdown text of each table by its name; a table without any score is left out.

    `sounding` and `published` are the SDR by both rules of frames, then come `PES`, `EPS`, `control` and `paper`.
    """
    rows, differences = rows_of(records), comparison(records)
    metrics = {**SDR, "PES": "PES", "EPS": "EPS"}
    scored = {name: metric for name, metric in metrics.items() if any(row["metric"] == metric for row in rows)}
    texts = {name: table(rows, records[0], metric) for name, metric in scored.items()}
    texts["sounding"] = f"{heading(records)}\n\n{texts['sounding']}"
    if differences:
        texts["control"] = comparison_table(differences)
    return {**texts, "paper": paper_table()}


def _cell(row: dict[str, Any] | None, sign: str = "") -> str:
    return f"{row['mean']:{sign}.2f} ± {row['ci95']:.2f}" if row else "–"


def results(records: Sequence[Record]) -> tuple[list[dict[str, Any]], str]:
    """The rows and the text of the tables."""
    return [*rows_of(records), *comparison(records)], "\n".join(tables(records).values())


def main() -> None:
    tabulation.main(Table, "python -m benchmarks.papers.cantisani2021.table", EXAMPLE, results)


if __name__ == "__main__":
    console.run(main)
