"""Tables II to IV: `python -m benchmarks.papers.slizovskaia2021.tables --runs runs/exp1 runs/exp6 runs/exp9`.

Evaluated runs in the form of the paper, whose lines stand below ours. As there, what does not differ significantly from
experiment 1 (Table II) or 6 (III, IV) is dotted, and the best after two Wiener iterations is bold.
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
# What each table compares with; the last one holds the attempts of section 5.4, which have no numbers in the paper.
AGAINST = {"II": 1, "III": 6, "IV": 6, "5.4": 6}
ATTEMPTS = (
    Published("w/o conditioning", 6, 2, ()),
    Published("magnitudes by L2", 22, 2, ()),
    Published("classifier at the bottleneck", 23, 2, ()),
)
# The estimate of each bound, and what stands in place of an experiment.
BOUNDS = {"IRM": ("irm", "U"), "input mix": ("mixture", "L")}
LEVEL = 0.05
DOT = "·"

Row = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Tables:
    """Set evaluated runs of configs/slizovskaia2021.py beside each other, as Tables II to IV do.

    Attributes:
      runs: run folders that `evaluate --protocol segments` has been through; experiments are known by their configs.
      corpus: that they were evaluated on; by default their own.
      split: of the corpus.
      out: where the tables and their rows go.
    """

    runs: tuple[Path, ...] = ()
    corpus: str = ""
    split: str = "test"
    out: Path = Path("runs/tables")


def significance(found: Mapping[Key, float], base: Mapping[Key, float]) -> Row:
    """p of the paired t-test and of Wilcoxon's signed-rank test, over the segments of sources that both have.

    The t-test is of the means, which the tables show; Wilcoxon's does not need differences to be normal. Segments of
    one piece are more alike than either test assumes.
    """
    common = sorted(found.keys() & base.keys())
    differences = np.array([found[key] - base[key] for key in common])
    if len(common) < 2:
        return {"pairs": len(common)}
    facts = {"pairs": len(common), "difference": float(differences.mean())}
    if np.ptp(differences) < 1e-9:  # no spread to set the mean against
        same = float(abs(differences[0]) < 1e-9)
        return {**facts, "p_t": same, "p_wilcoxon": same}
    t: Any = stats.ttest_1samp(differences, 0.0)
    ranks: Any = stats.wilcoxon(differences, method="approx")
    return {**facts, "p_t": float(t.pvalue), "p_wilcoxon": float(ranks.pvalue)}


def best(means: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The best mean of each metric: the lowest PES, the highest of all others."""
    found = {}
    for metric in METRICS:
        values = [each[metric] for each in means if metric in each]
        if values:
            found[metric] = min(values) if metric == "PES" else max(values)
    return found


def rows_of(run: Run, estimate: str, base: Run | None) -> list[Row]:
    """The rows of an estimate, a metric each; compared with another run where both are as reported."""
    rows = []
    for metric in METRICS:
        values = run.of(estimate, metric)
        # A mask made of the true sources knows who is silent, and SoP is never asked for him.
        if not values.size or (metric == "PES" and (estimate == "irm" or run.experiment in BASELINES)):
            continue
        row: Row = {"run": run.name, "estimate": estimate, "metric": metric, **dataclasses.asdict(summarize(values))}
        row["std"] = float(values.std(ddof=1)) if values.size > 1 else 0.0
        if base and base is not run and estimate == run.reported == base.reported:
            row["against"] = base.experiment
            row |= significance(run.values(estimate, metric), base.values(estimate, metric))
        rows.append(row)
    return rows


def lines_of(runs: Sequence[Run], name: str) -> list[Row]:
    """The rows of a table: bounds, then each experiment of it that there is a run of."""
    base = next((run for run in runs if run.experiment == AGAINST[name] and run.reported in run.scores), None)
    found = []
    for line in TABLES.get(name, ATTEMPTS):
        facts = {"table": name, "method": line.method, "experiment": line.experiment, "frames": line.frames}
        if line.method in BOUNDS:
            estimate, _ = BOUNDS[line.method]
            some = next((run for run in runs if estimate in run.scores), None)
            rows = rows_of(some, estimate, None) if some else []
            found += [{**facts, "wiener": 0, **row, "run": ""} for row in rows]
        for run in runs:
            if run.experiment == line.experiment:
                for count in _iterations(run):
                    # Table II has a line of experiment 1 for each number of iterations.
                    if (name, line.experiment) != ("II", 1) or count == line.wiener:
                        rows = rows_of(run, f"model_w{count}", base)
                        found += [{**facts, "wiener": count, **row} for row in rows]
    return found


