"""Table 1: `python -m benchmarks.papers.lin2021.table --workdir runs/msi --workdir runs/mss …`.

The last checkpoints of each run separate and transcribe pairs of instruments, some of which are in the training set
(seen) and some are not (unseen). The table has the results and the paper's numbers, which are for URMP.
"""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from benchmarks.papers import published
from benchmarks.papers.lin2021 import figures
from benchmarks.papers.lin2021.pairs import load_run
from benchmarks.papers.lin2021.scoring import ScoreOptions, Scores, name_of, score_run
from data_pipelines.prepared.corpus import Corpus
from data_pipelines.schema import INSTRUMENTS, SEEN_INSTRUMENTS
from qsep_jax.command_line import console

EXAMPLE = "python -m benchmarks.papers.lin2021.table --workdir runs/msi --workdir runs/mss --out runs/table"
# Table 1, URMP: SDR in dB and precision for seen, unseen and all instruments, mean ± 95 % over the last 10 epochs. The
# last two rows are not in the paper; the authors' code repository has them.
PAPER = {
    "AMT-only": ("–", "–", "–", "0.72 ± 0.01", "0.61 ± 0.01", "0.69 ± 0.01"),
    "MSS-only": ("4.69 ± 0.31", "6.20 ± 0.26", "5.07 ± 0.22", "–", "–", "–"),
    "multi-task": ("3.32 ± 0.18", "4.63 ± 0.34", "3.65 ± 0.22", "0.72 ± 0.04", "0.58 ± 0.02", "0.69 ± 0.03"),
    "MSI": ("6.33 ± 0.17", "5.53 ± 0.15", "6.13 ± 0.15", "0.71 ± 0.01", "0.61 ± 0.01", "0.69 ± 0.01"),
    "MSI-DIS": ("5.04 ± 0.16", "3.99 ± 0.22", "4.77 ± 0.14", "0.72 ± 0.01", "0.59 ± 0.01", "0.68 ± 0.00"),
    "MSI-S": ("9.07", "9.64", "9.22", "–", "–", "–"),
    "MSI-DIS-S": ("7.34", "7.05", "7.26", "–", "–", "–"),
}
GROUPS = ("seen", "unseen", "all")


@dataclasses.dataclass(frozen=True)
class Table(ScoreOptions):
    """Evaluate runs of configs/lin2021.py as in Table 1, also with the true notes as the condition.

    The table has means over the checkpoints that are scored.

    Attributes:
      workdir: Run folder; the option may be repeated.
      out: Folder for the table, the rows and the figures (by default, `lin2021` in the first run folder).
    """

    workdir: tyro.conf.UseAppendAction[tuple[Path, ...]] = ()
    out: Path | None = None


def group_means(scores: Scores, key: str) -> dict[str, float]:
    """The mean over the sources of seen, unseen and all instruments; NaN for a group without sources."""
    means = {}
    for group in GROUPS:
        values = [
            row[key]
            for row in scores
            if key in row and (group == "all" or (row["stem"] in SEEN_INSTRUMENTS) == (group == "seen"))
        ]
        means[group] = float(np.nanmean(values)) if values else float("nan")
    return means


def over_checkpoints(by_step: dict[int, Scores], key: str) -> dict[str, tuple[float, float]]:
    """The mean and the 95 % interval (`1.96 σ / √n`, as in the authors' code) over the checkpoints, by group."""
    means = [group_means(scores, key) for scores in by_step.values()]
    summaries = {}
    for group in GROUPS:
        values = np.array([checkpoint_means[group] for checkpoint_means in means])
        summaries[group] = (float(values.mean()), float(1.96 * values.std() / np.sqrt(len(values))))
    return summaries


