"""Files that appear only when they are complete, and JSON that is read with one clear error."""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Characters of the reason that an error of a library gives.
LONGEST_REASON = 300


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
