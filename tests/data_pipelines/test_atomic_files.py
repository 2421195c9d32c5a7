"""Files appear only when they are complete, and errors in JSON files are one line."""

import os

import pytest

from data_pipelines.files import atomic_write, read_json, unfinished_path, write_json, write_text


def test_the_file_appears_when_the_block_ends(tmp_path):
    path = tmp_path / "new" / "folder" / "a.txt"
    with atomic_write(path) as unfinished:
        unfinished.write_text("content")
        assert not path.exists()
    assert path.read_text() == "content"
    assert list(path.parent.iterdir()) == [path]


def test_the_unfinished_file_is_hidden_and_belongs_to_this_process(tmp_path):
    name = unfinished_path(tmp_path / "a.txt").name
    assert name.startswith(".a.txt.")
    assert str(os.getpid()) in name


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "new \udc80")
    assert path.read_text() == "old"

    def full(*_) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.replace", full)
    with pytest.raises(OSError, match="No space"):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_json_is_read_as_it_was_written(tmp_path):
    content = {"name": "Dvořák", "rows": [[1, 2.5], []], "none": None}
    for indent in (2, None):
        write_json(tmp_path / "a.json", content, indent)
        assert read_json(tmp_path / "a.json", "write it again") == content


def test_errors_of_json_files_are_one_line_with_a_remedy(tmp_path):
    with pytest.raises(ValueError, match=r"a\.json: no such file: write it again$"):
        read_json(tmp_path / "a.json", "write it again")
    for content in (b"", b"{", b"\xff\xfe", b"[" * 100_000):
        (tmp_path / "a.json").write_bytes(content)
        with pytest.raises(ValueError, match=r"a\.json cannot be read as JSON \(.+\): write it again$") as error_info:
            read_json(tmp_path / "a.json", "write it again")
        assert "\n" not in str(error_info.value)
    (tmp_path / "folder").mkdir()
    with pytest.raises(ValueError, match=r"folder cannot be read as JSON \(.*directory.*\): write it again$"):
        read_json(tmp_path / "folder", "write it again")