def rows_of(name: str, by_step: dict[int, Scores], facts: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows of `results.json` for one run: one for each metric and each group or instrument."""
    names = {"sdr": name, "ap": name, "f1": name, "f1_by_other": name, "sdr_by_score": f"{name}-S"}
    names |= {"mixture": "mixture", "irm": "ideal ratio mask"}
    metrics = {"sdr_by_score": "sdr", "mixture": "sdr", "irm": "sdr"}
    first_scores = next(iter(by_step.values()))
    rows = []
    for key in [key for key in names if any(key in row for row in first_scores)]:
        summaries = over_checkpoints(by_step, key)
        for stem in INSTRUMENTS:
            of_stem = {step: [row for row in scores if row["stem"] == stem] for step, scores in by_step.items()}
            if of_stem[next(iter(of_stem))]:
                summaries[stem] = over_checkpoints(of_stem, key)["all"]
        for group, (mean, interval) in summaries.items():
            row = {
                "system": names[key],
                "metric": metrics.get(key, key),
                "group": group,
                "mean": mean,
                "ci95": interval,
            }
            rows.append({**facts, **row, "checkpoints": list(by_step)})
    return rows


def table(rows: list[dict[str, Any]], heading: str) -> str:
    """The Markdown table: our rows, then the paper's."""
    cells = {(row["system"], row["metric"], row["group"]): row for row in rows}
    metrics = ("sdr", "ap", "f1", "f1_by_other")

    def cell(system: str, metric: str, group: str) -> str:
        row = cells.get((system, metric, group))
        if row is None or np.isnan(row["mean"]):
            return "–"
        return f"{row['mean']:.2f} ± {row['ci95']:.2f}" if len(row["checkpoints"]) > 1 else f"{row['mean']:.2f}"

    columns = ["system"] + [f"{name} {group}" for name in ("SDR", "AP") for group in GROUPS]
    columns += ["note F1", "note F1, query of the other instrument"]
    lines = []
    for system in dict.fromkeys(row["system"] for row in rows):
        line = [cell(system, metric, group) for metric in metrics[:2] for group in GROUPS]
        lines.append([system, *line, *(cell(system, metric, "all") for metric in metrics[2:])])
    lines += [[f"{name}, paper", *values, "–", "–"] for name, values in PAPER.items()]
    return published.markdown(f"{heading}; the paper's rows are for URMP", columns, lines)


def minutes_of_instruments(corpus: Corpus) -> dict[str, dict[str, float]]:
    """The minutes of each instrument in each split, without augmented variants (Fig. 2)."""
    minutes: dict[str, dict[str, float]] = {}
    for split, rows in corpus.metadata.index.items():
        minutes[split] = dict.fromkeys(INSTRUMENTS, 0.0)
        for row in rows:
            if not row.parent and row.stem in INSTRUMENTS:
                minutes[split][row.stem] += row.samples / corpus.sample_rate / 60
    return minutes


def evaluate(workdir: Path, options: Table) -> tuple[list[dict[str, Any]], str]:
    """The rows of one run and of the bounds, and a heading for them."""
    scored = score_run(workdir, options)
    rows = rows_of("bounds", {0: scored.bounds}, scored.facts)
    run_facts = {**scored.facts, "run": scored.run.path.resolve().name}
    return rows + rows_of(name_of(scored.system), scored.by_step, run_facts), scored.heading


def main() -> None:
    options = console.parse(Table, "python -m benchmarks.papers.lin2021.table", EXAMPLE)
    if not options.workdir:
        raise ValueError(f"--workdir is needed. Example: {EXAMPLE}")
    console.need_positive(options, "checkpoints")
    console.cache_compilations()
    out = options.out or options.workdir[0] / "lin2021"
    out.mkdir(parents=True, exist_ok=True)
    results = [evaluate(workdir, options) for workdir in options.workdir]
    rows, heading = results[0]
    rows += [row for run_rows, _ in results[1:] for row in run_rows if "run" in row]  # the bounds only once
    figures.plot_instruments(rows, out / "instruments.png")
    _, corpus = load_run(options.workdir[0], options.corpus, options.root)
    figures.plot_durations(minutes_of_instruments(corpus), out / "durations.png")
    published.publish(out, rows, table(rows, heading))


if __name__ == "__main__":
    console.run(main)
