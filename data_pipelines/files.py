"""Files that appear only when they are complete, JSON that is read with one clear error, and locks."""

import contextlib
import fcntl
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def unfinished_path(path: Path) -> Path:
    """The hidden name beside `path` under which this process writes until the file is complete."""
    return path.with_name(f".{path.name}.{os.getpid()}.part")


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a path to write to; it becomes `path` if the `with` block ends without an error, else it is deleted.

    Raises:
      OSError: if the folder or the file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = unfinished_path(path)
    try:
        yield unfinished
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file (UTF-8) that appears only when it is complete."""
    with atomic_write(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Any, indent: int | None = 2) -> None:
    """Write a JSON file that appears only when it is complete."""
    write_text(path, json.dumps(content, indent=indent) + "\n")


def read_json(path: Path, remedy: str) -> Any:
    """The content of a JSON file.

    Args:
      remedy: what the user can do about a file that cannot be read; it ends the error message.

    Raises:
      ValueError: if the file is missing, cannot be read or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file: {remedy}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} cannot be read as JSON ({_first_line(error)}): {remedy}") from None


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].strip().rstrip(".")


@contextlib.contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Let one process at a time work on `path`, a file or folder that need not exist, within the `with` block.

    The lock is that of the operating system on the hidden file `.NAME.lock` beside `path`. It ends with its process,
    however that dies. The file holds the process and the host, and is removed at the end.

    Args:
      wait: whether to wait for another process that holds the lock.

    Raises:
      ValueError: if another process holds the lock and `wait` is False; the message names the process and its host.
      OSError: if the lock file cannot be written.
    """
    path = Path(os.path.abspath(path))  # `.` and `..` have no name of their own
    lock = path.with_name(f".{path.name}.lock")
    lock.parent.mkdir(parents=True, exist_ok=True)
    descriptor = _lock(lock, path, wait)
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()} {socket.gethostname()}\n".encode(), 0)
        yield
    finally:
        lock.unlink(missing_ok=True)  # while it is locked; `_lock` notices that its file is no longer there
        os.close(descriptor)


def _lock(lock: Path, path: Path, wait: bool) -> int:
    """Lock the file `lock`, which is created; the open descriptor that holds the lock."""
    while True:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            if _is_open_file(lock, descriptor):
                return descriptor
        except BlockingIOError:
            process, _, host = os.pread(descriptor, 300, 0).decode(errors="replace").strip().partition(" ")
            os.close(descriptor)
            worker = f"process {process} on {host}" if host else "another process"
            raise ValueError(f"{path}: {worker} is at work here: wait for its end, or stop it") from None
        except BaseException as error:
            os.close(descriptor)
            if isinstance(error, OSError):
                raise OSError(error.errno, f"cannot be locked: {error.strerror}", str(lock)) from None
            raise
        os.close(descriptor)  # the process before has removed the file that was waited for


def _is_open_file(path: Path, descriptor: int) -> bool:
    """Whether the file that is open is the one that has the name `path` now."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False
