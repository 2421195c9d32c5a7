"""One process at a time works on a path; nothing is left of the lock."""

import errno
import multiprocessing
import os
import socket
import threading
from pathlib import Path

import pytest

from data_pipelines.files import locked, read_json, write_json


def append(path: Path, count: int) -> None:
    for _ in range(count):
        with locked(path):
            write_json(path, [*(read_json(path, "") if path.exists() else []), os.getpid()])


def hold_until_killed(path: Path, ready) -> None:
    with locked(path):
        ready.set()
        threading.Event().wait()


def test_no_addition_of_parallel_processes_is_lost(tmp_path):
    spawn = multiprocessing.get_context("spawn")
    workers = [spawn.Process(target=append, args=(tmp_path / "new" / "list.json", 25)) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    assert len(read_json(tmp_path / "new" / "list.json", "")) == 100
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["list.json"]


def test_without_waiting_the_message_names_the_process(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with locked(Path(".")):
        for path in (tmp_path, Path(".")):
            with (
                pytest.raises(ValueError, match=f"process {os.getpid()} on {socket.gethostname()} is at work here"),
                locked(path, wait=False),
            ):
                pass
        with locked(tmp_path / "other", wait=False):
            pass
    with locked(tmp_path, wait=False):
        pass
    assert not list(tmp_path.parent.glob(f".{tmp_path.name}.lock"))


def test_the_lock_ends_with_a_killed_process(tmp_path):
    spawn = multiprocessing.get_context("spawn")
    ready = spawn.Event()
    worker = spawn.Process(target=hold_until_killed, args=(tmp_path / "x", ready))
    worker.start()
    assert ready.wait(60)
    with pytest.raises(ValueError, match=f"process {worker.pid} on"), locked(tmp_path / "x", wait=False):
        pass
    worker.kill()
    worker.join()
    assert (tmp_path / ".x.lock").exists()
    with locked(tmp_path / "x", wait=False):
        pass
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"), locked(tmp_path / "file" / "x"):
        pass


def test_a_file_system_without_locks_gives_a_warning(tmp_path, monkeypatch):
    def flock(*_) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", flock)
    message = f"{tmp_path} has no locks: let no other process write to {tmp_path}/run"
    with pytest.warns(UserWarning, match=message), locked(tmp_path / "run", wait=False):
        pass
