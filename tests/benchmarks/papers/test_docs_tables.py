"""Tests of the documentation's tables: they are what the records give, and a changed number is caught."""

import dataclasses
import importlib

import pytest

from benchmarks.papers import docs
from benchmarks.papers.records import Record, read_records, write_record
from tests.commands import command, refused

BEGIN = "<!-- table: lee2019 small objectives -->"
PAGE = f"# A page\n\nBefore.\n\n{BEGIN}\n{docs.END}\n\nAfter.\n"


def record(run: str, gain: float) -> Record:
    system = {"kl_weight": 0.01, "latent_weight": 0.5, "initial_log_variance": 0.0}
    scores = [{"stem": "cello", "model": gain + number, "mixture": float(number)} for number in (1, 2)]
    budget = {"steps": 100, "audio_s": 1.0, "share_of_paper": 0.01}
    data = {"corpus": "chamber", "split": "test"}
    return Record("lee2019", run, {"system": system, "train": {"seed": 0}}, budget, {}, data, "SI-SDR", scores, {})


@pytest.fixture
def root(tmp_path):
    """A repository with one page, whose table is up to date, and two records."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "README.md").write_text("No table.\n")
    (tmp_path / "docs" / "page.md").write_text(PAGE)
    for run, gain in (("objective-0", 1.5), ("quickstart-0", 3.0)):
        write_record(tmp_path / "benchmarks" / "records" / "small" / f"{run}.json", record(run, gain))
    assert command(docs, "--root", tmp_path) == 0
    return tmp_path


def test_the_tables_of_this_repository_are_what_their_records_give():
    assert command(docs, "--check") == 0


@pytest.mark.parametrize("paper", docs.MODULES)
def test_each_paper_has_tables(paper):
    assert callable(importlib.import_module(docs.MODULES[paper]).tables)


def test_a_table_is_written_between_its_marks(root):
    text = (root / "docs" / "page.md").read_text()
    before, _, rest = text.partition(f"{BEGIN}\n\nchamber, test split; dB\n\n| run |")
    assert before == "# A page\n\nBefore.\n\n"
    assert "| objective-0 | 0.01 | 0.5 | 0 | 0 | 100 | 1.00 % | 2 | +1.50 ± 0.00 |" in rest
    assert rest.endswith(f" |\n\n{docs.END}\n\nAfter.\n")
    assert (root / "README.md").read_text() == "No table.\n"
    assert command(docs, "--root", root, "--check") == 0


def test_a_changed_number_is_caught(root, capsys):
    """In the page, where it is written again, and in a record."""
    page = root / "docs" / "page.md"
    right = page.read_text()
    page.write_text(right.replace("+1.50", "+1.60"))
    refused(capsys, "the tables of docs/page.md are not what their records give", docs, "--root", root, "--check")
    assert "+1.60" in page.read_text()  # --check writes nothing
    assert command(docs, "--root", root) == 0
    assert page.read_text() == right
    path = root / "benchmarks" / "records" / "small" / "objective-0.json"
    (stored,) = read_records([path])
    scores = [{**stored.scores[0], "model": 9.0}, stored.scores[1]]
    write_record(path, dataclasses.replace(stored, scores=scores))
    refused(capsys, "docs/page.md", docs, "--root", root, "--check")
    path.unlink()
    refused(capsys, "docs/page.md", docs, "--root", root, "--check")


def test_without_a_name_all_tables_follow_one_another(root, monkeypatch):
    monkeypatch.setattr("benchmarks.papers.lee2019.objectives.tables", lambda records: {"a": "| 1 |\n", "b": "| 2 |\n"})
    (root / "README.md").write_text(f"<!-- table: lee2019 small -->\n{docs.END}\n")
    (root / "docs" / "page.md").write_text(f"<!-- table: lee2019 small b -->\n{docs.END}\n")
    assert command(docs, "--root", root) == 0
    assert (root / "README.md").read_text() == f"<!-- table: lee2019 small -->\n\n| 1 |\n\n| 2 |\n\n{docs.END}\n"
    assert (root / "docs" / "page.md").read_text() == f"<!-- table: lee2019 small b -->\n\n| 2 |\n\n{docs.END}\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"{BEGIN}\n", "docs/page.md: each '<!-- table: PAPER FOLDER [NAME] -->' needs an '<!-- end of table -->'"),
        (f"{docs.END}\n", "docs/page.md: each"),
        (f"{BEGIN}\n{BEGIN}\n{docs.END}\n{docs.END}\n", "docs/page.md: each"),
        (f"{docs.END}\n{BEGIN}\n", "docs/page.md: each"),
        (f"<!-- table: lee2019 large -->\n{docs.END}\n", "there is no folder benchmarks/records/large"),
        (f"<!-- table: lee2019 small II -->\n{docs.END}\n", "there is no table II; there are objectives"),
        (f"<!-- table: lin2021 small -->\n{docs.END}\n", "benchmarks/records/small has records of lee2019"),
        (f"<!-- table: lee2020 small -->\n{docs.END}\n", "where PAPER is one of cantisani2021, lee2019"),
        (f"<!-- table: lee2019 -->\n{docs.END}\n", "docs/page.md: '<!-- table: lee2019 -->': give PAPER FOLDER [NAME]"),
    ],
)
def test_marks_that_name_no_table_are_refused(root, capsys, text, message):
    (root / "docs" / "page.md").write_text(text)
    refused(capsys, message, docs, "--root", root, "--check")
