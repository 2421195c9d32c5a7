"""Tests of the files of rows and of the report of the records."""

import json

import pytest

from benchmarks import report
from benchmarks.timing import rows
from tests.commands import command, refused
from tests.experiments import ROOT

ROW = {"benchmark": "step_time", "system": "Lee2019", "config": "configs/lee2019.py", "implementation": "jax"}
ROW |= {"batch": 2, "precision": "float32", "devices": 1, "device": "cpu", "processor": "some"}


def test_rows_are_added_to_the_rows_in_a_file(tmp_path):
    path = tmp_path / "rows.json"
    rows.write(path, [{"a": 1}])
    rows.check_writable(path)
    rows.write(path, [{"a": 2}])
    assert rows.read(path) == [{"a": 1}, {"a": 2}]
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_without_rows_is_not_changed(tmp_path):
    path = tmp_path / "notes.json"
    path.write_text("{}")
    with pytest.raises(ValueError, match=r"notes\.json is not a list of rows"):
        rows.check_writable(path)
    assert path.read_text() == "{}"
    path.write_text("notes")
    with pytest.raises(ValueError, match=r"notes\.json cannot be read as JSON"):
        rows.check_writable(path)
    assert path.read_text() == "notes"


def test_the_newest_run_of_each_case_counts_with_all_of_its_rows():
    old, new = ({**ROW, "date": f"2026-01-0{day}", "median_s": float(day)} for day in (1, 2))
    beside, alone = {**new, "implementation": "torch"}, {**old, "implementation": "jax-native"}
    other = {**ROW, "batch": 4, "date": "2026-01-01", "median_s": 9.0}
    assert report.newest([new, other, old, alone, beside], "step_time") == [new, beside, other]


def test_the_report_of_the_records(tmp_path, capsys):
    assert command(report, "--records", ROOT / "benchmarks" / "records", "--out", tmp_path) == 0
    text = (tmp_path / "report.md").read_text()
    assert all(f"## {name}" in text for name in ("step_time", "passes", "adaptation", "evaluation", "separation"))
    assert (tmp_path / "report.png").stat().st_size > 10_000


def test_nothing_to_report(tmp_path, capsys):
    refused(capsys, "has no records: give the folder", report, "--records", tmp_path)
    (tmp_path / "rows.json").write_text(json.dumps([{**ROW, "date": "2026-01-01"}]))
    refused(capsys, "no record has a comparison", report, "--records", tmp_path, "--out", tmp_path / "out")
