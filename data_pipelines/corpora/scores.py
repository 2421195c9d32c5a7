"""Real scores, from the music21 package: Bach chorales, quartet movements and folk tunes as plain note lists."""

import dataclasses
import hashlib
import itertools
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np

# Melodies that open alike are one tune, whatever key or arrangement: works are split by tune, so that no harmonisation
# of a training chorale is in the test set.
TUNE_NOTES = 12

# How chorales name their four lines.
VOICE = re.compile(r"(Soprano|Alto|Tenor|Bass)\b")

QUARTET_COMPOSERS = ("haydn", "mozart", "beethoven")


@dataclasses.dataclass(frozen=True)
class Part:
    """One monophonic line. `notes` are `(onset, offset, MIDI pitch)`, times in quarter notes, in order."""

    name: str
    notes: tuple[tuple[float, float, int], ...]

    @property
    def low(self) -> int:
        return min(pitch for _, _, pitch in self.notes)

    @property
    def high(self) -> int:
        return max(pitch for _, _, pitch in self.notes)


@dataclasses.dataclass(frozen=True)
class Work:
    """A score. `name` is its path in the corpus, `metre` its quarter notes per bar, `tune` what it is split by."""

    name: str
    tune: str
    parts: tuple[Part, ...]
    metre: float


def chorales() -> list[str]:
    """Names of the four-part Bach chorales, sorted."""
    return _names("bach", (".mxl", ".xml"))


def quartets() -> list[str]:
    """Names of string-quartet movements, sorted; each in one edition only, whole quartets in one file left out."""
    names = [name for composer in QUARTET_COMPOSERS for name in _names(composer, (".mxl",)) if "movement" in name]
    return sorted(names)


def tunes() -> list[str]:
    """Names of single-line fiddle tunes, sorted."""
    return _names("ryansMammoth", (".abc",))


def _names(composer: str, suffixes: tuple[str, ...]) -> list[str]:
    from music21 import corpus

    paths = (Path(path) for path in corpus.getComposer(composer))
    return sorted({"/".join(path.parts[path.parts.index("corpus") + 1 :]) for path in paths if path.suffix in suffixes})


def generator(*words: object) -> np.random.Generator:
    """Random numbers that depend on `words` alone: the same on every machine and in every process."""
    digest = hashlib.sha256("\0".join(map(str, words)).encode()).digest()
    return np.random.default_rng(list(digest))


def read_work(name: str) -> Work | None:
    """Parse the score `name`, or None if it has no line of at least 16 notes."""
    from music21 import corpus

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of notation that some scores have and this reader does not need
        # From the source, not from music21's pickles: they would be written to the temporary folder at twice the time.
        score: Any = corpus.parse(name, forceSource=True)
    parts = tuple(part for part in map(_read_part, score.parts) if len(part.notes) >= 16)
    voices = tuple(part for part in parts if VOICE.match(part.name))
    if len(voices) >= 4:  # instruments that double or adorn a chorale would hide its tune
        parts = voices
    if not parts:
        return None
    measures = list(score.parts[0].getElementsByClass("Measure"))
    signature = measures[0].timeSignature if measures else None
    metre = float(signature.barDuration.quarterLength) if signature is not None else 4.0
    return Work(name, _tune(name, parts[0]), parts, metre)


def _tune(name: str, melody: Part) -> str:
    """How the melody opens, in intervals; for a movement the work that it is from."""
    if "/movement" in name:
        return name.rsplit("/", 1)[0]
    pitches = [pitch for _, _, pitch in melody.notes[:TUNE_NOTES]]
    return " ".join(str(b - a) for a, b in itertools.pairwise(pitches))


def _read_part(part) -> Part:
    """The top line of a part: chords give their highest note, ties are merged, a note ends where the next begins."""
    notes: list[tuple[float, float, int]] = []
    for element in part.flatten().notes:
        if element.duration.isGrace or not element.pitches:
            continue
        onset = float(element.offset)
        offset = onset + float(element.quarterLength)
        pitch = max(p.midi for p in element.pitches)
        if notes and onset <= notes[-1][0]:  # another voice at the same time: keep the higher
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
