"""Notes of one voice, as rows of onset, offset and pitch, and as classes of frames.

Notes are float32 `[n, 3]`: onset in s, offset in s, MIDI pitch. A frame has one of 89 classes, as in Lin et al. 2021:
the 88 keys of a piano, then silence.
"""

import math
from pathlib import Path

import numpy as np

from data_pipelines.schema import LOWEST_PITCH, SILENCE_CLASS

HIGHEST_PITCH = LOWEST_PITCH + SILENCE_CLASS - 1
# Seconds by which a note of one voice may overlap the next.
LARGEST_OVERLAP = 0.05
# Seconds that a score may last: a day, for which the classes of its frames still fit into memory.
LONGEST_SCORE = 86_400.0
_NAMES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")


def pitch_name(pitch: float) -> str:
    """The name of the nearest MIDI pitch: 60 is C4."""
    return f"{_NAMES[round(pitch) % 12]}{round(pitch) // 12 - 1}"


def frame_classes(notes: np.ndarray, frames: int, frame_rate: float, start: float = 0.0) -> np.ndarray:
    """The class of each frame, int32 `[N]`: MIDI pitch − 21, or `SILENCE_CLASS`.

    A note lasts from frame ⌊onset · rate⌋ to the frame before ⌊offset · rate⌋, and at least one frame. Where notes
    overlap, the one that begins later determines the class. Pitches are rounded to keys.

    Args:
      frames: number of frames N.
      frame_rate: frames per second.
      start: time in s at which the first frame begins.

    Raises:
      ValueError: if a pitch is not a key of a piano.
    """
    notes = sort_by_onset(notes)
    _check_keys(notes)
    classes = np.full(frames, SILENCE_CLASS, np.int32)
    begins, ends = frame_numbers(notes[:, :2], frame_rate, start).T
    ends = np.maximum(ends, begins + 1)
    for row in np.flatnonzero((ends > 0) & (begins < frames)):
        classes[max(begins[row], 0) : ends[row]] = round(float(notes[row, 2])) - LOWEST_PITCH
    return classes


def frame_numbers(times: np.ndarray, frame_rate: float, start: float = 0.0) -> np.ndarray:
    """The numbers of the frames that hold times in s, float32 of any shape, if the first frame begins at `start` s."""
    # The float32 time of the beginning of a frame may be rounded down, which would give the frame before.
    times = np.asarray(times, np.float32)
    frames = (times.astype(np.float64) + np.spacing(np.abs(times)) - start) * frame_rate
    return np.floor(frames + 1e-9).astype(np.int64)


def notes_from_classes(classes: np.ndarray, frame_rate: float, shortest: float = 0.0) -> np.ndarray:
    """The notes of the classes of frames `[N]`: one for each run of a class other than silence, `[n, 3]`.

    Args:
      shortest: shortest duration in s of a run that becomes a note.

    Raises:
      ValueError: if a class is outside 0 to 88.
    """
    classes = np.asarray(classes)
    if classes.size and not 0 <= classes.min() <= classes.max() <= SILENCE_CLASS:
        wrong = classes[(classes < 0) | (classes > SILENCE_CLASS)][0]
        raise ValueError(f"the class of a frame is 0 to {SILENCE_CLASS}, not {wrong}")
    edges = np.flatnonzero(np.diff(classes, prepend=-1, append=-1)) if classes.size else np.zeros(0, np.int64)
    begins, ends = edges[:-1], edges[1:]
    is_note = (classes[begins] != SILENCE_CLASS) & (ends - begins >= shortest * frame_rate - 1e-6)
    begins, ends = begins[is_note], ends[is_note]
    return np.stack([begins / frame_rate, ends / frame_rate, classes[begins] + LOWEST_PITCH], 1).astype(np.float32)


def check_monophonic(notes: np.ndarray, name: str) -> None:
    """Check that no two notes overlap by more than 50 ms.

    Args:
      name: name of the notes, for the error message.

    Raises:
      ValueError: if two notes do; the message has their time.
    """
    notes = sort_by_onset(notes)
    overlaps = np.maximum.accumulate(notes[:, 1])[:-1] - notes[1:, 0]
    if (overlaps > LARGEST_OVERLAP + 1e-6).any():
        row = int(np.argmax(overlaps > LARGEST_OVERLAP + 1e-6))
        raise ValueError(
            f"{name}: at {notes[row + 1, 0]:.2f} s, {pitch_name(notes[row + 1, 2])} begins {overlaps[row]:.2f} s "
            "before an earlier note ends: give one voice, such as one track of the file (--track)"
        )


