"""What commands are given: files, folders and patterns, and names that must not collide."""

import glob
import itertools
from pathlib import Path
from typing import TypeVar

from data_pipelines.audio.reading import READABLE

T = TypeVar("T")


def unique(found: list[tuple[str, T]], taken: str = "") -> dict[str, T]:
    """By name; those that have one which another has already, or which is taken, get a number."""
    named: dict[str, T] = {}
    for name, value in found:
        number, free = 2, name
        while free in named or free == taken:
            free, number = f"{name}_{number}", number + 1
        named[free] = value
    return named


def find_files(words: tuple[str, ...], out: Path) -> dict[Path, str]:
    """The mixtures that files, folders and patterns stand for, and the name of each track.

    What a folder or pattern holds below `out`, and hidden files, are none.

    Raises:
      ValueError: if one stands for nothing.
    """
    found: dict[Path, str] = {}
    for word in words:
        path = Path(word)
        if path.is_dir():
            start, inside = path, sorted(path.rglob("*"))
        elif glob.has_magic(word) and not path.exists():
            parts = list(itertools.takewhile(lambda part: not glob.has_magic(part), path.parts))
            start, inside = Path(*parts), sorted(Path(match) for match in glob.glob(word, recursive=True))
        else:
            found[path] = path.stem
            continue
        named = {
            file: str(file.relative_to(start).with_suffix(""))
            for file in inside
            if file.suffix.lower() in READABLE and file.is_file() and not file.name.startswith(".")
            if not file.resolve().is_relative_to(out.resolve())
        }
        if not named:
            raise ValueError(f"'{word}' holds no audio; known extensions are {', '.join(READABLE)}")
        found |= named
    return found


def keep_inputs(targets: list[Path], inputs: list[Path]) -> None:
    """Raise ValueError if one of the outputs would be written over an input."""
    read = {path.resolve() for path in inputs if path.exists()}
    for target in targets:
        if target.resolve() in read:
            raise ValueError(f"{target} would be written over an input: give another --out")
