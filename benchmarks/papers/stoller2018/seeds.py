"""The table of the slides from records: `python -m benchmarks.papers.stoller2018.seeds --record DIR --out DIR`.

The means are over songs, of all corpora together and of each. Their intervals are over seeds, or over songs where a
system was trained once. A second table compares V and VA with the baseline on the same songs.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.papers import intervals, published, tabulation
from benchmarks.papers.records import Record, by_seed, check_comparable
from benchmarks.papers.stoller2018 import paper
from benchmarks.papers.stoller2018.score import as_published
from benchmarks.papers.stoller2018.table import ALL, METRICS, paper_table, system_of
from benchmarks.papers.tabulation import RecordOptions
from data_pipelines import console

EXAMPLE = "python -m benchmarks.papers.stoller2018.seeds --record records --out table"
STEMS = ("vocals", "accompaniment")
MIXTURE = "mixture"
# The SDR minus that of the mixture: the NSDR of the published test script.
IMPROVEMENT = "SDR improvement"


@dataclasses.dataclass(frozen=True)
class Seeds(RecordOptions):
    """Compare the systems of the slides from their records."""

    out: Path = Path("evaluation/stoller2018/seeds")


def name_of(record: Record) -> str:
    """The slides' name of the system of a record."""
    return system_of(as_published(record.experiment().system))


def scores_of(record: Record, metric: str, stem: str, corpus: str) -> dict[tuple[str, str], float]:
    """A metric by corpus and song; songs without the score are left out. `mixture_SDR` is the SDR of the mixture."""
    if metric == IMPROVEMENT:
        sdr, before = (scores_of(record, name, stem, corpus) for name in ("SDR", "mixture_SDR"))
        return intervals.difference(sdr, before)
    return {
        (row["corpus"], row["track"]): row[metric]
        for row in record.scores
        if row["stem"] == stem and corpus in (ALL, row["corpus"]) and row[metric] is not None
    }


def test_sets(records: Sequence[Record]) -> list[str]:
    """The corpora of the records, and before them all together if there are several."""
    corpora = list(dict.fromkeys(row["corpus"] for row in records[0].scores))
    return [*([ALL] if len(corpora) > 1 else []), *corpora]


def by_system(records: Sequence[Record]) -> dict[str, dict[int, Record]]:
    """The records of each system by seed, in the order of the slides.

    Raises:
      ValueError: if two records are of the same system and seed.
    """
    members = {name: [record for record in records if name_of(record) == name] for name in paper.SYSTEMS}
    return {name: by_seed(runs) for name, runs in members.items() if runs}


def rows_of(records: Sequence[Record]) -> list[dict[str, Any]]:
    """A row for each system, test set, metric and stem.

    Raises:
      ValueError: if the records are not of the same songs and the same protocol.
    """
    check_comparable(records)
    rows = []

    def add(system: str, metric: str, members: Sequence[Record], stored: str) -> None:
        share = float(np.mean([record.budget["share_of_paper"] for record in members]))
        facts = {"runs": [record.run for record in members], "share_of_paper": share}
        for corpus in test_sets(records):
            for stem in STEMS:
                runs = [scores_of(record, stored, stem, corpus) for record in members]
                if summary := intervals.mean_of(runs):
                    songs = len({song for run in runs for song in run})
                    place = {"system": system, "corpus": corpus, "metric": metric, "stem": stem, "songs": songs}
                    rows.append({**place, **dataclasses.asdict(summary), **facts})

    for metric in METRICS:
        add(MIXTURE, metric, records[:1], f"mixture_{metric}")
    for system, members in by_system(records).items():
        for metric in (*METRICS, IMPROVEMENT):
            add(system, metric, list(members.values()), metric)
    return rows


def comparison(records: Sequence[Record]) -> list[dict[str, Any]]:
    """The paired differences of V and VA to the baseline, over songs and, with several seeds, over seeds."""
    systems, rows = by_system(records), []
    for first in ("V", "VA"):
        if not {first, "baseline"} <= set(systems):
            continue
        for corpus in test_sets(records):
            for metric in METRICS:
                for stem in STEMS:
                    scores = (
                        {seed: scores_of(record, metric, stem, corpus) for seed, record in systems[name].items()}
                        for name in (first, "baseline")
                    )
                    if pair := intervals.paired(*scores):
                        place = {"first": first, "second": "baseline", "corpus": corpus, "metric": metric, "stem": stem}
                        rows.append({**place, **dataclasses.asdict(pair)})
    return rows


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The Markdown table with a line for each test set and system."""
    cells = {(row["corpus"], row["system"], row["metric"], row["stem"]): row for row in rows}
    columns = ["test set", "system", "songs", "seeds", "audio heard, share of the paper's"]
    metrics = ("SDR", IMPROVEMENT, "SIR", "SAR")
    columns += [f"{metric} {stem}" for metric in metrics for stem in STEMS]
    lines = []
    for corpus, system in dict.fromkeys((row["corpus"], row["system"]) for row in rows):
        row = next(row for row in rows if (row["corpus"], row["system"]) == (corpus, system))
        budget = [str(len(row["runs"])), f"{100 * row['share_of_paper']:.2f} %"] if system != MIXTURE else ["–", "–"]
        scores = [cells.get((corpus, system, metric, stem)) for metric in metrics for stem in STEMS]
        lines.append([corpus, system, str(row["songs"]), *budget, *map(_cell, scores)])
    return published.markdown("dB; ± 95 %: over seeds, or over songs for a single seed", columns, lines, 2)


def comparison_table(rows: Sequence[dict[str, Any]]) -> str:
    """The Markdown table of the paired differences."""
    columns = ["difference", "test set", "metric", "songs", "mean ± 95 % over songs", "seeds", "mean ± 95 % over seeds"]
    lines = []
    for row in rows:
        name, metric = f"{row['first']} − {row['second']}", f"{row['metric']} {row['stem']}"
        seeds = str(row["seeds"]["count"]) if row["seeds"] else "1"
        songs = [str(row["items"]["count"]), _cell(row["items"], "+"), seeds, _cell(row["seeds"], "+")]
        lines.append([name, row["corpus"], metric, *songs])
    return published.markdown("dB, on the same songs", columns, lines, 3)


def tables(records: Sequence[Record]) -> dict[str, str]:
    """The Markdown text of each table by its name.

    `systems`, `differences` if there are two systems to compare, and `paper` if a test set is one of the paper's.
    """
    data, differences = records[0].data, comparison(records)
    heading = f"{data['corpus']}, {data['split']} split; {records[0].protocol}"
    texts = {"systems": f"{heading}\n\n{table(rows_of(records))}"}
    if differences:
        texts["differences"] = comparison_table(differences)
    if set(test_sets(records)) & set(paper.TEST_SETS[1:]):
        texts["paper"] = paper_table()
    return texts


def _cell(row: dict[str, Any] | None, sign: str = "") -> str:
    return f"{row['mean']:{sign}.2f} ± {row['ci95']:.2f}" if row else "–"


def results(records: Sequence[Record]) -> tuple[list[dict[str, Any]], str]:
    """The rows and the text of the tables."""
    return [*rows_of(records), *comparison(records)], "\n".join(tables(records).values())


def main() -> None:
    tabulation.main(Seeds, "python -m benchmarks.papers.stoller2018.seeds", EXAMPLE, results)


if __name__ == "__main__":
    console.run(main)