def merge_doubled(notes: np.ndarray) -> np.ndarray:
    """Notes without repetitions, sorted by onset: of those with the same onset and pitch, the longest.

    Args:
      notes: `[n, 3]` or more columns: onset, ends, MIDI pitch; each column of ends is merged by itself.
    """
    if not len(notes):
        return notes
    notes = notes[np.lexsort((notes[:, -1], notes[:, 0]))]
    is_new = (np.diff(notes[:, [0, -1]], axis=0) != 0).any(axis=1)
    firsts = np.flatnonzero(np.concatenate([[True], is_new]))
    return np.column_stack([notes[firsts, 0], np.maximum.reduceat(notes[:, 1:-1], firsts), notes[firsts, -1]])


def check_times(notes: np.ndarray, where: str) -> None:
    """Check that notes `[n, 3]` begin at 0 s or later, have a length, and end within `LONGEST_SCORE`.

    Args:
      where: what begins the error message, such as the name of a file.

    Raises:
      ValueError: if one does not; the message has the first.
    """
    onsets, offsets = notes[:, 0], notes[:, 1]
    valid = (onsets >= 0) & (onsets < offsets) & (offsets <= LONGEST_SCORE) & np.isfinite(notes).all(axis=1)
    if not valid.all():
        onset, offset, pitch = notes[~valid][0]
        raise ValueError(
            f"{where}: the note {pitch:g} from {onset:g} to {offset:g} s must have 0 ≤ onset < offset ≤ "
            f"{LONGEST_SCORE:g} s: correct it or leave it out"
        )


def monophonic(notes: np.ndarray, name: str) -> np.ndarray:
    """The notes of one voice, sorted by onset. A note that overlaps the next by up to 50 ms is cut at its onset.

    Args:
      name: name of the notes, for the error message.

    Raises:
      ValueError: as `check_monophonic`.
    """
    check_monophonic(notes, name)
    notes = sort_by_onset(notes).copy()
    notes[:-1, 1] = np.minimum(notes[:-1, 1], notes[1:, 0])
    return notes[notes[:, 1] > notes[:, 0]]


def move_to_range(notes: np.ndarray, low: float, high: float) -> tuple[np.ndarray, int]:
    """Transpose notes by whole octaves into a range of MIDI pitches.

    The shift brings the median of the notes as near as possible to the middle of `low` … `high`, such that all notes
    are keys of a piano. Notes may exceed the range, because a range that was observed in recordings is rarely the full
    range of the instrument.

    Returns:
      The notes, and the shift in semitones.

    Raises:
      ValueError: if no shift makes all notes keys of a piano.
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
            f"the notes reach from {pitch_name(lowest)} to {pitch_name(highest)} (MIDI {lowest:g} to {highest:g}), and "
            f"no shift by octaves brings them all into {LOWEST_PITCH} to {HIGHEST_PITCH}: leave out the lowest or "
            "highest notes"
        )
    centre, median = (low + high) / 2, float(np.median(notes[:, 2]))
    semitones = min(fitting, key=lambda shift: (abs(median + shift - centre), abs(shift)))
    return transpose(notes, semitones), semitones


def transpose(notes: np.ndarray, semitones: float) -> np.ndarray:
    """The notes with their pitches shifted by semitones."""
    return notes + np.asarray([0, 0, semitones], np.float32)


def voice_classes(notes: np.ndarray, path: Path | str, frame_rate: float, tail: float = 0.0) -> np.ndarray:
    """The classes of the frames of notes, from 0 s to `tail` seconds after the last note, int32 `[N]`.

    Args:
      path: file of the notes, for the error message.

    Raises:
      ValueError: if a pitch is not a key of a piano.
    """
    try:
        return frame_classes(notes, math.ceil((float(notes[:, 1].max()) + tail) * frame_rate), frame_rate)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def sort_by_onset(notes: np.ndarray) -> np.ndarray:
    """The notes as float32 `[n, 3]`, sorted by onset."""
    notes = np.asarray(notes, np.float32).reshape(-1, 3)
    return notes[np.argsort(notes[:, 0], kind="stable")]


def _check_keys(notes: np.ndarray) -> None:
    """Raise ValueError if a pitch is not a key of a piano."""
    pitches = np.rint(notes[:, 2])
    wrong = (pitches < LOWEST_PITCH) | (pitches > HIGHEST_PITCH) | ~np.isfinite(pitches)
    if wrong.any():
        raise ValueError(
            f"MIDI pitch {notes[wrong][0, 2]:g} at {notes[wrong][0, 0]:.2f} s is outside {LOWEST_PITCH} (A0) to "
            f"{HIGHEST_PITCH} (C8): transpose the notes or leave this one out"
        )
