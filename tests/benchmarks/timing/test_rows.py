"""Rows of benchmarks are added to a JSON file, or only printed where none is given."""

import json

import pytest

from benchmarks.timing import rows


def test_rows_are_added_to_those_of_the_file(tmp_path):
    path = tmp_path / "new" / "rows.json"
    for number in (1, 2):
        rows.check_writable(path)
        assert path.exists() == (number == 2)
        rows.write(path, [{"number": number}])
    assert [row["number"] for row in json.loads(path.read_text())] == [1, 2]


def test_a_file_of_something_else_is_refused(tmp_path):
    path = tmp_path / "config.json"
    path.write_text('{"system": "Lee2019"}')
    with pytest.raises(ValueError, match=r"config\.json is not a list of rows of a benchmark"):
        rows.check_writable(path)


def test_without_a_file_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows.check_writable(None)
    rows.write(None, [{"number": 1}])
    assert not list(tmp_path.iterdir())
