"""Scores from the package music21: Bach chorales, quartet movements and folk tunes as lists of notes."""

import dataclasses
import hashlib
import itertools
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np

# Number of notes at the beginning that identify a tune in any key and arrangement. Works are split by tune, so that the
# test set has no other harmonisation of a training chorale.
TUNE_NOTES = 12

# Names of the four voices of chorales.
VOICE = re.compile(r"(Soprano|Alto|Tenor|Bass)\b")

QUARTET_COMPOSERS = ("haydn", "mozart", "beethoven")


@dataclasses.dataclass(frozen=True)
class Part:
    """One monophonic part; `notes` are (onset, offset, MIDI pitch) in order, with times in quarter notes."""

    name: str
    notes: tuple[tuple[float, float, int], ...]

    @property
    def low(self) -> int:
        """The lowest pitch."""
        return min(pitch for _, _, pitch in self.notes)

    @property
    def high(self) -> int:
        """The highest pitch."""
        return max(pitch for _, _, pitch in self.notes)


@dataclasses.dataclass(frozen=True)
class Work:
    """A score.

    Attributes:
      name: Its path in the corpus of music21.
      tune: Identifier of its tune, by which works are split.
      parts: Its parts in the order of the score.
      metre: Quarter notes per bar.
    """

    name: str
    tune: str
    parts: tuple[Part, ...]
    metre: float


def chorales() -> list[str]:
    """The names of the four-part Bach chorales, sorted."""
    return _names("bach", (".mxl", ".xml"))


def quartets() -> list[str]:
    """The names of the string-quartet movements, sorted; each in one edition, without files of complete quartets."""
    names = [name for composer in QUARTET_COMPOSERS for name in _names(composer, (".mxl",)) if "movement" in name]
    return sorted(names)


def tunes() -> list[str]:
    """The names of the fiddle tunes, which have a single part, sorted."""
    return _names("ryansMammoth", (".abc",))


def _names(composer: str, suffixes: tuple[str, ...]) -> list[str]:
    from music21 import corpus

    paths = (Path(path) for path in corpus.getComposer(composer))
    return sorted({"/".join(path.parts[path.parts.index("corpus") + 1 :]) for path in paths if path.suffix in suffixes})


def generator(*words: object) -> np.random.Generator:
    """A random generator that depends only on `words`, and not on the machine or the process."""
    digest = hashlib.sha256("\0".join(map(str, words)).encode()).digest()
    return np.random.default_rng(list(digest))


def read_work(name: str) -> Work | None:
    """Parse the score `name`; None if it has no part with at least 16 notes."""
    from music21 import corpus

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # concern notation that is not needed here
        # Parsing the source takes half the time of music21's pickles, which are written to the temporary folder first.
        score: Any = corpus.parse(name, forceSource=True)
    parts = tuple(part for part in map(_read_part, score.parts) if len(part.notes) >= 16)
    voices = tuple(part for part in parts if VOICE.match(part.name))
    if len(voices) >= 4:  # other parts double or ornament the voices, and would change the tune
        parts = voices
    if not parts:
        return None
    measures = list(score.parts[0].getElementsByClass("Measure"))
    signature = measures[0].timeSignature if measures else None
    metre = float(signature.barDuration.quarterLength) if signature is not None else 4.0
    return Work(name, _tune(name, parts[0]), parts, metre)


def _tune(name: str, melody: Part) -> str:
    """The identifier of a tune: the first intervals of the melody or, for a movement, the name of its work."""
    if "/movement" in name:
        return name.rsplit("/", 1)[0]
    pitches = [pitch for _, _, pitch in melody.notes[:TUNE_NOTES]]
    return " ".join(str(b - a) for a, b in itertools.pairwise(pitches))


def _read_part(part) -> Part:
    """The highest voice of a part: the highest note of each chord, with ties merged and overlaps cut."""
    notes: list[tuple[float, float, int]] = []
    for element in part.flatten().notes:
        if element.duration.isGrace or not element.pitches:
            continue
        onset = float(element.offset)
        offset = onset + float(element.quarterLength)
        pitch = max(sounding.midi for sounding in element.pitches)
        if notes and onset <= notes[-1][0]:  # another voice begins at the same time: keep the higher note
            if pitch > notes[-1][2]:
                notes[-1] = (onset, offset, pitch)
            continue
        tied = element.tie is not None and element.tie.type in ("stop", "continue")
        if tied and notes and notes[-1][2] == pitch and abs(notes[-1][1] - onset) < 1e-3:
            notes[-1] = (notes[-1][0], offset, pitch)
            continue
        if notes and notes[-1][1] > onset:
            notes[-1] = (notes[-1][0], onset, notes[-1][2])
        notes.append((onset, offset, pitch))
    return Part(str(part.partName or ""), tuple(notes))
