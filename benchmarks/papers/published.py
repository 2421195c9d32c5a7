"""What experiments of papers leave behind: rows as JSON and a Markdown table."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from data_pipelines.files import write_text
from qsep_jax.metrics.aggregate import Summary


def markdown(title: str, columns: Sequence[str], lines: Iterable[Sequence[str]], words: int = 1) -> str:
    """A table under a line that says what it is; the first `words` columns hold words, the others numbers."""
    dashes = ["---"] * words + ["--:"] * (len(columns) - words)
    return "\n".join([title, "", *(f"| {' | '.join(line)} |" for line in (columns, dashes, *lines))]) + "\n"


def spread(summary: Summary | None, digits: int = 2, sign: str = "+") -> str:
    """Mean ± 95 % interval, which a single score does not have."""
    if summary is None:
        return "–"
    interval = f" ± {summary.ci95:.{digits}f}" if summary.count > 1 else ""
    return f"{summary.mean:{sign}.{digits}f}{interval}"


def publish(out: Path, rows: list[dict[str, Any]], table: str) -> None:
    """Write `results.json` and `table.md` to `out`, and print the table."""
    write_text(out / "results.json", json.dumps(rows, indent=1))
    write_text(out / "table.md", table)
    print(f"{table}\nwritten to {out}")