def _iterations(run: Run) -> list[int]:
    """The numbers of Wiener iterations that were scored; SoP's masks are taken as they are."""
    counts = sorted(int(kind.removeprefix("model_w")) for kind in run.scores if kind.startswith("model_w"))
    return [0] if run.experiment in BASELINES else counts


def table(rows: Sequence[Row], name: str, heading: str) -> str:
    """Ours, then the paper's."""
    ours: dict[tuple[Any, ...], dict[str, Row]] = {}
    for row in rows:
        key = (_titled(row), row["frames"], _number(row["method"], row["experiment"]), row["wiener"])
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
        highest = best([{m: row["mean"] for m, row in each.items()} for key, each in cells.items() if key[-1] == 2])
        for key, each in cells.items():
            marks = highest if key[-1] == 2 else {}
            texts = [cell(each.get(metric), marks.get(metric)) for metric in METRICS]
            lines.append([*map(str, key), *texts])
    columns = ["method", "frames", "exp.", "W", *METRICS]
    shown = [place for place, column in enumerate(columns) if column != "frames" or name == "IV"]
    return published.markdown(heading, [columns[n] for n in shown], [[line[n] for n in shown] for line in lines])


def _titled(row: Row) -> str:
    named = row["run"] in ("", f"exp{row['experiment']}")
    return row["method"] if named else f"{row['method']} ({row['run']})"


def _number(method: str, experiment: int) -> str:
    return BOUNDS[method][1] if method in BOUNDS else str(experiment)


def cell(row: Mapping[str, Any] | None, highest: float | None) -> str:
    """Mean ± standard deviation: bold where it is the best, with a dot where it is not significant."""
    if row is None:
        return "n/a"
    text = f"{row['mean']:.1f} ± {row['std']:.1f}"
    text = f"**{text}**" if row["mean"] == highest else text
    return f"{text} {DOT}" if row.get("p_t", 0.0) >= LEVEL else text


def heading_of(runs: Sequence[Run], rows: Sequence[Row], name: str) -> str:
    """What a table is of, and what its marks mean."""
    base, tracks = AGAINST[name], runs[0].tracks
    counts = {metric: max((row["count"] for row in rows if row["metric"] == metric), default=0) for metric in METRICS}
    title = f"Table {name}" if name in TABLES else f"Section {name}"
    words = f"{title}. {runs[0].corpus}, {runs[0].split} split, {len(tracks)} tracks; {tracks[0].protocol}; dB: mean ± "
    words += f"standard deviation over segments and sources (SI-SDR {counts['SI-SDR']}, PES {counts['PES']}, "
    words += f"SDR {counts['SDR']}); the paper's are of URMP. Bold: the best of W = 2"
    tested = [row for row in rows if "p_t" in row]
    if not tested:
        return f"{words}; nothing to compare with experiment {base}"
    words += f"; {DOT}: no significant difference from experiment {base} (paired t-test, p ≥ {LEVEL})"
    other = [row for row in tested if (row["p_t"] < LEVEL) != (row["p_wilcoxon"] < LEVEL)]
    names = ", ".join(f"{row['metric']} of {row['experiment']}" for row in other)
    return f"{words}; Wilcoxon's signed-rank test says otherwise of {names or 'none'}"


def main() -> None:
    options = console.parse(Tables, "python -m benchmarks.papers.slizovskaia2021.tables", EXAMPLE)
    runs = read_all(options.runs, options.corpus, options.split)
    attempted = any(run.experiment in (22, 23) for run in runs)
    rows, written = [], []
    for name in AGAINST:
        if name in TABLES or attempted:
            found = lines_of(runs, name)
            rows += [{"corpus": runs[0].corpus, "split": runs[0].split, **row} for row in found]
            written.append(table(found, name, heading_of(runs, found, name)))
    options.out.mkdir(parents=True, exist_ok=True)
    published.publish(options.out, rows, "\n".join(written))


if __name__ == "__main__":
    console.run(main)
