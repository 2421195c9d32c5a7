"""What was measured, as tables and a picture: `python -m benchmarks.report --out runs/report`.

Of each case the newest run counts, with all of its rows, so that what stands side by side was measured side by side. A
case is a benchmark, system, config, batch, precision, devices, device, and whatever else tells its cases apart.
"""

import dataclasses
import importlib
from pathlib import Path

from benchmarks.timing import rows
from data_pipelines.files import write_text
from qsep_jax.command_line import console
from qsep_jax.figures import spectrograms

EXAMPLE = "python -m benchmarks.report --records benchmarks/records --out runs/report"
# Benchmarks by the name in their rows: the module, and what tells its cases apart besides `COMMON`.
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
# A comparison with PyTorch that ends above this is slower than wanted.
WANTED = 1.0


@dataclasses.dataclass(frozen=True)
class Report:
    """Draw the records of the benchmarks.

    Attributes:
      records: folder of JSON files, lists of rows.
      out: where `report.md` and `report.png` go.
    """

    records: Path = Path("benchmarks/records")
    out: Path = Path("runs/report")


def newest(found: list[rows.Row], benchmark: str) -> list[rows.Row]:
    """The rows of the last run of each case of a benchmark; a run is a date and a command."""
    keys = (*COMMON, *BENCHMARKS[benchmark][1])
    cases: dict[str, dict[tuple[str, str], list[rows.Row]]] = {}
    for row in found:
        if row.get("benchmark") == benchmark:
            runs = cases.setdefault(repr([row.get(key) for key in keys]), {})
            runs.setdefault((row["date"], row.get("command", "")), []).append(row)
    return [row for runs in cases.values() for row in runs[max(runs)]]


def tables(found: list[rows.Row]) -> str:
    """A section for each benchmark, in Markdown; then those of which there is no table here."""
    parts = ["# What was measured\n"]
    for benchmark, (module, _) in BENCHMARKS.items():
        chosen = newest(found, benchmark)
        if not chosen:
            continue
        columns = [*importlib.import_module(module).COLUMNS]
        columns = [column for column in columns if any(row.get(column) is not None for row in chosen)]
        columns = list(dict.fromkeys(["date", "system", "config", *columns, "processor"]))
        lines = [[_said(row, column) for column in columns] for row in chosen]
        body = [f"| {' | '.join(line)} |" for line in [columns, ["---"] * len(columns), *lines]]
        parts.append(f"## {benchmark}\n\n`python -m {module}`\n\n" + "\n".join(body) + "\n")
    others = sorted({str(row.get("benchmark") or "evaluations of runs") for row in found} - set(BENCHMARKS))
    if others:
        parts.append(f"Rows of {', '.join(others)} are in the records, without a table here.\n")
    return "\n".join(parts)


def picture(found: list[rows.Row], path: Path) -> None:
    """Ratios of times to PyTorch's of the same run, the newest of each case.

    Raises:
      ValueError: if there is none.
    """
    chosen = [
        row
        for benchmark in ("step_time", "passes")
        for row in newest(found, benchmark)
        if row["implementation"] == "jax" and "ratio_to_torch" in row
    ]
    if not chosen:
        raise ValueError("no record compares anything with PyTorch")
    figure, ((axis,),) = spectrograms.subplots(1, 1, (9, 1 + 0.4 * len(chosen)))
    names, ratios = [_case(row) for row in chosen], [row["ratio_to_torch"] for row in chosen]
    axis.barh(names, ratios, color=["tab:blue" if ratio <= WANTED else "tab:orange" for ratio in ratios])
    axis.axvline(WANTED, color="black", linewidth=1)
    for place, ratio in enumerate(ratios):
        axis.text(ratio, place, f" {ratio:.2f}", va="center")
    axis.set(xlabel="seconds, JAX to PyTorch in the same run", xlim=(0, 1.15 * max(ratios)))
    axis.invert_yaxis()
    spectrograms.save_png(figure, path)


def _case(row: rows.Row) -> str:
    what = f"{row['config'].removeprefix('configs/')}, batch {row['batch']}, {row['precision']}"
    if row["benchmark"] == "passes":
        what += f", {row['seconds']:g} s, gradients of {row['trained']}"
    return f"{what}\n{row.get('device') or row['processor']}, {row['date'][:10]}"


def _said(row: rows.Row, column: str) -> str:
    value = row.get(column)
    if value is None:
        return "–"
    if column == "date":
        return str(value)[:10]
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def main() -> None:
    options = console.parse(Report, "python -m benchmarks.report", EXAMPLE)
    found = [row for path in sorted(options.records.glob("*.json")) for row in rows.read(path)]
    if not found:
        raise ValueError(f"there are no records in {options.records}")
    write_text(options.out / "report.md", tables(found))
    picture(found, options.out / "report.png")
    print(f"{len(found)} rows: {options.out / 'report.md'} and {options.out / 'report.png'}")


if __name__ == "__main__":
    console.run(main)
