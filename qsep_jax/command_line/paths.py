"""Input files, output paths and unique names of the command line."""

import glob
import itertools
import string
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from data_pipelines.audio.reading import READABLE
from data_pipelines.audio.writing import output_suffix

T = TypeVar("T")
# The fields that the template of an output path can have.
FIELDS = ("track", "stem", "ext")


def unique(items: list[tuple[str, T]], taken: str = "") -> dict[str, T]:
    """Make the names of items unique: a name that is used before, or equals `taken`, gets a number."""
    named: dict[str, T] = {}
    for name, value in items:
        number, free = 2, name
        while free in named or free == taken:
            free, number = f"{name}_{number}", number + 1
        named[free] = value
    return named


def find_files(words: Sequence[str], out: Path) -> dict[Path, str]:
    """Find the audio files that paths, folders and patterns stand for, each with the name of its track.

    Hidden files in folders, and files below `out`, are skipped.

    Raises:
      ValueError: if a folder or pattern holds no audio.
    """
    tracks: dict[Path, str] = {}
    for word in words:
        path = Path(word)
        if path.is_dir():
            start, candidates = path, sorted(path.rglob("*"))
        elif glob.has_magic(word) and not path.exists():
            parts = list(itertools.takewhile(lambda part: not glob.has_magic(part), path.parts))
            start, candidates = Path(*parts), sorted(Path(match) for match in glob.glob(word, recursive=True))
        else:
            tracks[path] = path.stem
            continue
        named = {
            file: str(file.relative_to(start).with_suffix(""))
            for file in candidates
            if file.suffix.lower() in READABLE and file.is_file() and not file.name.startswith(".")
            if not file.resolve().is_relative_to(out.resolve())
        }
        if not named:
            raise ValueError(f"'{word}' holds no audio; known extensions are {', '.join(READABLE)}")
        tracks |= named
    return tracks


def check_template(template: str) -> None:
    """Check the template of an output path.

    Raises:
      ValueError: if it lacks `{stem}` or has fields other than `{track}`, `{stem}` and `{ext}`.
    """
    try:
        template.format(**dict.fromkeys(FIELDS, "x"))
        fields = {field for _, field, _, _ in string.Formatter().parse(template) if field is not None}
    except (ValueError, KeyError, IndexError, AttributeError):
        fields = {template}
    if not fields <= set(FIELDS) or "stem" not in fields:
        raise ValueError(f"--name must have {{stem}}, and may have {{track}} and {{ext}}, not '{template}'")


def output_paths(
    tracks: Mapping[Path, str], stems: Sequence[str], out: Path, template: str, inputs: Iterable[Path] = ()
) -> dict[Path, list[Path]]:
    """The output paths of each mixture, in the order of `stems`.

    Args:
      tracks: Name of the track of each mixture.
      template: Path of an output below `out`, with the fields `{track}`, `{stem}` and `{ext}`.
      inputs: Other files that must not be overwritten.

    Raises:
      ValueError: if two outputs have the same path, or an output has the path of an input.
    """
    check_template(template)
    paths: dict[Path, list[Path]] = {}
    mixture_of: dict[Path, Path] = {}
    for mixture, track in tracks.items():
        extension = output_suffix(mixture)[1:]
        paths[mixture] = [out / template.format(track=track, stem=stem, ext=extension) for stem in stems]
        for path in paths[mixture]:
            if path in mixture_of:
                raise ValueError(
                    f"{path} would be an output of both {mixture_of[path]} and {mixture}: separate them one by one"
                )
            mixture_of[path] = mixture
    keep_inputs(mixture_of, [*tracks, *inputs])
    return paths


def keep_inputs(outputs: Iterable[Path], inputs: Iterable[Path]) -> None:
    """Check that no output would overwrite an input.

    Raises:
      ValueError: if one would; the message names it.
    """
    existing = {path.resolve() for path in inputs if path.exists()}
    for output in outputs:
        if output.resolve() in existing:
            raise ValueError(f"{output} would be written over an input: give another --out or --name")
