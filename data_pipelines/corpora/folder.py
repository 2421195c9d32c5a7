"""`folder`: a user's own folder `SPLIT/TRACK/STEM.wav` with any stems, at any sample rate, in any readable format.

The splits are named train, validation and test. Shorter stems of a track are padded with silence to the longest, and
mono stems are copied to all channels of the others. A file named `mixture` is no stem, because mixtures are sums of
stems.
"""

import collections
import dataclasses
from pathlib import Path
from typing import ClassVar

from data_pipelines.audio.listing import stems_of, track_folders, warn_of_mixtures
from data_pipelines.audio.reading import READABLE, AudioFile
from data_pipelines.corpora.base import CorpusBuilder, OrderedMap, Stem, Track
from data_pipelines.corpora.stem_files import read_stems
from data_pipelines.names import composed
from data_pipelines.schema import SPLITS

HIGHEST_STORED_RATE = 44_100


@dataclasses.dataclass(frozen=True)
class Folder(CorpusBuilder):
    """A folder of your own, SOURCE/SPLIT/TRACK/STEM.wav, with the splits train, validation and test.

    Attributes:
      source: Folder that holds the splits.
    """

    kind: ClassVar[str] = "folder"
    version: ClassVar[int] = 1

    source: Path

    def inputs(self) -> list[str]:
        return file_inputs(self.source, [path for files in self._files().values() for path in files.values()])

    def sample_rate(self) -> int:
        rates = collections.Counter(
            AudioFile(next(iter(files.values()))).sample_rate for files in self._files().values()
        )
        return min(rates.most_common(1)[0][0], HIGHEST_STORED_RATE)

    def tracks(self, ordered_map: OrderedMap) -> list[Track]:
        warn_of_mixtures(folder for split in SPLITS for folder in track_folders(self.source / split))
        return [Track(name, split, tuple(files.values())) for (split, name), files in self._files().items()]

    def load(self, track: Track, sample_rate: int) -> list[Stem]:
        return read_stems({composed(path.stem): [path] for path in track.source}, sample_rate)

    def _files(self) -> dict[tuple[str, str], dict[str, Path]]:
        """The audio file of each stem of each track, by split and track."""
        if not self.source.is_dir():
            raise ValueError(f"{self.source}: no such folder")
        by_track = {}
        for split in SPLITS:
            for track in track_folders(self.source / split):
                files = stems_of(track)
                if not files:
                    raise ValueError(f"{track} holds no audio file ({', '.join(READABLE)})")
                if (split, composed(track.name)) in by_track:
                    raise ValueError(f"{self.source / split} holds two folders for one track: '{composed(track.name)}'")
                by_track[split, composed(track.name)] = files
        if not by_track:
            raise ValueError(f"{self.source} holds no train/TRACK/STEM.wav; splits are named {', '.join(SPLITS)}")
        return by_track


def file_inputs(root: Path, files: list[Path]) -> list[str]:
    """The name, size and modification time of each file, which change when the file changes."""
    return [f"{path.relative_to(root)} {path.stat().st_size} {path.stat().st_mtime_ns}" for path in files]
