"""Input files, output paths and unique names of the command line."""

import glob
import itertools
import os
import string
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from data_pipelines.audio.listing import audio_files_below, is_audio, is_visible
from data_pipelines.audio.reading import READABLE
from data_pipelines.audio.writing import output_suffix
from data_pipelines.names import composed

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

    What `listing.is_visible` skips in folders, and files below `out`, are skipped.

    Raises:
      ValueError: if a folder or pattern holds no audio.
    """
    tracks: dict[Path, str] = {}
    for word in words:
        path = Path(word)
        if path.is_dir():
            start, candidates = path, audio_files_below(path)
        elif glob.has_magic(word) and not path.exists():
            parts = list(itertools.takewhile(lambda part: not glob.has_magic(part), path.parts))
            start, candidates = Path(*parts), sorted(Path(match) for match in glob.glob(word, recursive=True))
        else:
            tracks[path] = path.stem
            continue
        named = {
            file: str(file.relative_to(start).with_suffix(""))
            for file in candidates
            if is_audio(file) and is_visible(file) and not file.resolve().is_relative_to(out.resolve())
        }
        if not named:
            raise ValueError(f"'{word}' holds no audio; known extensions are {', '.join(READABLE)}")
        tracks |= named
    return tracks


def distinct_tracks(tracks: Mapping[Path, str], output_of: Callable[[Path, str], str]) -> dict[Path, str]:
    """Longer names for tracks that would have the same outputs.

    Such tracks get the names of their folders, as many as tell them apart (`d1/song` and `d2/song`). Files of one
    folder that differ in their extension alone get the extension (`song_wav` and `song_mp3`). What is still equal gets
    a number, as for a folder that has such a name.

    Args:
      tracks: Name of each track by its file.
      output_of: Returns where the outputs of a file go if its track has a name; equal places are a conflict.
    """
    named: dict[Path, str] = {}
    taken: set[str] = set()
    for file, track in _with_folders(tracks, output_of).items():
        number, free = 2, track
        while (place := composed(output_of(file, free))) in taken and output_of(file, f"{track}_{number}") != place:
            free, number = f"{track}_{number}", number + 1
        taken.add(place)
        named[file] = free
    return named


def _with_folders(tracks: Mapping[Path, str], output_of: Callable[[Path, str], str]) -> dict[Path, str]:
    """Tracks whose outputs conflict, named by their folders and extensions."""
    groups: dict[str, dict[Path, Path]] = {}  # the absolute path without extension of each file, by place
    for file, track in tracks.items():
        whole = Path(os.path.abspath(file)).with_suffix("") if file.suffix else Path(os.path.abspath(file))
        groups.setdefault(composed(output_of(file, track)), {})[file] = whole
    named = dict(tracks)
    for group in groups.values():
        if len(group) < 2:
            continue
        places = set(group.values())
        depth = 1
        while len({place.parts[-depth:] for place in places}) < len(places):
            depth += 1
        for file, place in group.items():
            if len(places) > 1:
                named[file] = max("/".join(place.parts[-depth:]).lstrip("/"), tracks[file], key=len)
            if sum(other == place for other in group.values()) > 1:
                named[file] += f"_{file.suffix[1:].lower()}"
    return named


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

    Tracks with the same outputs get longer names, as `distinct_tracks` gives them.

    Raises:
      ValueError: if an output would be outside of `out`, two outputs have the same path, or one has that of an input.
    """
    check_template(template)
    for stem in stems:
        if any(character < " " or character in "/\x7f" for character in stem):
            raise ValueError(f"an output cannot be called {stem!r}: rename the stem or the query")

    def path_of(mixture: Path, track: str, stem: str = "") -> str:
        return template.format(track=track, stem=stem, ext=output_suffix(mixture)[1:])

    paths: dict[Path, list[Path]] = {}
    mixture_of: dict[Path, Path] = {}
    for mixture, track in distinct_tracks(tracks, path_of).items():
        paths[mixture] = [below(out, path_of(mixture, track, stem)) for stem in stems]
        for path in paths[mixture]:
            if path in mixture_of:
                raise ValueError(
                    f"{path} would be an output of both {mixture_of[path]} and {mixture}: separate them one by one"
                )
            mixture_of[path] = mixture
    keep_inputs(mixture_of, [*tracks, *inputs])
    return paths


def below(out: Path, name: str) -> Path:
    """The path `out / name`.

    Raises:
      ValueError: if it is not below `out`: an absolute path, one with `..`, or one through a link to another folder.
    """
    path = out / name
    # The last part is not resolved: a link of this name is replaced, not followed.
    place = path.parent.resolve() / path.name
    if path.name in ("", "..") or place == out.resolve() or not place.is_relative_to(out.resolve()):
        raise ValueError(f"{path} is not below {out}: nothing is written outside of the folder for outputs")
    return path


def keep_inputs(outputs: Iterable[Path], inputs: Iterable[Path]) -> None:
    """Check that no output would overwrite an input.

    Raises:
      ValueError: if one would; the message names it.
    """
    existing = {path.resolve() for path in inputs if path.exists()}
    for output in outputs:
        if output.resolve() in existing:
            raise ValueError(f"{output} would be written over an input: give another --out or --name")
