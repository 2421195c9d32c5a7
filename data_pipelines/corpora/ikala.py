"""`ikala`: iKala (Chan et al. 2015), 252 clips of Chinese pop songs, in the published layout.

    Wavfile/10161_chorus.wav …      stereo: accompaniment on the left, voice on the right

Both stems are stored in mono, and the mixture is their sum. Each split is a third of the clips, sorted by name. Stoller
et al. 2018 also use thirds, but of another order: that of an XML file which is too large for the available copy of
their code, so that their clips of each split are not known here.
"""

import dataclasses
from pathlib import Path
from typing import ClassVar

from data_pipelines.audio.listing import entries
from data_pipelines.audio.reading import AudioFile, read_audio
from data_pipelines.audio.samples import resample, to_int16
from data_pipelines.corpora.base import CorpusBuilder, OrderedMap, Stem, Track
from data_pipelines.corpora.folder import HIGHEST_STORED_RATE, file_inputs
from data_pipelines.corpora.stoller2018 import split_in_thirds

# Channel of each stem.
CHANNELS = {"vocals": 1, "accompaniment": 0}


@dataclasses.dataclass(frozen=True)
class Ikala(CorpusBuilder):
    """iKala: voice and accompaniment, with a third of the clips in each split.

    Attributes:
      source: Folder that holds `Wavfile`.
    """

    kind: ClassVar[str] = "ikala"
    version: ClassVar[int] = 1

    source: Path

    def inputs(self) -> list[str]:
        return file_inputs(self.source, self._files())

    def sample_rate(self) -> int:
        return min(AudioFile(self._files()[0]).sample_rate, HIGHEST_STORED_RATE)

    def tracks(self, ordered_map: OrderedMap) -> list[Track]:
        return split_in_thirds({path.stem: path for path in self._files()}, self.source)

    def load(self, track: Track, sample_rate: int) -> list[Stem]:
        audio, rate = read_audio(track.source)
        if audio.shape[1] != len(CHANNELS):
            raise ValueError(
                f"{track.source} has {audio.shape[1]} channels; a file of iKala has 2, "
                "the accompaniment on the left and the voice on the right"
            )
        audio = to_int16(resample(audio, rate, sample_rate))
        return [Stem(name, audio[:, [channel]]) for name, channel in CHANNELS.items()]

    def _files(self) -> list[Path]:
        if not self.source.is_dir():
            raise ValueError(f"{self.source}: no such folder")
        files = entries(self.source / "Wavfile", "*.wav")
        if not files:
            raise ValueError(f"{self.source} holds no Wavfile/TRACK.wav: give the folder that holds Wavfile")
        return files
