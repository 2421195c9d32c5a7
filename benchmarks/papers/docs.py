"""Write the tables of the documentation from accuracy records: `python -m benchmarks.papers.docs [--check]`.

A page of `docs/`, or the README, has a table between two marks,

    <!-- table: PAPER FOLDER [NAME] -->
    <!-- end of table -->

where FOLDER is a folder of records in `benchmarks/records`, and NAME one of the tables that the module of the paper
makes of them; without NAME, all of them follow one another. The text between the marks is replaced.
"""

import dataclasses
import importlib
import re
from collections.abc import Callable
from pathlib import Path

from benchmarks.papers.records import read_records
from data_pipelines import console
from data_pipelines.files import write_text

EXAMPLE = "python -m benchmarks.papers.docs --check"
ROOT = Path(__file__).parents[2]
# The module of each paper, whose function `tables` makes the Markdown text of each table by its name, from records.
MODULES = {
    "cantisani2021": "benchmarks.papers.cantisani2021.table",
    "lee2019": "benchmarks.papers.lee2019.objectives",
    "lin2021": "benchmarks.papers.lin2021.seeds",
    "slizovskaia2021": "benchmarks.papers.slizovskaia2021.summary",
    "stoller2018": "benchmarks.papers.stoller2018.seeds",
}
BEGIN, END = "<!-- table:", "<!-- end of table -->"
MARKED = re.compile(rf"^{BEGIN} ([^\n]*?) -->\n(.*?)^{END}$", re.DOTALL | re.MULTILINE)
UPDATE = "run python -m benchmarks.papers.docs"


@dataclasses.dataclass(frozen=True)
class Docs:
    """Write the tables of the documentation from the records in benchmarks/records.

    Attributes:
      check: Whether to write nothing, and to fail if a table is not what its records give.
      root: Folder of the repository.
    """

    check: bool = False
    root: Path = ROOT


def pages(root: Path) -> list[Path]:
    """The pages that may have tables: the README and those in `docs`."""
    return [path for path in (root / "README.md", *sorted((root / "docs").glob("*.md"))) if path.is_file()]


def with_tables(text: str, page: str, table_of: Callable[[list[str]], str]) -> str:
    """The text of a page with all of its tables replaced.

    Args:
      page: name of the page for error messages.
      table_of: returns the table that the words of a mark name, PAPER FOLDER [NAME].

    Raises:
      ValueError: if a mark lacks its counterpart.
    """
    begins, ends = (len(re.findall(rf"^{mark}", text, re.MULTILINE)) for mark in (BEGIN, END))
    matches = list(MARKED.finditer(text))
    if not begins == ends == len(matches) or any(BEGIN in match[2] for match in matches):
        raise ValueError(
            f"{page}: each '{BEGIN} PAPER FOLDER [NAME] -->' needs an '{END}' after it, on lines of their own"
        )

    def replaced(match: re.Match[str]) -> str:
        try:
            table = table_of(match[1].split())
        except ValueError as error:
            raise ValueError(f"{page}: '{BEGIN} {match[1]} -->': {error}") from None
        return f"{BEGIN} {match[1]} -->\n\n{table.strip()}\n\n{END}"

    return MARKED.sub(replaced, text)


def tables_of(root: Path) -> Callable[[list[str]], str]:
    """A function that returns the table of a mark from the records of the repository in `root`; it reads them once."""
    stored: dict[tuple[str, str], dict[str, str]] = {}

    def table_of(words: list[str]) -> str:
        if len(words) not in (2, 3) or words[0] not in MODULES:
            raise ValueError(f"give PAPER FOLDER [NAME], where PAPER is one of {', '.join(MODULES)}")
        paper, folder = words[:2]
        if (paper, folder) not in stored:
            path = root / "benchmarks" / "records" / folder
            if not path.is_dir():
                raise ValueError(f"there is no folder benchmarks/records/{folder}")
            records = read_records([path])
            if others := sorted({record.paper for record in records} - {paper}):
                raise ValueError(f"benchmarks/records/{folder} has records of {', '.join(others)}")
            stored[paper, folder] = importlib.import_module(MODULES[paper]).tables(records)
        tables = stored[paper, folder]
        if len(words) == 3 and words[2] not in tables:
            raise ValueError(f"there is no table {words[2]}; there are {', '.join(tables)}")
        return tables[words[2]] if len(words) == 3 else "\n".join(tables.values())

    return table_of


def main() -> None:
    options = console.parse(Docs, "python -m benchmarks.papers.docs", EXAMPLE)
    table_of, changed = tables_of(options.root), []
    for path in pages(options.root):
        name, text = str(path.relative_to(options.root)), path.read_text(encoding="utf-8")
        new_text = with_tables(text, name, table_of)
        if new_text != text:
            changed.append(name)
            if not options.check:
                write_text(path, new_text)
                print(f"updated {name}")
    if options.check and changed:
        raise ValueError(f"the tables of {', '.join(changed)} are not what their records give: {UPDATE}")
    if not changed:
        print("all tables are what their records give")


if __name__ == "__main__":
    console.run(main)
