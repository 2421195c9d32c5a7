"""Notes, one at a time, as people and networks have them: rows of onset, offset and pitch, classes of frames, files.

Notes are float32 `[n, 3]`: onset in s, offset in s, MIDI pitch. Frames have one of 89 classes, as in Lin et al. 2021:
the 88 keys of a piano, then silence.
"""

import math
from pathlib import Path

import numpy as np

from data_pipelines.schema import LOWEST_PITCH, SILENCE_CLASS

HIGHEST_PITCH = LOWEST_PITCH + SILENCE_CLASS - 1
# Seconds that one voice may hold a note into the next.
LARGEST_OVERLAP = 0.05
_NAMES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")


def pitch_name(pitch: float) -> str:
    """Name of the nearest MIDI pitch: 60 is C4."""
    return f"{_NAMES[round(pitch) % 12]}{round(pitch) // 12 - 1}"


def frame_classes(notes: np.ndarray, frames: int, frame_rate: float, start: float = 0.0) -> np.ndarray:
    """The class of each frame, int32 `[frames]`: MIDI pitch − 21, or `SILENCE_CLASS`.

    A note lasts from frame ⌊onset · rate⌋ to before ⌊offset · rate⌋ and at least one frame; where notes overlap, the
    one that begins later is heard. A pitch between two keys counts as the nearer.

    Args:
      start: where the first frame begins, in s.

    Raises:
      ValueError: for a pitch that is no key of a piano.
    """
    notes = sort_by_onset(notes)
    _need_keys(notes)
    classes = np.full(frames, SILENCE_CLASS, np.int32)
    # A time that is a whole frame may come one rounding of float32 below it.
    times = (notes[:, :2].astype(np.float64) + np.spacing(np.abs(notes[:, :2])) - start) * frame_rate
    begins, ends = np.floor(times + 1e-9).astype(np.int64).T
    ends = np.maximum(ends, begins + 1)
    for row in np.flatnonzero((ends > 0) & (begins < frames)):
        classes[max(begins[row], 0) : ends[row]] = round(float(notes[row, 2])) - LOWEST_PITCH
    return classes


def notes_from_classes(classes: np.ndarray, frame_rate: float, shortest: float = 0.0) -> np.ndarray:
    """The notes of frames `[N]`: each run of one class that is not silence.

    Args:
      shortest: seconds below which a run is left out.

    Raises:
      ValueError: for a class outside 0 … 88.
    """
    classes = np.asarray(classes)
    if classes.size and not 0 <= classes.min() <= classes.max() <= SILENCE_CLASS:
        wrong = classes[(classes < 0) | (classes > SILENCE_CLASS)][0]
        raise ValueError(f"the class of a frame is 0 to {SILENCE_CLASS}, not {wrong}")
    edges = np.flatnonzero(np.diff(classes, prepend=-1, append=-1)) if classes.size else np.zeros(0, np.int64)
    begins, ends = edges[:-1], edges[1:]
    kept = (classes[begins] != SILENCE_CLASS) & (ends - begins >= shortest * frame_rate - 1e-6)
    begins, ends = begins[kept], ends[kept]
    return np.stack([begins / frame_rate, ends / frame_rate, classes[begins] + LOWEST_PITCH], 1).astype(np.float32)


def check_monophonic(notes: np.ndarray, name: str) -> None:
    """Make sure that no two notes sound together for more than 50 ms.

    Raises:
      ValueError: if two do; says where.
    """
    notes = sort_by_onset(notes)
    held = np.maximum.accumulate(notes[:, 1])[:-1] - notes[1:, 0]
    if (held > LARGEST_OVERLAP + 1e-6).any():
        row = int(np.argmax(held > LARGEST_OVERLAP + 1e-6))
        raise ValueError(
            f"{name}: at {notes[row + 1, 0]:.2f} s, {pitch_name(notes[row + 1, 2])} begins {held[row]:.2f} s before an "
            f"earlier note ends: give one voice, such as one track of the file (--track)"
        )


def monophonic(notes: np.ndarray, name: str) -> np.ndarray:
    """One voice, sorted by onset: a note that is held up to 50 ms into the next ends where that begins.

    Raises:
      ValueError: as `check_monophonic`.
    """
    check_monophonic(notes, name)
    notes = sort_by_onset(notes).copy()
    notes[:-1, 1] = np.minimum(notes[:-1, 1], notes[1:, 0])
    return notes[notes[:, 1] > notes[:, 0]]


def move_to_range(notes: np.ndarray, low: float, high: float) -> tuple[np.ndarray, int]:
    """Move notes by whole octaves: their median comes nearest to the middle of `low` … `high`, and all stay keys of a
    piano. The notes, and the semitones that they were moved by.

    A melody wider than the range reaches beyond it: a range that was heard is seldom all that an instrument has.

    Raises:
      ValueError: if no octave brings all notes onto a piano.
    """
    if not len(notes):
        return notes, 0
    lowest, highest = float(notes[:, 2].min()), float(notes[:, 2].max())
    fitting = [
        12 * octave
        for octave in range(-10, 11)
        if round(lowest + 12 * octave) >= LOWEST_PITCH and round(highest + 12 * octave) <= HIGHEST_PITCH
    ]
    if not fitting:
        raise ValueError(
            f"the notes reach from {pitch_name(lowest)} to {pitch_name(highest)} (MIDI {lowest:g} to {highest:g}), and no "
            f"octave brings them all into {LOWEST_PITCH} to {HIGHEST_PITCH}: leave out the outermost"
        )
    centre, median = (low + high) / 2, float(np.median(notes[:, 2]))
    semitones = min(fitting, key=lambda shift: (abs(median + shift - centre), abs(shift)))
    return transpose(notes, semitones), semitones


def transpose(notes: np.ndarray, semitones: float) -> np.ndarray:
    return notes + np.asarray([0, 0, semitones], np.float32)


def voice_classes(notes: np.ndarray, path: Path | str, frame_rate: float, tail: float = 0.0) -> np.ndarray:
    """The classes of the frames of notes that came from a file, from 0 to `tail` seconds after the last.

    Raises:
      ValueError: for a pitch that is no key of a piano; names the file.
    """
    try:
        return frame_classes(notes, math.ceil((float(notes[:, 1].max()) + tail) * frame_rate), frame_rate)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def sort_by_onset(notes: np.ndarray) -> np.ndarray:
    notes = np.asarray(notes, np.float32).reshape(-1, 3)
    return notes[np.argsort(notes[:, 0], kind="stable")]


def _need_keys(notes: np.ndarray) -> None:
    pitches = np.rint(notes[:, 2])
    wrong = (pitches < LOWEST_PITCH) | (pitches > HIGHEST_PITCH) | ~np.isfinite(pitches)
    if wrong.any():
        raise ValueError(
            f"MIDI pitch {notes[wrong][0, 2]:g} at {notes[wrong][0, 0]:.2f} s is outside {LOWEST_PITCH} (A0) to "
            f"{HIGHEST_PITCH} (C8): transpose the notes or leave it out"
        )
