"""Shared parts of the commands that make a paper's tables from records: `--record DIR --out DIR`."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tyro

from benchmarks.papers import published
from benchmarks.papers.records import Record, read_records
from data_pipelines import console


@dataclasses.dataclass(frozen=True)
class RecordOptions:
    """Options of a table that is made from records.

    Attributes:
      record: Records, or folders of records; the option may be repeated.
      out: Folder for the table and the rows.
    """

    record: tyro.conf.UseAppendAction[tuple[Path, ...]] = ()
    out: Path = Path("evaluation/records")


def main(
    kind: type[RecordOptions],
    name: str,
    example: str,
    results: Callable[[list[Record]], tuple[list[dict[str, Any]], str]],
) -> None:
    """Run the command of a table.

    Args:
      kind: its options.
      name: the command, as the help text names it.
      example: a command line that the help text shows.
      results: returns the rows and the text of the table from the records.

    Raises:
      ValueError: if no record is given, or one cannot be read.
    """
    options = console.parse(kind, name, example)
    if not options.record:
        raise ValueError(f"--record is needed. Example: {example}")
    rows, text = results(read_records(options.record))
    published.publish(options.out, rows, text)
