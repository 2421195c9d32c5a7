"""What benchmarks report: rows of numbers with the machine they hold for, as JSON and as a table on the console."""

import datetime
import importlib.metadata
import json
import os
import platform
import shlex
import sys
from pathlib import Path
from typing import Any

import numpy as np

from qsep_jax.command_line import huge_pages

Row = dict[str, Any]


def summary(seconds: list[float]) -> Row:
    """`median_s` and `p90_s` of repeated measurements, and how many there were."""
    return {
        "median_s": float(np.median(seconds)),
        "p90_s": float(np.quantile(seconds, 0.9)),
        "rounds": len(seconds),
    }


def paired_ratio(seconds: list[float], other: list[float]) -> float:
    """Median over the rounds of `seconds / other`: what slows a round down slows both."""
    return float(np.median([mine / theirs for mine, theirs in zip(seconds, other, strict=True)]))


def circumstances(*packages: str) -> Row:
    """Date, processor, versions of Python and of `packages` where installed, commit, options of glibc, the command."""
    from qsep_jax.runs.folder import commit

    versions = {"python": platform.python_version()}
    for name in packages:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    module = getattr(sys.modules["__main__"], "__spec__", None)
    start = ["python", "-m", module.name] if module else [Path(sys.argv[0]).name]
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "versions": versions,
        "commit": commit(),
        "glibc_tunables": (os.environ | huge_pages.variables()).get(huge_pages.VARIABLE, ""),
        "command": shlex.join([*start, *sys.argv[1:]]),
    }


def check_writable(path: Path) -> None:
    """Make the folder of `path`, and fail now rather than after minutes of measuring.

    Raises:
      OSError: if nothing can be written there.
      ValueError: if something else than rows is there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and path.stat().st_size:
        read(path)
    with path.open("a"):
        pass
    if path.stat().st_size == 0:
        path.unlink()


def read(path: Path) -> list[Row]:
    """The rows in a file.

    Raises:
      ValueError: if it holds something else.
    """
    try:
        found = json.loads(path.read_text())
    except ValueError:
        found = None
    if not isinstance(found, list) or not all(isinstance(row, dict) for row in found):
        raise ValueError(f"{path} is no list of rows of a benchmark")
    return found


def write(path: Path, rows: list[Row]) -> None:
    """Add the rows to the JSON list in a file, which is there whole before and after."""
    rows = [*(read(path) if path.exists() else []), *rows]
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.part")
    unfinished.write_text(json.dumps(rows, indent=2) + "\n")
    os.replace(unfinished, path)


def table(rows: list[Row], columns: tuple[str, ...]) -> str:
    """The given columns of the rows as aligned text; `-` where a row has nothing."""
    cells = [list(columns)] + [[_cell(row.get(column)) for column in columns] for row in rows]
    widths = [max(len(line[column]) for line in cells) for column in range(len(columns))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
