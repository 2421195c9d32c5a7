"""`dsd100`: the Demixing Secrets Dataset (Liutkus et al. 2017), 100 songs with four stems, in the published layout.

    Sources/Dev/TRACK/{vocals,drums,bass,other}.wav       50 songs, the training split
    Sources/Test/TRACK/{vocals,drums,bass,other}.wav      50 songs

`Mixtures` is not read, because mixtures are sums of stems. The songs in `Dev` form the training split. The songs in
`Test` have the splits that the code of Stoller et al. 2018 publishes, 25 for validation and 25 for testing. Of songs in
`Test` that its list lacks, sorted by name, the first half is in the validation split and the second half in the test
split.
"""

import dataclasses
from pathlib import Path
from typing import ClassVar

from data_pipelines.audio.listing import track_folders
from data_pipelines.audio.reading import AudioFile
from data_pipelines.corpora.base import CorpusBuilder, OrderedMap, Stem, Track
from data_pipelines.corpora.folder import HIGHEST_STORED_RATE, file_inputs
from data_pipelines.corpora.stem_files import check_present, read_stems
from data_pipelines.corpora.stoller2018 import published_songs, warn_of_unlisted
from data_pipelines.schema import FOUR_STEMS

EXPECTED = "a track of DSD100 has vocals.wav, drums.wav, bass.wav and other.wav"


@dataclasses.dataclass(frozen=True)
class Dsd100(CorpusBuilder):
    """DSD100, with 50 songs for training, 25 for validation and 25 for testing.

    Attributes:
      source: Folder that holds `Sources`.
    """

    kind: ClassVar[str] = "dsd100"
    version: ClassVar[int] = 2

    source: Path

    def inputs(self) -> list[str]:
        return file_inputs(self.source, [path for track in self._tracks() for path in _files(track)])

    def sample_rate(self) -> int:
        return min(AudioFile(_files(self._tracks()[0])[0]).sample_rate, HIGHEST_STORED_RATE)

    def tracks(self, ordered_map: OrderedMap) -> list[Track]:
        tracks, listed = self._tracks(), {song.track for song in published_songs(self.kind) if song.split != "train"}
        unlisted = [track.name for track in tracks if track.split != "train" and track.name not in listed]
        warn_of_unlisted(unlisted, self.source, "half of them is in the validation split, half in the test split")
        return tracks

    def load(self, track: Track, sample_rate: int) -> list[Stem]:
        return read_stems({path.stem: [path] for path in _files(track)}, sample_rate)

    def _tracks(self) -> list[Track]:
        if not self.source.is_dir():
            raise ValueError(f"{self.source}: no such folder")
        dev, test = (track_folders(self.source / "Sources" / part) for part in ("Dev", "Test"))
        if not dev and not test:
            raise ValueError(
                f"{self.source} holds neither Sources/Dev/TRACK/vocals.wav nor the same under Sources/Test: "
                "give the folder that holds Sources"
            )
        tracks = [Track(folder.name, "train", folder) for folder in dev] + _split_test(test)
        check_present((path for track in tracks for path in _files(track)), EXPECTED)
        return tracks


def _split_test(folders: list[Path]) -> list[Track]:
    """The songs of `Test`: those of the published list in its order, then the halves of the others."""
    by_name = {folder.name: folder for folder in folders}
    songs = [song for song in published_songs(Dsd100.kind) if song.track in by_name and song.split != "train"]
    tracks = [Track(song.track, song.split, by_name.pop(song.track)) for song in songs]
    names = sorted(by_name)
    splits = {"validation": names[: len(names) // 2], "test": names[len(names) // 2 :]}
    return tracks + [Track(name, split, by_name[name]) for split, half in splits.items() for name in half]


def _files(track: Track) -> list[Path]:
    """The files of the stems of a track."""
    return [track.source / f"{name}.wav" for name in FOUR_STEMS]
