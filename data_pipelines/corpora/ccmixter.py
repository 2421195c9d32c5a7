"""`ccmixter`: 50 songs from ccmixter.org with voice and accompaniment (Liutkus et al. 2014), in the published layout.

    TRACK/source-01.wav     accompaniment
    TRACK/source-02.wav     voice
    TRACK/mix.wav           not read, because mixtures are sums of stems

The songs have the splits that the code of Stoller et al. 2018 publishes; any other songs, sorted by name, are split in
thirds.
"""

import dataclasses
from pathlib import Path
from typing import ClassVar

from data_pipelines.audio.listing import track_folders
from data_pipelines.audio.reading import AudioFile
from data_pipelines.corpora.base import CorpusBuilder, OrderedMap, Stem, Track
from data_pipelines.corpora.folder import HIGHEST_STORED_RATE, file_inputs
from data_pipelines.corpora.stem_files import check_present, read_stems
from data_pipelines.corpora.stoller2018 import published_or_thirds

FILES = {"vocals": "source-02.wav", "accompaniment": "source-01.wav"}
EXPECTED = "a track of CCMixter has source-01.wav, the accompaniment, and source-02.wav, the voice"


@dataclasses.dataclass(frozen=True)
class Ccmixter(CorpusBuilder):
    """The CCMixter corpus: voice and accompaniment, split as in Stoller et al. 2018.

    Attributes:
      source: Folder that holds a folder for each track.
    """

    kind: ClassVar[str] = "ccmixter"
    version: ClassVar[int] = 2

    source: Path

    def inputs(self) -> list[str]:
        return file_inputs(self.source, [path for folder in self._folders() for path in _files(folder).values()])

    def sample_rate(self) -> int:
        return min(AudioFile(_files(self._folders()[0])["vocals"]).sample_rate, HIGHEST_STORED_RATE)

    def tracks(self, ordered_map: OrderedMap) -> list[Track]:
        return published_or_thirds(self.kind, {folder.name: folder for folder in self._folders()}, self.source)

    def load(self, track: Track, sample_rate: int) -> list[Stem]:
        return read_stems({name: [path] for name, path in _files(track.source).items()}, sample_rate)

    def _folders(self) -> list[Path]:
        if not self.source.is_dir():
            raise ValueError(f"{self.source}: no such folder")
        # The source may hold other folders. One with any file of a track is a track, which may be incomplete.
        parts = ("mix.wav", *FILES.values())
        folders = [path for path in track_folders(self.source) if any((path / part).is_file() for part in parts)]
        if not folders:
            raise ValueError(f"{self.source} holds no TRACK/source-01.wav: give the folder of the tracks")
        check_present((path for folder in folders for path in _files(folder).values()), EXPECTED)
        return folders


def _files(folder: Path) -> dict[str, Path]:
    """The files of the stems of a track."""
    return {name: folder / file for name, file in FILES.items()}
