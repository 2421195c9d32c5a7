"""`chamber`: a built-in corpus of scores that are rendered with the 13 URMP instruments; it replaces URMP and Solos.

The scores are Bach chorales and quartet movements. Each part is played by an instrument whose range it fits, transposed
by octaves to the middle of that range. No instrument plays twice in a work, and all instruments play for about the same
total time. The audio is mono. With `soundfont`, another SoundFont renders the scores: training on one SoundFont and
testing on another shows whether a model generalises.
"""

import dataclasses
import importlib.metadata
from pathlib import Path
from typing import ClassVar

import numpy as np

from data_pipelines.audio.samples import to_int16
from data_pipelines.corpora import pitch_shift
from data_pipelines.corpora.base import CorpusBuilder, OrderedMap, Stem, Track
from data_pipelines.corpora.render import RELEASE, RENDER_RATE, default_soundfont, gain_to, render
from data_pipelines.corpora.scores import Part, Work, chorales, generator, quartets, read_work
from data_pipelines.schema import INSTRUMENTS

# Share of the chorales that this corpus uses, and shares of the tunes in its splits.
CHAMBER_SHARE = 0.6
TEST_SHARE, VALIDATION_SHARE = 0.15, 0.1
STEM_RMS = 0.08


@dataclasses.dataclass(frozen=True)
class Arrangement:
    """A work with the instruments that play it.

    Attributes:
      work: Score.
      players: For each part that is played, its index, the instrument, and the transposition in semitones.
      seconds_per_quarter: Duration of a quarter note in seconds.
    """

    work: Work
    players: tuple[tuple[int, str, int], ...]
    seconds_per_quarter: float


@dataclasses.dataclass(frozen=True)
class Chamber(CorpusBuilder):
    """Bach chorales and quartet movements, rendered with the 13 instruments of URMP.

    Attributes:
      works: Number of scores.
      longest: Length in seconds at which a work is cut.
      seed: Seed of the selection of scores, tempi, instruments and dynamics.
      soundfont: SoundFont, a `.sf2` or `.sf3` file; by default that of the package pretty_midi.
      shifts: Largest shift in semitones, up and down, of the pitch-shifted variants of the training and validation
        stems.
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
            raise ValueError(f"there are {len(works)} scores for this corpus, not {self.works}: choose fewer --works")
        by_split: dict[str, list[Work]] = {"train": [], "validation": [], "test": []}
        for work in works:
            by_split[split_of(work)].append(work)
        return [
            Track(arrangement.work.name, split, arrangement)
            for split, members in by_split.items()
            for arrangement in self._arrange(members, split)
        ]

    def _arrange(self, works: list[Work], split: str) -> list[Arrangement]:
        """Assign instruments to the parts of the works of a split, such that all play for about the same time."""
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
        largest_shift = 0 if track.split == "test" else self.shifts
        stems, variants = [], []
        for instrument, notes in parts:
            rng = generator(self.seed, "dynamics", track.name, instrument)
            notes = notes[notes[:, 0] < seconds - RELEASE]
            velocities, program = dynamics(rng, len(notes)), INSTRUMENTS[instrument][2]
            audio = render(notes, velocities, program, seconds, sample_rate, soundfont)
            gain = gain_to(audio, STEM_RMS)
            stem = Stem(instrument, to_int16(audio * gain), notes=notes)
            stems.append(stem)
            if largest_shift:
                original = render(notes, velocities, program, seconds, RENDER_RATE, soundfont) * gain
                variants += pitch_shift.shifted(stem, original, RENDER_RATE, largest_shift, sample_rate)
        return stems + variants


def score_inputs(soundfont: Path | None) -> list[str]:
    """The packages and the SoundFont that determine the content of a rendered corpus, for `CorpusBuilder.inputs`.

    Raises:
      ValueError: if the SoundFont is missing.
    """
    path = soundfont or default_soundfont()
    if not path.is_file():
        raise ValueError(f"{path}: no such SoundFont")
    packages = [f"{name} {importlib.metadata.version(name)}" for name in ("music21", "symusic", "soxr")]
    return [*packages, f"{path.name} {path.stat().st_size}"]


def belongs_to_chamber(work: Work) -> bool:
    """Whether `chamber` uses the work; `band` uses the others. All arrangements of a tune are in the same corpus."""
    return not work.name.startswith("bach/") or generator("corpus", work.tune).random() < CHAMBER_SHARE


def split_of(work: Work) -> str:
    """The split of a work, which is the same for all arrangements of a tune."""
    draw = generator("split", work.tune).random()
    return "test" if draw < TEST_SHARE else "validation" if draw < TEST_SHARE + VALIDATION_SHARE else "train"


def _octaves(part: Part, instrument: str) -> list[int]:
    """The octave shifts in semitones that bring the part into the instrument's range, the most central one first."""
    low, high, _ = INSTRUMENTS[instrument]
    fitting = [shift for shift in range(-36, 37, 12) if low <= part.low + shift and part.high + shift <= high]
    return sorted(fitting, key=lambda shift: abs(part.low + part.high + 2 * shift - low - high))


def timed_notes(part: Part, seconds_per_quarter: float, shift: int) -> np.ndarray:
    """Rows of onset (s), offset (s) and MIDI pitch, `[n, 3]`, each note a little shorter than written."""
    notes = np.asarray(part.notes, np.float32)
    notes[:, :2] *= np.float32(seconds_per_quarter)
    notes[:, 1] = notes[:, 0] + np.maximum((notes[:, 1] - notes[:, 0]) * 0.95, 0.05)
    notes[:, 2] += shift
    return notes


def dynamics(rng: np.random.Generator, count: int) -> np.ndarray:
    """MIDI velocities from a random walk between soft and loud, `[count]`."""
    walk = np.cumsum(rng.normal(0.0, 6.0, count)) + rng.uniform(70, 100)
    folded = np.abs((walk - 55.0) % 110.0 - 55.0)  # reflects the walk at both ends of 0…55
    return np.rint(60.0 + folded).astype(int)
