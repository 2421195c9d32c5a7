"""`chamber`: real scores played by the 13 URMP instruments; stands in for URMP and Solos, needs no download.

Bach chorales and quartet movements, each part given one of the instruments whose range it fits, moved by octaves to
where that instrument is at home, no instrument twice in a work, all for about equally long. One SoundFont plays them,
or any other with `soundfont`: training on one and testing on another is the honest test of generalisation. Mono.
"""

import dataclasses
import importlib.metadata
from pathlib import Path
from typing import ClassVar

import numpy as np

from data_pipelines.audio.reading import to_int16
from data_pipelines.corpora import pitch_shift
from data_pipelines.corpora.base import CorpusBuilder, OrderedMap, Stem, Track
from data_pipelines.corpora.render import RELEASE, default_soundfont, level, render
from data_pipelines.corpora.scores import Part, Work, chorales, generator, quartets, read_work
from data_pipelines.schema import INSTRUMENTS

# Shares of the tunes: which corpus a chorale goes to, and which split.
CHAMBER_SHARE = 0.6
TEST_SHARE, VALIDATION_SHARE = 0.15, 0.1
STEM_RMS = 0.08


@dataclasses.dataclass(frozen=True)
class Arrangement:
    """A work with an instrument and a transposition in semitones for each part that is played."""

    work: Work
    players: tuple[tuple[int, str, int], ...]  # index of the part, instrument, semitones
    seconds_per_quarter: float


@dataclasses.dataclass(frozen=True)
class Chamber(CorpusBuilder):
    """Bach chorales and quartet movements, played by the 13 instruments of URMP.

    Attributes:
      works: how many scores to take, in a seeded order.
      longest: seconds after which a work is cut off.
      seed: of the order, the tempi, the players and the dynamics.
      soundfont: a `.sf2` or `.sf3` file instead of the one that pretty_midi carries.
      shifts: semitones up and down for which pitch-shifted variants of the training and validation stems are stored.
    """

    kind: ClassVar[str] = "chamber"
    version: ClassVar[int] = 3

    works: int = 160
    longest: float = 120.0
    seed: int = 0
    soundfont: Path | None = None
    shifts: int = dataclasses.field(default=0, metadata={"added": True})

    def inputs(self) -> list[str]:
        return [*score_inputs(self.soundfont), *pitch_shift.inputs(self.shifts)]

    def sample_rate(self) -> int:
        return 44_100

    def tracks(self, ordered_map: OrderedMap) -> list[Track]:
        names = generator(self.seed, "works").permutation(sorted(chorales() + quartets())).tolist()
        works = []
        for work in ordered_map(read_work, names):
            if work is not None and belongs_to_chamber(work) and len(work.parts) >= 4:
                works.append(work)
            if len(works) == self.works:
                break
        else:
            raise ValueError(f"there are {len(works)} scores for this corpus, not {self.works}: ask for fewer works")
        by_split: dict[str, list[Work]] = {"train": [], "validation": [], "test": []}
        for work in works:
            by_split[split_of(work)].append(work)
        return [
            Track(arrangement.work.name, split, arrangement)
            for split, members in by_split.items()
            for arrangement in self._arrange(members, split)
        ]

    def _arrange(self, works: list[Work], split: str) -> list[Arrangement]:
        played = dict.fromkeys(INSTRUMENTS, 0.0)
        arrangements = []
        for work in works:
            rng = generator(self.seed, "arrange", work.name)
            seconds_per_quarter = 60.0 / rng.uniform(60.0, 100.0)
            players, free = [], set(INSTRUMENTS)
            for index in rng.permutation(4):
                part = work.parts[index]
                fitting = {name: octaves[0] for name in sorted(free) if (octaves := _octaves(part, name))}
                if not fitting:
                    continue
                instrument = min(fitting, key=lambda name: (played[name], rng.random()))
                free.remove(instrument)
                seconds = min(part.notes[-1][1] * seconds_per_quarter, self.longest)
                played[instrument] += seconds
                players.append((int(index), instrument, fitting[instrument]))
            arrangements.append(Arrangement(work, tuple(sorted(players)), seconds_per_quarter))
        return arrangements

    def load(self, track: Track, sample_rate: int) -> list[Stem]:
        arrangement: Arrangement = track.source
        soundfont = self.soundfont or default_soundfont()
        parts = [
            (instrument, timed_notes(arrangement.work.parts[index], arrangement.seconds_per_quarter, shift))
            for index, instrument, shift in arrangement.players
        ]
        seconds = min(max(notes[-1, 1] for _, notes in parts) + RELEASE, self.longest)
        stems = []
        for instrument, notes in parts:
            rng = generator(self.seed, "dynamics", track.name, instrument)
            notes = notes[notes[:, 0] < seconds - RELEASE]
            program = INSTRUMENTS[instrument][2]
            audio = render(notes, dynamics(rng, len(notes)), program, seconds, sample_rate, soundfont)
            stems.append(Stem(instrument, to_int16(level(audio, STEM_RMS)), notes=notes))
        most = 0 if track.split == "test" else self.shifts
        return stems + [variant for stem in stems for variant in pitch_shift.shifted(stem, most, sample_rate)]


def score_inputs(soundfont: Path | None) -> list[str]:
    """What the content of a rendered corpus depends on besides its options."""
    path = soundfont or default_soundfont()
    if not path.is_file():
        raise ValueError(f"{path}: no such SoundFont")
    packages = [f"{name} {importlib.metadata.version(name)}" for name in ("music21", "symusic", "soxr")]
    return [*packages, f"{path.name} {path.stat().st_size}"]


def belongs_to_chamber(work: Work) -> bool:
    """Whether `chamber` takes the work; `band` takes the others. All arrangements of a tune go the same way."""
    return not work.name.startswith("bach/") or generator("corpus", work.tune).random() < CHAMBER_SHARE


def split_of(work: Work) -> str:
    """Train, validation or test, the same for all arrangements of a tune."""
    draw = generator("split", work.tune).random()
    return "test" if draw < TEST_SHARE else "validation" if draw < TEST_SHARE + VALIDATION_SHARE else "train"


def _octaves(part: Part, instrument: str) -> list[int]:
    """Shifts in semitones by which the part fits, the one nearest to the middle of the instrument's range first."""
    low, high, _ = INSTRUMENTS[instrument]
    fitting = [shift for shift in range(-36, 37, 12) if low <= part.low + shift and part.high + shift <= high]
    return sorted(fitting, key=lambda shift: abs(part.low + part.high + 2 * shift - low - high))


def timed_notes(part: Part, seconds_per_quarter: float, shift: int) -> np.ndarray:
    """`[n, 3]` rows of onset s, offset s, MIDI pitch, each note let go a little before the next."""
    notes = np.asarray(part.notes, np.float32)
    notes[:, :2] *= np.float32(seconds_per_quarter)
    notes[:, 1] = notes[:, 0] + np.maximum((notes[:, 1] - notes[:, 0]) * 0.95, 0.05)
    notes[:, 2] += shift
    return notes


def dynamics(rng: np.random.Generator, count: int) -> np.ndarray:
    """MIDI velocities that wander slowly between soft and loud, `[count]`."""
    walk = np.cumsum(rng.normal(0.0, 6.0, count)) + rng.uniform(70, 100)
    folded = np.abs((walk - 55.0) % 110.0 - 55.0)  # reflected at both ends of 0…55
    return np.rint(60.0 + folded).astype(int)
