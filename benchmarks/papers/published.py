"""Write the results of the papers' experiments: rows as JSON and a Markdown table."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from data_pipelines.files import write_json, write_text
from qsep_jax.metrics.aggregate import Summary


def markdown(title: str, columns: Sequence[str], lines: Iterable[Sequence[str]], text_columns: int = 1) -> str:
    """A Markdown table under a title; the first `text_columns` columns contain text, the others numbers."""
    dashes = ["---"] * text_columns + ["--:"] * (len(columns) - text_columns)
    return "\n".join([title, "", *(f"| {' | '.join(line)} |" for line in (columns, dashes, *lines))]) + "\n"


def mean_and_interval(summary: Summary | None, digits: int = 2, sign: str = "+") -> str:
    """The mean ± its 95 % interval (a single score has no interval), or a dash for None."""
    if summary is None:
        return "–"
    interval = f" ± {summary.ci95:.{digits}f}" if summary.count > 1 else ""
    return f"{summary.mean:{sign}.{digits}f}{interval}"


def publish(out: Path, rows: list[dict[str, Any]], table: str) -> None:
    """Write `results.json` and `table.md` to `out`, and print the table."""
    write_json(out / "results.json", rows, indent=1)
    write_text(out / "table.md", table)
    print(f"{table}\nwritten to {out}")
