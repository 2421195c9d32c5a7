"""Turn the records of the benchmarks into tables and a figure: `python -m benchmarks.report --out runs/report`.

The newest run of each case counts, with all of its rows, so that compared rows were measured together. A case is a
combination of benchmark, system, config, batch, precision, number and kind of devices, and the keys that the benchmark
adds.
"""

import dataclasses
import importlib
from pathlib import Path

from benchmarks.timing import rows
from data_pipelines.files import write_text
from qsep_jax.command_line import console
from qsep_jax.figures import spectrograms

EXAMPLE = "python -m benchmarks.report --records benchmarks/records --out runs/report"
# Benchmarks by the name in their rows: the module, and the keys that distinguish its cases besides `COMMON`.
BENCHMARKS = {
    "step_time": ("benchmarks.step_time", ()),
    "step_sdr": ("benchmarks.step_sdr", ("step",)),
    "passes": ("benchmarks.passes", ("seconds", "trained", "keep")),
    "adaptation": ("benchmarks.adaptation", ("songs", "updates", "split")),
    "evaluation": ("benchmarks.evaluation", ("metrics", "seconds", "stems")),
    "separation": ("benchmarks.separation", ("seconds",)),
    "input_rate": ("benchmarks.input_rate", ("corpus",)),
}
COMMON = ("system", "config", "batch", "precision", "devices", "device")
# The figure highlights ratios to PyTorch above this one.
TARGET_RATIO = 1.0


@dataclasses.dataclass(frozen=True)
class Report:
    """Turn the records of the benchmarks into Markdown tables and a figure.

    Attributes:
      records: Folder of JSON files, which are lists of rows.
      out: Folder for `report.md` and `report.png`.
    """

    records: Path = Path("benchmarks/records")
    out: Path = Path("runs/report")


def newest(records: list[rows.Row], benchmark: str) -> list[rows.Row]:
    """The rows of the last run of each case of a benchmark; rows with the same date and command are one run."""
    keys = (*COMMON, *BENCHMARKS[benchmark][1])
    cases: dict[str, dict[tuple[str, str], list[rows.Row]]] = {}
    for row in records:
        if row.get("benchmark") == benchmark:
            runs = cases.setdefault(repr([row.get(key) for key in keys]), {})
            runs.setdefault((row["date"], row.get("command", "")), []).append(row)
    return [row for runs in cases.values() for row in runs[max(runs)]]


def tables(records: list[rows.Row]) -> str:
    """A section with a table for each benchmark, in Markdown; then the names of those without a table."""
    sections = ["# Results of the benchmarks\n"]
    for benchmark, (module, _) in BENCHMARKS.items():
        chosen = newest(records, benchmark)
        if not chosen:
            continue
        columns = [*importlib.import_module(module).COLUMNS]
        columns = [column for column in columns if any(row.get(column) is not None for row in chosen)]
        columns = list(dict.fromkeys(["date", "system", "config", *columns, "processor"]))
        lines = [[_cell(row, column) for column in columns] for row in chosen]
        body = [f"| {' | '.join(line)} |" for line in [columns, ["---"] * len(columns), *lines]]
        sections.append(f"## {benchmark}\n\n`python -m {module}`\n\n" + "\n".join(body) + "\n")
    others = sorted({str(row.get("benchmark") or "evaluations of runs") for row in records} - set(BENCHMARKS))
    if others:
        sections.append(f"The records also contain rows of {', '.join(others)}; this report has no table of them.\n")
    return "\n".join(sections)


def plot(records: list[rows.Row], path: Path) -> None:
    """Plot the ratio of JAX's time to PyTorch's in the newest run of each case.

    Raises:
      ValueError: if no record has such a ratio.
    """
    chosen = [
        row
        for benchmark in ("step_time", "passes")
        for row in newest(records, benchmark)
        if row["implementation"] == "jax" and "ratio_to_torch" in row
    ]
    if not chosen:
        raise ValueError("no record has a comparison with PyTorch")
    figure, ((axis,),) = spectrograms.subplots(1, 1, (9, 1 + 0.4 * len(chosen)))
    names, ratios = [_case(row) for row in chosen], [row["ratio_to_torch"] for row in chosen]
    axis.barh(names, ratios, color=["tab:blue" if ratio <= TARGET_RATIO else "tab:orange" for ratio in ratios])
    axis.axvline(TARGET_RATIO, color="black", linewidth=1)
    for position, ratio in enumerate(ratios):
        axis.text(ratio, position, f" {ratio:.2f}", va="center")
    axis.set(xlabel="time of JAX relative to PyTorch in the same run", xlim=(0, 1.15 * max(ratios)))
    axis.invert_yaxis()
    spectrograms.save_png(figure, path)


def _case(row: rows.Row) -> str:
    case = f"{row['config'].removeprefix('configs/')}, batch {row['batch']}, {row['precision']}"
    if row["benchmark"] == "passes":
        case += f", {row['seconds']:g} s, gradients of {row['trained']}"
    return f"{case}\n{row.get('device') or row['processor']}, {row['date'][:10]}"


def _cell(row: rows.Row, column: str) -> str:
    value = row.get(column)
    if value is None:
        return "–"
    if column == "date":
        return str(value)[:10]
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def main() -> None:
    options = console.parse(Report, "python -m benchmarks.report", EXAMPLE)
    records = [row for path in sorted(options.records.glob("*.json")) for row in rows.read(path)]
    if not records:
        raise ValueError(f"{options.records} has no records: give the folder of the benchmarks' JSON files")
    write_text(options.out / "report.md", tables(records))
    plot(records, options.out / "report.png")
    print(f"{len(records)} rows in {options.out / 'report.md'} and {options.out / 'report.png'}")


if __name__ == "__main__":
    console.run(main)
