"""`medleydb`: MedleyDB (Bittner et al. 2014), with the stems of each song summed to voices and accompaniment.

    Audio/NAME/NAME_STEMS/NAME_STEM_01.wav …
    Audio/NAME/NAME_METADATA.yaml                 or in the folder Metadata or METADATA beside Audio

The metadata list the instrument of each stem. Stems of voices are summed to `vocals`, and all others to
`accompaniment`. A song without stems of one kind is stored without it. A stem without an instrument of its own, such as
`Main System` (microphones in front of all players), counts as voices if all of its raw recordings are voices.
`NAME_MIX.wav` is not read, because mixtures are sums of stems, without the levels and the mastering of the published
mix. The 122 songs of version 1 have the splits that the code of Stoller et al. 2018 publishes; the others, sorted by
name, are split in thirds.
"""

import dataclasses
from pathlib import Path
from typing import Any, ClassVar

import yaml

from data_pipelines.audio.listing import track_folders
from data_pipelines.audio.reading import AudioFile
from data_pipelines.corpora.base import CorpusBuilder, OrderedMap, Stem, Track
from data_pipelines.corpora.folder import HIGHEST_STORED_RATE, file_inputs
from data_pipelines.corpora.stem_files import check_present, read_stems
from data_pipelines.corpora.stoller2018 import published_or_thirds

# Voices in MedleyDB's taxonomy of instruments, without `crowd` (an audience), and those of songs after version 1.
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
# Values of the field `instrument` that are not instruments.
NO_INSTRUMENT = frozenset(("Main System", "Unlabeled", ""))
# Bytes of the metadata of a song, and depth of their nesting: aliases of aliases would grow without bounds.
LARGEST_METADATA, DEEPEST = 2**20, 32


@dataclasses.dataclass(frozen=True)
class _Song:
    """A song of the corpus: the file of its metadata, and the files that each stem is the sum of."""

    metadata: Path
    files: dict[str, list[Path]]


@dataclasses.dataclass(frozen=True)
class Medleydb(CorpusBuilder):
    """MedleyDB: voices and accompaniment, split as in Stoller et al. 2018.

    Attributes:
      source: Folder that holds `Audio`, and `Metadata` unless the folder of each track holds its metadata.
    """

    kind: ClassVar[str] = "medleydb"
    version: ClassVar[int] = 2

    source: Path

    def inputs(self) -> list[str]:
        songs = self._songs().values()
        return file_inputs(self.source, [path for song in songs for path in (song.metadata, *_all_files(song))])

    def sample_rate(self) -> int:
        first = next(iter(self._songs().values()))
        return min(AudioFile(_all_files(first)[0]).sample_rate, HIGHEST_STORED_RATE)

    def tracks(self, ordered_map: OrderedMap) -> list[Track]:
        return published_or_thirds(self.kind, self._songs(), self.source)

    def load(self, track: Track, sample_rate: int) -> list[Stem]:
        return read_stems(track.source.files, sample_rate)

    def _songs(self) -> dict[str, _Song]:
        """All songs by name."""
        if not self.source.is_dir():
            raise ValueError(f"{self.source}: no such folder")
        songs = {folder.name: self._song(folder) for folder in track_folders(self.source / "Audio")}
        if not songs:
            raise ValueError(f"{self.source} holds no Audio/NAME/NAME_STEMS: give the folder that holds Audio")
        return songs

    def _song(self, folder: Path) -> _Song:
        name = f"{folder.name}_METADATA.yaml"
        folders = (folder, self.source / "Metadata", self.source / "METADATA")
        metadata = next((parent / name for parent in folders if (parent / name).is_file()), None)
        if metadata is None:
            raise ValueError(f"{folder / name}: no such file, nor in {folders[1]}; MedleyDB has one for each song")
        files: dict[str, list[Path]] = {"vocals": [], "accompaniment": []}
        # Departs from the paper: the code of Stoller et al. 2018 adds every voice three times, because it repeats the
        # query for voices three times.
        for stem in read_stems_of(metadata):
            path = folder / f"{folder.name}_STEMS" / stem["filename"]
            files["vocals" if is_voice(stem) else "accompaniment"].append(path)
        song = _Song(metadata, {name: paths for name, paths in files.items() if paths})
        check_present(_all_files(song), f"{metadata.name} lists it as a stem of the song")
        return song


def _all_files(song: _Song) -> list[Path]:
    return [path for paths in song.files.values() for path in paths]


def is_voice(stem: dict[str, Any]) -> bool:
    """Whether all instruments of a stem are voices, according to its entry in the metadata."""
    instruments = _instruments(stem)
    if instruments <= NO_INSTRUMENT:
        instruments = {name for raw in (stem.get("raw") or {}).values() for name in _instruments(raw)}
    return bool(instruments) and instruments <= VOICES


def _instruments(entry: dict[str, Any]) -> set[str]:
    """The instruments of an entry in the metadata, which has one or a list of them."""
    value = entry.get("instrument") or ""
    return set(map(str, value if isinstance(value, list) else [value]))


def read_stems_of(path: Path) -> list[dict[str, Any]]:
    """The entries of `stems` in the metadata of a song.

    Raises:
      ValueError: if the file is not YAML, or lists no stems.
    """
    if path.stat().st_size > LARGEST_METADATA:
        raise ValueError(f"{path} takes {path.stat().st_size:,} bytes, too much for the metadata of a song")
    # PyYAML's loader in C, if it is installed, reads the metadata of all songs in one second, and the other in many.
    loader, text = getattr(yaml, "CSafeLoader", yaml.SafeLoader), path.read_bytes()
    try:
        depth = 0
        for event in yaml.parse(text, loader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if isinstance(event, yaml.AliasEvent) or depth > DEEPEST:
                raise ValueError("it has aliases or is nested deeply, which the metadata of MedleyDB are not")
        content = yaml.load(text, loader)
    except Exception as error:  # PyYAML raises exceptions of many types for values of a wrong form
        raise ValueError(f"{path} is not YAML: {' '.join(str(error).split())[:300]}") from None
    stems = content.get("stems") if isinstance(content, dict) else None
    entries = list(stems.values()) if isinstance(stems, dict) else []
    if not entries or not all(map(_is_stem, entries)):
        raise ValueError(f"{path} does not list stems as {{stems: {{S01: {{filename, instrument, raw}}, …}}}}")
    return entries


def _is_stem(entry: Any) -> bool:
    """Whether an entry of the metadata has the fields of a stem."""
    if not isinstance(entry, dict) or not isinstance(entry.get("filename"), str):
        return False
    raws = entry.get("raw") or {}
    return isinstance(raws, dict) and all(isinstance(raw, dict) for raw in raws.values())
