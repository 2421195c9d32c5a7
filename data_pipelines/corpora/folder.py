"""`folder`: a user's own folder `SPLIT/TRACK/STEM.wav` with any stems, at any sample rate, in any readable format.

The splits are named train, validation and test. Shorter stems of a track are padded with silence to the longest, and
mono stems are copied to all channels of the others.
"""

import collections
import dataclasses
import itertools
from pathlib import Path
from typing import ClassVar

import soundfile

from data_pipelines.audio.reading import READABLE, read_audio
from data_pipelines.corpora.base import CorpusBuilder, OrderedMap, Stem, Track
from data_pipelines.corpora.stem_files import read_stems
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
        return file_inputs(self.source, [path for files in self._files().values() for path in files])

    def sample_rate(self) -> int:
        rates = collections.Counter(_rate(files[0]) for files in self._files().values())
        return min(rates.most_common(1)[0][0], HIGHEST_STORED_RATE)

    def tracks(self, ordered_map: OrderedMap) -> list[Track]:
        return [Track(name, split, tuple(files)) for (split, name), files in self._files().items()]

    def load(self, track: Track, sample_rate: int) -> list[Stem]:
        return read_stems({path.stem: [path] for path in track.source}, sample_rate)

    def _files(self) -> dict[tuple[str, str], list[Path]]:
        """The audio files of each track, by split and track."""
        if not self.source.is_dir():
            raise ValueError(f"{self.source}: no such folder")
        by_track = {}
        for split in SPLITS:
            for track in sorted(path for path in (self.source / split).glob("*") if path.is_dir()):
                files = [path for path in track.iterdir() if path.suffix.lower() in READABLE]
                files.sort(key=lambda path: (path.stem, path.name))
                if not files:
                    raise ValueError(f"{track} holds no audio file ({', '.join(READABLE)})")
                for file, following in itertools.pairwise(files):
                    if file.stem == following.stem:
                        raise ValueError(f"{track} holds two files for one stem: {file.name}, {following.name}")
                by_track[split, track.name] = files
        if not by_track:
            raise ValueError(f"{self.source} holds no train/TRACK/STEM.wav; splits are named {', '.join(SPLITS)}")
        return by_track


def _rate(path: Path) -> int:
    try:
        return soundfile.info(path).samplerate
    except soundfile.LibsndfileError:
        return read_audio(path)[1]  # has a clear error message


def file_inputs(root: Path, files: list[Path]) -> list[str]:
    """The name, size and modification time of each file, which change when the file changes."""
    return [f"{path.relative_to(root)} {path.stat().st_size} {path.stat().st_mtime_ns}" for path in files]
