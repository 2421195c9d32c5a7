"""Files appear only when they are complete, and errors in JSON files are one line."""

import os
import socket
import subprocess
import sys
import time

import pytest

from data_pipelines import files
from data_pipelines.console import message_of
from data_pipelines.files import (
    atomic_write,
    read_json,
    sweep,
    unfinished_folder,
    unfinished_path,
    write_json,
    write_text,
)


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


def test_a_full_disk_is_one_line_with_the_path_and_a_remedy(tmp_path):
    with pytest.raises(OSError, match="No space left on device") as error_info, atomic_write(tmp_path / "a.txt"):
        raise OSError(28, "No space left on device")
    assert message_of(error_info.value) == (
        f"{tmp_path / 'a.txt'}: cannot be written (No space left on device): make room on the disk, or allow writing"
    )


def test_an_error_in_an_unfinished_folder_names_the_folder_that_the_user_knows(tmp_path):
    with pytest.raises(OSError, match=f"{tmp_path}'$") as error_info, unfinished_folder(tmp_path, "new") as folder:
        raise OSError(28, "No space left on device", str(folder / "a.bin"))
    assert "make room on the disk" in str(error_info.value)
    with pytest.raises(FileNotFoundError, match="elsewhere"), unfinished_folder(tmp_path, "new"):
        raise FileNotFoundError(2, "No such file", "elsewhere")
    assert list(tmp_path.iterdir()) == []


def dead_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_what_dead_processes_left_is_removed_by_the_next_write(tmp_path):
    dead, host, long_ago = dead_process(), socket.gethostname(), time.time() - 7200
    removed = [f".a.wav.{dead}@{host}.part", f".scratch.{dead}@{host}~x1y2.part", f".old.json.{dead}.part"]
    kept = [
        f".a.wav.{os.getpid()}@{host}.part",  # of this process
        f".a.wav.{os.getppid()}@{host}.part",  # of another that runs
        f".a.wav.{dead}@other.{host}.part",
        f".new.json.{dead}.part",  # of an earlier version, which left out the host
        ".part",
        ".hidden",
        f"a.{dead}@{host}.part",
    ]
    for name in removed + kept:
        (tmp_path / name).write_text("unfinished")
    (tmp_path / removed[1]).unlink()
    (tmp_path / removed[1]).mkdir()
    (tmp_path / removed[1] / "0.wav").write_text("unfinished")
    os.utime(tmp_path / removed[2], (long_ago, long_ago))
    with unfinished_folder(tmp_path, "scratch") as folder:
        assert folder.is_dir()
        write_text(tmp_path / "a.txt", "content")
        assert {path.name for path in tmp_path.iterdir()} == {*kept, "a.txt", folder.name}
    assert not folder.exists()


def test_the_name_of_an_unfinished_folder_is_recognised(tmp_path, monkeypatch):
    with unfinished_folder(tmp_path, "scratch") as folder:
        monkeypatch.setattr("data_pipelines.files._is_alive", lambda process: False)
        files._sweep_once.cache_clear()
        sweep(tmp_path)
        assert not folder.exists()
        folder.mkdir()
