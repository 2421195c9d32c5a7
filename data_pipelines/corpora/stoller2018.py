"""The published splits of DSD100, MedleyDB and CCMixter in Stoller et al. 2018, and thirds for all other songs.

The published code lists the songs of each corpus in an XML file and cuts that list: DSD100's folder `Test` into halves,
the others into thirds. `stoller2018_splits.csv` holds the songs in the order of these files. iKala is not among them,
because its file is missing from the available copy of the code.
"""

import csv
import dataclasses
import warnings
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from data_pipelines.corpora.base import Track
from data_pipelines.schema import SPLITS


@dataclasses.dataclass(frozen=True)
class PublishedSong:
    """A song of the published lists.

    Attributes:
      track: Name of its folder.
      split: Its split.
      has_voice: Whether the published list names a file of its voice.
    """

    track: str
    split: str
    has_voice: bool


def published_songs(corpus: str) -> list[PublishedSong]:
    """The songs of `corpus` in the published order; empty for a corpus without a published list."""
    text = resources.files("data_pipelines.corpora").joinpath("stoller2018_splits.csv").read_text(encoding="utf-8")
    rows = [row for row in csv.DictReader(text.splitlines()) if row["corpus"] == corpus]
    return [PublishedSong(row["track"], row["split"], row["has_voice"] == "1") for row in rows]


def published_or_thirds(corpus: str, sources: Mapping[str, Any], root: Path) -> list[Track]:
    """The songs of the published list in its order and with its splits, then the others in thirds.

    Args:
      corpus: kind of the corpus.
      sources: source of each track, by its name.
      root: folder of the corpus, for messages.

    Raises:
      ValueError: if there are fewer than three tracks, none of which is in the list.
    """
    songs = [song for song in published_songs(corpus) if song.track in sources]
    listed = [Track(song.track, song.split, sources[song.track]) for song in songs]
    unlisted = sorted({*sources} - {song.track for song in songs})
    warn_of_unlisted(unlisted, root, "a third of them is in each split")
    if not unlisted:
        return listed
    return listed + split_in_thirds({name: sources[name] for name in unlisted}, root, fewest=0 if listed else 3)


def split_in_thirds(sources: Mapping[str, Any], root: Path, *, fewest: int = 3) -> list[Track]:
    """The tracks sorted by name: a third for training, a third for validation, and the others for testing.

    Thirds are rounded down, as in the published code, and the remainder is in the test split: 50 tracks give 16, 16 and
    18. Departs from the paper: the published code cuts the order of its XML files, not the order of the names.

    Args:
      sources: source of each track, by its name.
      root: folder of the corpus, for the error message.
      fewest: smallest number of tracks.

    Raises:
      ValueError: if there are fewer tracks.
    """
    size = len(sources) // 3
    if len(sources) < fewest:
        raise ValueError(f"{root} holds {len(sources)} tracks: 3 or more are needed, a third of them for each split")
    ends = (size, 2 * size)
    splits = [SPLITS[(number >= ends[0]) + (number >= ends[1])] for number in range(len(sources))]
    return [Track(name, split, sources[name]) for name, split in zip(sorted(sources), splits, strict=True)]


def warn_of_unlisted(names: Iterable[str], root: Path, treatment: str) -> None:
    """Warn of songs that are not in the published list; `treatment` says how they are split."""
    names = sorted(names)
    if names:
        songs = f"'{names[0]}' is" if len(names) == 1 else f"'{names[0]}' and {len(names) - 1} other songs are"
        warnings.warn(f"{root}: {songs} not in the published list of Stoller et al. 2018; {treatment}", stacklevel=3)
