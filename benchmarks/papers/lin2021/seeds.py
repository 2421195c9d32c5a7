"""Table 1 from records, over several seeds: `python -m benchmarks.papers.lin2021.seeds --record DIR --out DIR`.

The paper gives intervals over checkpoints of a single training. These intervals say how precisely one network is
measured, and not whether one system is better than another; for that, this table has intervals over seeds, or over
sources where a system was trained once, and the improvement over the mixture.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.papers import intervals, published, tabulation
from benchmarks.papers.lin2021.pairs import as_lin2021
from benchmarks.papers.lin2021.scoring import name_of
from benchmarks.papers.records import Record, check_comparable
from benchmarks.papers.tabulation import RecordOptions
from data_pipelines import console
from data_pipelines.schema import SEEN_INSTRUMENTS
from qsep_jax.metrics.aggregate import Summary

EXAMPLE = "python -m benchmarks.papers.lin2021.seeds --record records --out seeds"
GROUPS = ("seen", "unseen", "all")
# Names of the metrics in the records, and the suffix of a system's name if it is given the true notes.
METRICS = {"sdr": "", "ap": "", "f1": "", "sdr_by_score": "-S"}


@dataclasses.dataclass(frozen=True)
class Seeds(RecordOptions):
    """Compare the systems of Table 1 from their records."""

    out: Path = Path("evaluation/lin2021/seeds")


def system_of(record: Record) -> str:
    """The paper's name of the system of a record."""
    return name_of(as_lin2021(record.experiment().system, record.run))


def source_means(record: Record, metric: str) -> dict[tuple[str, str, int], float]:
    """The mean of a metric over the checkpoints, by source: track, stem and place in its pair."""
    values: dict[tuple[str, str, int], list[float]] = {}
    for row in record.scores:
        if metric in row:
            values.setdefault((row["track"], row["stem"], row["place"]), []).append(row[metric])
    return {source: float(np.mean(numbers)) for source, numbers in values.items()}


def summary_of(runs: Sequence[dict[tuple[str, str, int], float]], group: str) -> Summary:
    """The mean over the sources of a group; the interval is over seeds, or over sources if there is a single run."""

    def belongs(source: tuple[str, str, int]) -> bool:
        return group == "all" or (source[1] in SEEN_INSTRUMENTS) == (group == "seen")

    summary = intervals.mean_of([{source: run[source] for source in run if belongs(source)} for run in runs])
    if summary is None:
        raise ValueError(f"no source of the group '{group}' has a score")
    return summary


def rows_of(records: Sequence[Record]) -> list[dict[str, Any]]:
    """A row for each system, metric and group; `improvement` is the SDR minus that of the mixture.

    Raises:
      ValueError: if the records are not of the same mixtures and the same protocol.
    """
    check_comparable(records)
    rows = []

    def add(system: str, metric: str, runs: Sequence[dict], records: Sequence[Record]) -> None:
        for group in GROUPS:
            summary = dataclasses.asdict(summary_of(runs, group))
            share = float(np.mean([record.budget["share_of_paper"] for record in records]))
            facts = {"runs": [record.run for record in records], "share_of_paper": share}
            rows.append({"system": system, "metric": metric, "group": group, **summary, **facts})

    for bound in ("mixture", "irm"):
        add({"irm": "ideal ratio mask"}.get(bound, bound), "sdr", [source_means(records[0], bound)], records[:1])
    for system in dict.fromkeys(map(system_of, records)):
        members = [record for record in records if system_of(record) == system]
        for metric, suffix in METRICS.items():
            runs = [source_means(record, metric) for record in members]
            if not runs[0]:
                continue
            add(system + suffix, "sdr" if metric == "sdr_by_score" else metric, runs, members)
            if metric.startswith("sdr"):
                before = [source_means(record, "mixture") for record in members]
                gains = [intervals.difference(run, mixture) for run, mixture in zip(runs, before, strict=True)]
                add(system + suffix, "improvement", gains, members)
    return rows


def paired(records: Sequence[Record], first: str, second: str, group: str) -> Summary:
    """The SDR of one system minus that of another on the same sources, with the interval over sources.

    The scores of a source are first averaged over the seeds of each system.
    """
    means = {
        name: intervals.over_runs([source_means(record, "sdr") for record in records if system_of(record) == name])
        for name in (first, second)
    }
    return summary_of([intervals.difference(means[first], means[second])], group)


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The Markdown table with a line for each system."""
    cells: dict[tuple[str, str, str], dict] = {(row["system"], row["metric"], row["group"]): row for row in rows}
    kinds = {"sdr": "SDR", "improvement": "improvement", "ap": "AP"}
    columns = ["system", "seeds", "audio heard, share of the paper's"]
    columns += [f"{kind} {group}" for kind in kinds.values() for group in GROUPS] + ["note F1"]

    def cell(system: str, metric: str, group: str) -> str:
        row = cells.get((system, metric, group))
        return f"{row['mean']:.2f} ± {row['ci95']:.2f}" if row else "–"

    lines = []
    for system in dict.fromkeys(row["system"] for row in rows):
        row = cells[system, "sdr" if (system, "sdr", "all") in cells else "ap", "all"]
        is_bound = system in ("mixture", "ideal ratio mask")
        budget = ["–", "–"] if is_bound else [str(len(row["runs"])), f"{100 * row['share_of_paper']:.2f} %"]
        scores = [cell(system, metric, group) for metric in kinds for group in GROUPS]
        lines.append([system, *budget, *scores, cell(system, "f1", "all")])
    return published.markdown("dB; ± 95 %: over seeds, or over sources for a single seed", columns, lines)


def comparison(records: Sequence[Record]) -> list[dict[str, Any]]:
    """The paired differences of MSI to the systems that the paper compares it with."""
    systems = {system_of(record) for record in records}
    return [
        {"first": "MSI", "second": other, "group": group, **dataclasses.asdict(paired(records, "MSI", other, group))}
        for other in ("MSS-only", "multi-task", "MSI-DIS")
        if {"MSI", other} <= systems
        for group in GROUPS
    ]


def comparison_table(rows: Sequence[dict[str, Any]]) -> str:
    """The Markdown table of the paired differences."""
    lines = [
        [
            f"{row['first']} − {row['second']}",
            row["group"],
            str(row["count"]),
            f"{row['mean']:+.2f} ± {row['ci95']:.2f}",
        ]
        for row in rows
    ]
    return published.markdown("SDR, dB", ["difference", "instruments", "sources", "mean ± 95 % over sources"], lines)


def tables(records: Sequence[Record]) -> dict[str, str]:
    """The Markdown text of each table by its name: `systems`, and `differences` if there are two to compare."""
    heading = f"{records[0].data['corpus']}, test split; {records[0].protocol}"
    texts, differences = {"systems": f"{heading}\n\n{table(rows_of(records))}"}, comparison(records)
    return texts | ({"differences": comparison_table(differences)} if differences else {})


def results(records: Sequence[Record]) -> tuple[list[dict[str, Any]], str]:
    """The rows and the text of the tables."""
    return [*rows_of(records), *comparison(records)], "\n".join(tables(records).values())


def main() -> None:
    tabulation.main(Seeds, "python -m benchmarks.papers.lin2021.seeds", EXAMPLE, results)


if __name__ == "__main__":
    console.run(main)
