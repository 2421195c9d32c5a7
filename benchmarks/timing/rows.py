"""Store and print the results of benchmarks: rows of numbers with the machine they were measured on."""

import datetime
import importlib.metadata
import os
import platform
import shlex
import sys
from pathlib import Path
from typing import Any

import numpy as np

from data_pipelines.files import read_json, write_json
from qsep_jax.command_line import huge_pages

Row = dict[str, Any]


def summary(seconds: list[float]) -> Row:
    """The median (`median_s`), the 90 % quantile (`p90_s`) and the number (`rounds`) of repeated measurements."""
    return {
        "median_s": float(np.median(seconds)),
        "p90_s": float(np.quantile(seconds, 0.9)),
        "rounds": len(seconds),
    }


def paired_ratio(seconds: list[float], other: list[float]) -> float:
    """The median over the rounds of `seconds / other`; a slow round slows both, and so leaves its ratio unchanged."""
    return float(np.median([first / second for first, second in zip(seconds, other, strict=True)]))


def circumstances(*packages: str) -> Row:
    """The date, processor, commit, options of glibc, command, and versions of Python and of installed `packages`."""
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


def check_writable(path: Path | None) -> None:
    """Create the folder of `path` and check that rows can be added to the file, before minutes of measurements.

    Without a path there is nothing to check.

    Raises:
      OSError: if the file cannot be written.
      ValueError: if the file exists and does not contain rows.
    """
    if path is None:
        return
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
      ValueError: if the file cannot be read or contains anything else.
    """
    content = read_json(path, "give the file of a benchmark's rows")
    if not isinstance(content, list) or not all(isinstance(row, dict) for row in content):
        raise ValueError(f"{path} is not a list of rows of a benchmark")
    return content


def write(path: Path | None, rows: list[Row]) -> None:
    """Add the rows to the JSON list in a file, if one is given; the file is complete at every moment."""
    if path is not None:
        write_json(path, [*(read(path) if path.exists() else []), *rows])


def table(rows: list[Row], columns: tuple[str, ...]) -> str:
    """The columns of the rows as aligned text, with `-` where a row has no value."""
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
