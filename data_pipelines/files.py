"""Files that appear only when they are complete, JSON that is read with one clear error, and locks.

A process that is killed leaves the hidden file or folder behind to which it was writing. Its name holds the host and
the process, so the next process that writes to the same folder removes it.
"""

import contextlib
import errno
import fcntl
import functools
import hashlib
import json
import os
import re
import shutil
import socket
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# The end of a hidden name: process and host, random letters for a folder. Earlier versions left out the host.
_UNFINISHED = re.compile(r"\.(?P<process>\d+)(@(?P<host>[^@]+?)(~\w+)?)?\.part$")
# Seconds after which a file without a host, and with a process that this host does not have, is taken for abandoned.
_ABANDONED = 3600.0
# Errors of file systems that have no locks, as some of networks and of object storage.
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
# The remedy where a file cannot be written.
FREE_SPACE = "make room on the disk, or allow writing"
# Characters of the reason that an error of a library gives.
LONGEST_REASON = 300


def unfinished_path(path: Path) -> Path:
    """The hidden name beside `path` under which this process writes until the file is complete.

    What dead processes left in the folder is removed.
    """
    sweep(path.parent)
    return path.with_name(f".{path.name}.{os.getpid()}@{socket.gethostname()}.part")


@contextlib.contextmanager
def unfinished_folder(parent: Path, name: str) -> Iterator[Path]:
    """Yield a hidden folder in `parent`, an existing folder, that is removed at the end of the `with` block.

    Raises:
      OSError: if the folder or a file in it cannot be written; the message names `parent`.
    """
    sweep(parent)
    prefix = f".{name}.{os.getpid()}@{socket.gethostname()}~"
    with tempfile.TemporaryDirectory(dir=parent, prefix=prefix, suffix=".part") as name_of_folder:
        folder = Path(name_of_folder)
        with _errors_of(folder, parent):
            yield folder


@contextlib.contextmanager
def _errors_of(unfinished: Path, path: Path) -> Iterator[None]:
    """Let an error of writing to a hidden file or folder name `path`, which the user knows, and the remedy."""
    try:
        yield
    except OSError as error:
        where = Path(error.filename or unfinished) if isinstance(error.filename, str | Path | None) else None
        if error.errno is None or where is None or not where.is_relative_to(unfinished):
            raise
        reason = f"cannot be written ({os.strerror(error.errno)}): {FREE_SPACE}"
        raise OSError(error.errno, reason, str(path)) from None


def sweep(folder: Path) -> None:
    """Remove the hidden files and folders that processes of this host left in `folder` when they were killed.

    A process looks into a folder once, so that writing many files there stays fast.
    """
    _sweep_once(folder.absolute(), os.getpid())


@functools.lru_cache(maxsize=10_000)
def _sweep_once(folder: Path, process: int) -> None:
    try:
        names = os.listdir(folder)
    except OSError:  # there is no such folder yet
        return
    for path in (folder / name for name in names if name.startswith(".") and name.endswith(".part")):
        with contextlib.suppress(OSError):  # another process removes it, too, or it is of another user
            if _is_abandoned(path):
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def _is_abandoned(path: Path) -> bool:
    """Whether a hidden file or folder is of a process of this host that has ended."""
    end = _UNFINISHED.search(path.name)
    if end is None or end["host"] not in (None, socket.gethostname()) or _is_alive(int(end["process"])):
        return False
    return end["host"] is not None or time.time() - path.stat().st_mtime > _ABANDONED


def _is_alive(process: int) -> bool:
    """Whether this host has a process of this number."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a path to write to; it becomes `path` if the `with` block ends without an error, else it is deleted.

    Raises:
      OSError: if the folder or the file cannot be written; the message of a full disk names `path` and the remedy.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = unfinished_path(path)
    try:
        with _errors_of(unfinished, path):
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
        raise ValueError(f"{path} cannot be read as JSON ({first_line(error)}): {remedy}") from None


def sha256(path: Path) -> str:
    """The SHA-256 digest of a file in hexadecimal.

    Raises:
      OSError: if it cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def first_line(error: BaseException) -> str:
    """The first line of an error's message, cut to 300 characters: libraries quote the content of damaged files."""
    return (str(error).splitlines() or [type(error).__name__])[0].strip().rstrip(".")[:LONGEST_REASON]


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
            if isinstance(error, OSError) and error.errno in _NO_LOCKS:
                warnings.warn(f"{path.parent} has no locks: let no other process write to {path}", stacklevel=4)
                return descriptor
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
