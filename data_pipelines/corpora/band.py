"""`band`: a built-in corpus of scores that are arranged for a band; it replaces corpora such as MUSDB18.

The scores are the chorales that `chamber` does not use, and fiddle tunes. They are rendered in random keys and tempi as
`vocals`, `drums`, `bass` and `other`, in stereo with random panning and levels, all determined by a seed. Sub-stems are
stored as well: kick, snare and hi-hat are parts of drums; piano, guitar, organ and strings, those that a song has, are
parts of other. They allow a query with a hi-hat to be tested on a model that was trained on complete drums only.
"""

import dataclasses
import itertools
from pathlib import Path
from typing import ClassVar

import numpy as np

from data_pipelines.audio.samples import to_int16
from data_pipelines.corpora.arrange import Notes, arrange
from data_pipelines.corpora.base import CorpusBuilder, OrderedMap, Stem, Track
from data_pipelines.corpora.chamber import belongs_to_chamber, dynamics, score_inputs
from data_pipelines.corpora.render import RELEASE, default_soundfont, level, render
from data_pipelines.corpora.scores import Work, chorales, generator, read_work, tunes
from data_pipelines.schema import BAND_PARENTS

CHORDS = ("piano", "guitar", "organ", "strings")
# General MIDI programs, counted from 0, from which that of an instrument is drawn for each song.
PROGRAMS = {
    "vocals": (52, 53, 54, 85),
    "bass": (32, 33, 34, 35, 38),
    "piano": (0, 1, 4),
    "guitar": (24, 25, 26, 27),
    "organ": (16, 18, 19),
    "strings": (48, 49, 50),
}
# Root mean square of each stem, which changes by up to 3 dB at random.
RMS = {"vocals": 0.09, "bass": 0.08, "kick": 0.05, "snare": 0.04, "hihat": 0.015}
CHORD_RMS = 0.05
# Largest panning of each instrument: 0 is the middle, 1 is hard left or right.
SPREAD = {"vocals": 0.1, "bass": 0.1, "kick": 0.05, "snare": 0.2, "hihat": 0.5}
CHORD_SPREAD = 0.8
VALIDATION_SHARE = 0.14


@dataclasses.dataclass(frozen=True)
class Band(CorpusBuilder):
    """Chorales and fiddle tunes arranged for a band: vocals, drums, bass, other and their sub-stems.

    Attributes:
      train: Number of songs outside of the test split; about a seventh of them form the validation split.
      test: Number of songs in the test split. No tune is in two splits.
      seconds: Length of a song in seconds. Short scores are repeated, and long scores are cut.
      seed: Seed of the selection, keys, tempi, instruments, grooves, levels and panning.
      soundfont: SoundFont, a `.sf2` or `.sf3` file; by default that of the package pretty_midi.
      instrumental: Probability that a song outside of the test split has no vocals. In the training songs of Stoller et
        al. 2018 from MedleyDB, CCMixter and iKala together it is 0.11.
    """

    kind: ClassVar[str] = "band"
    version: ClassVar[int] = 2

    train: int = 100
    test: int = 50
    seconds: float = 40.0
    seed: int = 0
    soundfont: Path | None = None
    instrumental: float = dataclasses.field(default=0.0, metadata={"added": True})

    def inputs(self) -> list[str]:
        return score_inputs(self.soundfont)

    def sample_rate(self) -> int:
        return 44_100

    def tracks(self, ordered_map: OrderedMap) -> list[Track]:
        shuffled = (generator(self.seed, "works").permutation(names).tolist() for names in (chorales(), tunes()))
        names = [name for pair in itertools.zip_longest(*shuffled) for name in pair if name is not None]
        missing = {"train": self.train, "test": self.test}
        tracks: dict[str, list[Track]] = {"train": [], "validation": [], "test": []}
        for work in ordered_map(read_work, names):
            if work is None or (work.name.startswith("bach/") and (belongs_to_chamber(work) or len(work.parts) < 4)):
                continue
            draw = generator("band split", work.tune).random() * 3
            part = "test" if draw < 1 else "train"
            if missing[part]:
                missing[part] -= 1
                split = "validation" if part == "train" and draw > 3 - 2 * VALIDATION_SHARE else part
                tracks[split].append(Track(work.name, split, work))
            if not any(missing.values()):
                return [track for split in tracks.values() for track in split]
        raise ValueError(f"there are not enough scores: {missing} songs are missing; choose smaller numbers of songs")

    def load(self, track: Track, sample_rate: int) -> list[Stem]:
        work: Work = track.source
        rng = generator(self.seed, "song", work.name)
        seconds_per_quarter = 60.0 / rng.uniform(75.0, 135.0)
        chords = tuple(name for name in CHORDS if rng.random() < 0.5) or (CHORDS[int(rng.integers(len(CHORDS)))],)
        lines = arrange(work, chords, rng, self.seconds / seconds_per_quarter)
        seconds = self.seconds + RELEASE
        soundfont = self.soundfont or default_soundfont()
        audio, played = {}, {}
        for name, notes in lines.items():
            played[name] = _timed(notes, seconds_per_quarter)
            audio[name] = _play(name, played[name], rng, seconds, sample_rate, soundfont)
        if track.split != "test" and generator(self.seed, "instrumental", work.name).random() < self.instrumental:
            del audio["vocals"]
        mixture = sum(audio.values())
        for parent in dict.fromkeys(BAND_PARENTS[name] for name in lines if name in BAND_PARENTS):
            parts = [name for name in lines if BAND_PARENTS.get(name) == parent]
            notes = np.concatenate([played[name] for name in parts])
            played[parent] = notes[np.argsort(notes[:, 0], kind="stable")]
            audio[parent] = np.sum([audio[name] for name in parts], axis=0)
        # All stems have the same gain, with which neither the mixture nor any stem exceeds full scale.
        peak = max(float(np.abs(wave).max()) for wave in (mixture, *audio.values()))
        gain = np.float32(min(1.0, 0.95 / peak))
        return [
            Stem(name, to_int16(wave * gain), BAND_PARENTS.get(name, ""), played[name]) for name, wave in audio.items()
        ]


def _timed(notes: Notes, seconds_per_quarter: float) -> np.ndarray:
    """Rows of onset (s), offset (s) and MIDI pitch, `[n, 3]`, each note a little shorter than written."""
    timed = np.asarray(notes, np.float32).reshape(-1, 3)
    timed[:, :2] *= np.float32(seconds_per_quarter)
    timed[:, 1] = timed[:, 0] + np.maximum((timed[:, 1] - timed[:, 0]) * 0.95, 0.05)
    return timed


def _play(
    name: str, notes: np.ndarray, rng: np.random.Generator, seconds: float, sample_rate: int, soundfont: Path
) -> np.ndarray:
    """Render one instrument with its level and panning: float32 `[T, 2]`."""
    program = int(rng.choice(PROGRAMS[name])) if name in PROGRAMS else 0
    drum = name not in PROGRAMS
    mono = render(notes, dynamics(rng, len(notes)), program, seconds, sample_rate, soundfont, drum=drum)
    loudness = RMS.get(name, CHORD_RMS) * 10.0 ** (rng.uniform(-3.0, 3.0) / 20.0)
    angle = (1.0 + rng.uniform(-1.0, 1.0) * SPREAD.get(name, CHORD_SPREAD)) * np.pi / 4
    sides = np.array([[np.cos(angle), np.sin(angle)]], np.float32) * np.float32(np.sqrt(2.0))
    return level(mono, loudness) * sides
