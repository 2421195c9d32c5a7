"""`musdb18`: the MUSDB18 music separation corpus (Rafii et al. 2017), from either of its two published forms.

* `train/TRACK.stem.mp4`, `test/TRACK.stem.mp4`: five AAC streams, of which the first is the mixture, decoded by PyAV
  (the program ffmpeg is not needed);
* MUSDB18-HQ: `train/TRACK/{vocals,drums,bass,other}.wav` and the same under `test`.

The folders `train` and `test` hold the published 100 and 50 songs. By default, the validation split consists of 14 of
the training songs, the `validation_tracks` in `musdb/configs/mus.yaml` of the package `musdb`; 86 are left.
"""

import dataclasses
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from data_pipelines.audio.listing import entries
from data_pipelines.audio.reading import read_audio
from data_pipelines.audio.samples import fit_channels, fit_length, resample, to_int16
from data_pipelines.corpora.base import CorpusBuilder, OrderedMap, Stem, Track
from data_pipelines.corpora.folder import file_inputs
from data_pipelines.pyav import opened
from data_pipelines.schema import FOUR_STEMS

# Streams of a stem file, in order.
STREAMS = ("mixture", "drums", "bass", "other", "vocals")
RATE = 44_100
VALIDATION = frozenset(
    (
        "ANiMAL - Rockshow",
        "Actions - One Minute Smile",
        "Alexander Ross - Goodbye Bolero",
        "Clara Berry And Wooldog - Waltz For My Victims",
        "Fergessen - Nos Palpitants",
        "James May - On The Line",
        "Johnny Lokke - Promises & Lies",
        "Leaf - Summerghost",
        "Meaxic - Take A Step",
        "Patrick Talbot - A Reason To Leave",
        "Skelpolu - Human Mistakes",
        "Traffic Experiment - Sirens",
        "Triviul - Angelsaint",
        "Young Griffo - Pennies",
    )
)


@dataclasses.dataclass(frozen=True)
class Musdb18(CorpusBuilder):
    """MUSDB18 from its .stem.mp4 files, or MUSDB18-HQ from its folders of WAV files.

    Attributes:
      source: Folder that holds `train` and `test`.
      validation: Songs of the validation split: the 14 training songs that the package `musdb` lists for it (`musdb`),
        or `none`, so that all 100 songs are in the training split.
    """

    kind: ClassVar[str] = "musdb18"
    version: ClassVar[int] = 1

    source: Path
    validation: Literal["musdb", "none"] = dataclasses.field(default="musdb", metadata={"added": True})

    def inputs(self) -> list[str]:
        files = []
        for _, _, path in self._songs():
            files += entries(path, "*.wav") if path.is_dir() else [path]
        return file_inputs(self.source, files)

    def sample_rate(self) -> int:
        return RATE

    def tracks(self, ordered_map: OrderedMap) -> list[Track]:
        return [Track(name, split, path) for split, name, path in self._songs()]

    def load(self, track: Track, sample_rate: int) -> list[Stem]:
        path: Path = track.source
        audio = _read_folder(path) if path.is_dir() else read_stem_file(path)
        length = max(len(stem) for stem, _ in audio.values())
        return [
            Stem(name, to_int16(resample(fit_length(fit_channels(stem, 2), length), rate, sample_rate)))
            for name, (stem, rate) in audio.items()
        ]

    def _songs(self) -> list[tuple[str, str, Path]]:
        """The split, the name and the path of each song."""
        if not self.source.is_dir():
            raise ValueError(f"{self.source}: no such folder")
        songs = []
        for part in ("train", "test"):
            for path in entries(self.source / part):
                if path.name.endswith(".stem.mp4") or (path.is_dir() and (path / "vocals.wav").is_file()):
                    name = path.name.removesuffix(".stem.mp4")
                    is_validation = self.validation == "musdb" and part == "train" and name in VALIDATION
                    split = "validation" if is_validation else part
                    songs.append((split, name, path))
        if not songs:
            raise ValueError(
                f"{self.source} holds neither train/*.stem.mp4 nor train/TRACK/vocals.wav (nor the same under test)"
            )
        return songs


def _read_folder(path: Path) -> dict[str, tuple[np.ndarray, int]]:
    """The four stems of a folder of MUSDB18-HQ, each float32 `[T, C]` with its sample rate in Hz."""
    return {name: read_audio(path / f"{name}.wav") for name in FOUR_STEMS}


def read_stem_file(path: Path) -> dict[str, tuple[np.ndarray, int]]:
    """The four stems of a `.stem.mp4` without the mixture, each float32 `[T, C]` with its sample rate in Hz.

    Raises:
      ValueError: if the file is damaged or does not have five audio streams.
    """
    import av  # slow

    with opened(path) as container:
        streams = container.streams.audio
        if len(streams) != len(STREAMS):
            raise ValueError(f"{path} has {len(streams)} audio streams; a stem file of MUSDB18 has {len(STREAMS)}")
        pieces: list[list[np.ndarray]] = [[] for _ in streams]
        rates = [stream.rate for stream in streams]
        resamplers = [av.AudioResampler(format="fltp") for _ in streams]
        order = {stream.index: number for number, stream in enumerate(streams)}
        for packet in container.demux(streams):
            number = order[packet.stream.index]
            for frame in packet.decode():
                pieces[number] += [piece.to_ndarray() for piece in resamplers[number].resample(frame)]
    audio = [np.concatenate(piece, axis=1).T for piece in pieces]
    return {name: (audio[number], rates[number]) for number, name in enumerate(STREAMS) if name != "mixture"}
