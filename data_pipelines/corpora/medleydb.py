"""`medleydb`: MedleyDB (Bittner et al. 2014), the stems of each song added up to voices and accompaniment.

    Audio/NAME/NAME_STEMS/NAME_STEM_01.wav …
    Audio/NAME/NAME_METADATA.yaml                 or in Metadata or METADATA beside Audio

The metadata have the instrument of each stem. Stems of voices make `vocals`, all others `accompaniment`; a song that
has no stem of one of the two is stored without it. A stem without an instrument of its own, such as `Main System`,
microphones before all players, is what its raw recordings are: accompaniment unless all of them are voices.
`NAME_MIX.wav` is not read: mixtures are sums of stems, without the levels and the mastering of the published mix.
Thirds of the songs are the splits, as in Stoller et al. 2018.
"""

import dataclasses
from pathlib import Path
from typing import Any, ClassVar

import yaml

from data_pipelines.audio.reading import AudioFile
from data_pipelines.corpora.base import CorpusBuilder, OrderedMap, Stem, Track
from data_pipelines.corpora.folder import HIGHEST_STORED_RATE, file_inputs
from data_pipelines.corpora.stem_files import check_present, read_stems, track_folders
from data_pipelines.corpora.thirds import split_in_thirds

# The voices of MedleyDB's own taxonomy of instruments but for `crowd`, an audience, and those of songs after version 1.
VOICES = frozenset(
    (
        "male singer",
        "female singer",
        "male speaker",
        "female speaker",
        "male rapper",
        "female rapper",
        "beatboxing",
        "vocalists",
        "choir",
        "male screamer",
        "female screamer",
    )
)
# What a stem has in the place of an instrument when it is none.
NO_INSTRUMENT = frozenset(("Main System", "Unlabeled", ""))


@dataclasses.dataclass(frozen=True)
class _Song:
    """A song of the corpus: its metadata, and the files that each stem is the sum of."""

    metadata: Path
    files: dict[str, list[Path]]


@dataclasses.dataclass(frozen=True)
class Medleydb(CorpusBuilder):
    """MedleyDB, voices and accompaniment, split in thirds.

    Attributes:
      source: the folder that holds `Audio`, and `Metadata` unless each track's is in its own folder.
    """

    kind: ClassVar[str] = "medleydb"
    version: ClassVar[int] = 1

    source: Path

    def inputs(self) -> list[str]:
        songs = self._songs().values()
        return file_inputs(self.source, [path for song in songs for path in (song.metadata, *_all_files(song))])

    def sample_rate(self) -> int:
        first = next(iter(self._songs().values()))
        return min(AudioFile(_all_files(first)[0]).sample_rate, HIGHEST_STORED_RATE)

    def tracks(self, ordered_map: OrderedMap) -> list[Track]:
        return split_in_thirds(self._songs(), self.source)

    def load(self, track: Track, sample_rate: int) -> list[Stem]:
        return read_stems(track.source.files, sample_rate)

    def _songs(self) -> dict[str, _Song]:
        """All songs by name."""
        if not self.source.is_dir():
            raise ValueError(f"{self.source}: no such folder")
        found = {folder.name: self._song(folder) for folder in track_folders(self.source / "Audio")}
        if not found:
            raise ValueError(f"{self.source} holds no Audio/NAME/NAME_STEMS: give the folder of Audio")
        return found

    def _song(self, folder: Path) -> _Song:
        name = f"{folder.name}_METADATA.yaml"
        places = (folder, self.source / "Metadata", self.source / "METADATA")
        metadata = next((place / name for place in places if (place / name).is_file()), None)
        if metadata is None:
            raise ValueError(f"{folder / name}: no such file, nor in {places[1]}; MedleyDB has one for each song")
        files: dict[str, list[Path]] = {"vocals": [], "accompaniment": []}
        # Departs from the code of Stoller et al. 2018, which adds every voice three times: its query is there thrice.
        for stem in _read_stems_of(metadata):
            path = folder / f"{folder.name}_STEMS" / stem["filename"]
            files["vocals" if is_voice(stem) else "accompaniment"].append(path)
        song = _Song(metadata, {name: paths for name, paths in files.items() if paths})
        check_present(_all_files(song), f"it is a stem of the song in {metadata.name}")
        return song


def _all_files(song: _Song) -> list[Path]:
    return [path for paths in song.files.values() for path in paths]


def is_voice(stem: dict[str, Any]) -> bool:
    """Whether all that is heard in a stem, as the metadata describe it, are voices."""
    heard = _instruments(stem)
    if heard <= NO_INSTRUMENT:
        heard = {name for raw in (stem.get("raw") or {}).values() for name in _instruments(raw)}
    return bool(heard) and heard <= VOICES


def _instruments(entry: dict[str, Any]) -> set[str]:
    """One instrument, or several in a list."""
    named = entry.get("instrument") or ""
    return set(map(str, named if isinstance(named, list) else [named]))


def _read_stems_of(path: Path) -> list[dict[str, Any]]:
    """The entries of `stems` in a song's metadata.

    Raises:
      ValueError: if it is not YAML, or not of that form.
    """
    try:
        # The loader in C, where PyYAML has it, reads the metadata of all songs in a second instead of many.
        content = yaml.load(path.read_bytes(), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    stems = content.get("stems") if isinstance(content, dict) else None
    entries = list(stems.values()) if isinstance(stems, dict) else []
    if not entries or not all(map(_is_stem, entries)):
        raise ValueError(f"{path} does not list stems as {{stems: {{S01: {{filename, instrument, raw}}, …}}}}")
    return entries


def _is_stem(entry: Any) -> bool:
    if not isinstance(entry, dict) or not isinstance(entry.get("filename"), str):
        return False
    raws = entry.get("raw") or {}
    return isinstance(raws, dict) and all(isinstance(raw, dict) for raw in raws.values())
