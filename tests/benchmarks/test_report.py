"""Records and their report."""

import json

import pytest

from benchmarks import report
from benchmarks.timing import rows
from tests.commands import command, refused
from tests.experiments import ROOT

ROW = {"benchmark": "step_time", "system": "Lee2019", "config": "configs/lee2019.py", "implementation": "jax"}
ROW |= {"batch": 2, "precision": "float32", "devices": 1, "device": "cpu", "processor": "some"}


def test_rows_are_added_to_those_that_are_there(tmp_path):
    path = tmp_path / "rows.json"
    rows.write(path, [{"a": 1}])
    rows.check_writable(path)
    rows.write(path, [{"a": 2}])
    assert rows.read(path) == [{"a": 1}, {"a": 2}]
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_of_something_else_is_not_touched(tmp_path):
    path = tmp_path / "notes.json"
    path.write_text("{}")
    with pytest.raises(ValueError, match=r"notes\.json is no list of rows"):
        rows.check_writable(path)
    assert path.read_text() == "{}"


def test_of_each_case_the_newest_run_counts_with_all_of_its_rows():
    old, new = ({**ROW, "date": f"2026-01-0{day}", "median_s": float(day)} for day in (1, 2))
    beside, alone = {**new, "implementation": "torch"}, {**old, "implementation": "jax-native"}
    other = {**ROW, "batch": 4, "date": "2026-01-01", "median_s": 9.0}
    assert report.newest([new, other, old, alone, beside], "step_time") == [new, beside, other]


def test_the_report_of_what_is_kept(tmp_path, capsys):
    assert command(report, "--records", ROOT / "benchmarks" / "records", "--out", tmp_path) == 0
    said = (tmp_path / "report.md").read_text()
    assert all(f"## {name}" in said for name in ("step_time", "passes", "adaptation", "evaluation", "separation"))
    assert (tmp_path / "report.png").stat().st_size > 10_000


def test_nothing_to_report(tmp_path, capsys):
    refused(capsys, "there are no records", report, "--records", tmp_path)
    (tmp_path / "rows.json").write_text(json.dumps([{**ROW, "date": "2026-01-01"}]))
    refused(capsys, "no record compares", report, "--records", tmp_path, "--out", tmp_path / "out")
