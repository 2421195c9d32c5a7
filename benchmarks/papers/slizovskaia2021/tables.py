"""Tables II to IV: `python -m benchmarks.papers.slizovskaia2021.tables --runs runs/exp1 runs/exp6 runs/exp9`.

The tables have evaluated runs in the form of the paper, and below them the paper's lines. As in the paper, a dot marks
a score that does not differ significantly from experiment 1 (Table II) or 6 (III, IV), and the best score after two
Wiener iterations is bold.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from benchmarks.papers import published
from benchmarks.papers.slizovskaia2021.paper import METRICS, TABLES, Published
from benchmarks.papers.slizovskaia2021.runs import BASELINES, Key, Run, read_all
from qsep_jax.command_line import console
from qsep_jax.metrics.aggregate import summarize

EXAMPLE = "python -m benchmarks.papers.slizovskaia2021.tables --runs runs/exp1 runs/exp6 runs/exp9 --out runs/tables"
# The experiment that each table compares with. The last table has the attempts of section 5.4, for which the paper has
# no numbers.
BASE_EXPERIMENTS = {"II": 1, "III": 6, "IV": 6, "5.4": 6}
ATTEMPTS = (
    Published("w/o conditioning", 6, 2, ()),
    Published("magnitudes by L2", 22, 2, ()),
    Published("classifier at the bottleneck", 23, 2, ()),
)
# The estimate of each bound, and the letter in the column of experiments.
BOUNDS = {"IRM": ("irm", "U"), "input mix": ("mixture", "L")}
LEVEL = 0.05
DOT = "·"

Row = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Tables:
    """Compare evaluated runs of configs/slizovskaia2021.py, as in Tables II to IV.

    Attributes:
      runs: Run folders evaluated with `qsep evaluate segments`; their configs tell the experiments.
      corpus: Corpus of the evaluation (by default, the runs').
      split: Split of the corpus.
      out: Folder for the tables and their rows.
    """

    runs: tuple[Path, ...] = ()
    corpus: str = ""
    split: str = "test"
    out: Path = Path("runs/tables")


def significance(scores: Mapping[Key, float], base: Mapping[Key, float]) -> Row:
    """The p-values of the paired t-test and of Wilcoxon's signed-rank test, over the segments that both have.

    The t-test compares the means, which the tables show; Wilcoxon's test does not need normal differences. Segments of
    the same piece are more similar than either test assumes.
    """
    common = sorted(scores.keys() & base.keys())
    differences = np.array([scores[key] - base[key] for key in common])
    if len(common) < 2:
        return {"pairs": len(common)}
    facts = {"pairs": len(common), "difference": float(differences.mean())}
    if np.ptp(differences) < 1e-9:  # the tests need differences that vary
        p = float(abs(differences[0]) < 1e-9)
        return {**facts, "p_t": p, "p_wilcoxon": p}
    t: Any = stats.ttest_1samp(differences, 0.0)
    ranks: Any = stats.wilcoxon(differences, method="approx")
    return {**facts, "p_t": float(t.pvalue), "p_wilcoxon": float(ranks.pvalue)}


def best(means: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The best mean of each metric: the lowest PES, and the highest of all others."""
    best_means = {}
    for metric in METRICS:
        values = [method_means[metric] for method_means in means if metric in method_means]
        if values:
            best_means[metric] = min(values) if metric == "PES" else max(values)
    return best_means


def rows_of(run: Run, estimate: str, base: Run | None) -> list[Row]:
    """The rows of an estimate, one for each metric; reported estimates are compared with those of the base run."""
    rows = []
    for metric in METRICS:
        values = run.of(estimate, metric)
        # No PES: ideal masks are zero for silent sources, and SoP separates no silent sources.
        if not values.size or (metric == "PES" and (estimate == "irm" or run.experiment in BASELINES)):
            continue
        row: Row = {"run": run.name, "variation": run.variation, "estimate": estimate, "metric": metric}
        row |= dataclasses.asdict(summarize(values))
        row["std"] = float(values.std(ddof=1)) if values.size > 1 else 0.0
        if base and base is not run and estimate == run.reported == base.reported:
            row["against"] = base.experiment
            row |= significance(run.values(estimate, metric), base.values(estimate, metric))
        rows.append(row)
    return rows


def lines_of(runs: Sequence[Run], name: str) -> list[Row]:
    """The rows of a table: the bounds, then the experiments of the table for which there are runs."""
    base = next((run for run in runs if run.experiment == BASE_EXPERIMENTS[name] and run.reported in run.scores), None)
    table_rows = []
    for line in TABLES.get(name, ATTEMPTS):
        facts = {"table": name, "method": line.method, "experiment": line.experiment, "frames": line.frames}
        if line.method in BOUNDS:
            estimate, _ = BOUNDS[line.method]
            scored_run = next((run for run in runs if estimate in run.scores), None)
            rows = rows_of(scored_run, estimate, None) if scored_run else []
            table_rows += [{**facts, "wiener": 0, **row, "run": ""} for row in rows]
        for run in runs:
            if run.experiment == line.experiment:
                for count in _iterations(run):
                    # Table II has a line of experiment 1 for each number of iterations.
                    if (name, line.experiment) != ("II", 1) or count == line.wiener:
                        rows = rows_of(run, f"model_w{count}", base)
                        table_rows += [{**facts, "wiener": count, **row} for row in rows]
    return table_rows


def _iterations(run: Run) -> list[int]:
    """The numbers of Wiener iterations that were scored; SoP's masks are not filtered."""
    counts = sorted(int(kind.removeprefix("model_w")) for kind in run.scores if kind.startswith("model_w"))
    return [0] if run.experiment in BASELINES else counts


def table(rows: Sequence[Row], name: str, heading: str) -> str:
    """The Markdown table: our lines, then the paper's."""
    ours: dict[tuple[Any, ...], dict[str, Row]] = {}
    for row in rows:
        key = (_method_name(row), row["frames"], _number(row["method"], row["experiment"]), row["wiener"])
        ours.setdefault(key, {})[row["metric"]] = row
    paper = {
        (f"{line.method}, paper", line.frames, _number(line.method, line.experiment), line.wiener): {
            metric: {"mean": score[0], "std": score[1]}
            for metric, score in zip(METRICS, line.scores, strict=True)
            if score
        }
        for line in TABLES.get(name, ())
    }
    lines = []
    for cells in (ours, paper):
        means = [
            {metric: row["mean"] for metric, row in by_metric.items()}
            for key, by_metric in cells.items()
            if key[-1] == 2
        ]
        best_means = best(means)
        for key, by_metric in cells.items():
            bold = best_means if key[-1] == 2 else {}
            texts = [cell(by_metric.get(metric), bold.get(metric)) for metric in METRICS]
            lines.append([*map(str, key), *texts])
    columns = ["method", "frames", "exp.", "W", *METRICS]
    indices = [index for index, column in enumerate(columns) if column != "frames" or name == "IV"]
    return published.markdown(heading, [columns[n] for n in indices], [[line[n] for n in indices] for line in lines])


def _method_name(row: Row) -> str:
    default_name = row["run"] in ("", f"exp{row['experiment']}")
    notes = [note for note in (row["variation"], "" if default_name else row["run"]) if note]
    return f"{row['method']} ({'; '.join(notes)})" if notes else row["method"]


def _number(method: str, experiment: int) -> str:
    return BOUNDS[method][1] if method in BOUNDS else str(experiment)


def cell(row: Mapping[str, Any] | None, best_mean: float | None) -> str:
    """Mean ± standard deviation, bold for the best mean, with a dot if the difference is not significant."""
    if row is None:
        return "n/a"
    text = f"{row['mean']:.1f} ± {row['std']:.1f}"
    text = f"**{text}**" if row["mean"] == best_mean else text
    return f"{text} {DOT}" if row.get("p_t", 0.0) >= LEVEL else text


def heading_of(runs: Sequence[Run], rows: Sequence[Row], name: str) -> str:
    """The heading of a table: its data, and the meaning of its marks."""
    base, tracks = BASE_EXPERIMENTS[name], runs[0].tracks
    counts = {metric: max((row["count"] for row in rows if row["metric"] == metric), default=0) for metric in METRICS}
    title = f"Table {name}" if name in TABLES else f"Section {name}"
    text = f"{title}. {runs[0].corpus}, {runs[0].split} split, {len(tracks)} tracks; {tracks[0].protocol}; dB: mean ± "
    text += f"standard deviation over segments and sources (SI-SDR {counts['SI-SDR']}, PES {counts['PES']}, "
    text += f"SDR {counts['SDR']}); the paper's rows are for URMP. Bold: the best mean at W = 2"
    tested = [row for row in rows if "p_t" in row]
    if not tested:
        return f"{text}; no run to compare with experiment {base}"
    text += f"; {DOT}: no significant difference from experiment {base} (paired t-test, p ≥ {LEVEL})"
    disagreeing = [row for row in tested if (row["p_t"] < LEVEL) != (row["p_wilcoxon"] < LEVEL)]
    names = ", ".join(f"{row['metric']} of {row['experiment']}" for row in disagreeing)
    return f"{text}; Wilcoxon's signed-rank test disagrees for {names or 'none'}"


def rows_of_tables(runs: Sequence[Run]) -> dict[str, list[Row]]:
    """The rows of each table by its name; the attempts of section 5.4 have a table if one of them was run."""
    has_attempts = any(run.experiment in (22, 23) for run in runs)
    data = {"corpus": runs[0].corpus, "split": runs[0].split}
    return {
        name: [{**data, **row} for row in lines_of(runs, name)]
        for name in BASE_EXPERIMENTS
        if name in TABLES or has_attempts
    }


def texts(runs: Sequence[Run], rows: Mapping[str, Sequence[Row]]) -> dict[str, str]:
    """The Markdown text of each table by its name, from the rows of `rows_of_tables`."""
    return {name: table(rows[name], name, heading_of(runs, rows[name], name)) for name in rows}


def main() -> None:
    options = console.parse(Tables, "python -m benchmarks.papers.slizovskaia2021.tables", EXAMPLE)
    runs = read_all(options.runs, options.corpus, options.split)
    rows = rows_of_tables(runs)
    options.out.mkdir(parents=True, exist_ok=True)
    published.publish(
        options.out, [row for table_rows in rows.values() for row in table_rows], "\n".join(texts(runs, rows).values())
    )


if __name__ == "__main__":
    console.run(main)
