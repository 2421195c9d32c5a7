"""Notes, one at a time, as people and networks have them: rows of onset, offset and pitch, classes of frames, files.

Notes are float32 `[n, 3]`: onset in s, offset in s, MIDI pitch. Frames have one of 89 classes, as in Lin et al. 2021:
the 88 keys of a piano, then silence.
"""

import csv
import math
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from data_pipelines.schema import LOWEST_PITCH, SILENCE_CLASS

HIGHEST_PITCH = LOWEST_PITCH + SILENCE_CLASS - 1
# Seconds that one voice may hold a note into the next.
LARGEST_OVERLAP = 0.05
HEADER = ("onset_s", "offset_s", "midi_pitch", "name")
_NAMES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")


def name_of(pitch: float) -> str:
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
    notes = _sorted(notes)
    _need_keys(notes)
    classes = np.full(frames, SILENCE_CLASS, np.int32)
    # A time that is a whole frame may come one rounding of float32 below it.
    times = (notes[:, :2].astype(np.float64) + np.spacing(np.abs(notes[:, :2])) - start) * frame_rate
    begins, ends = np.floor(times + 1e-9).astype(np.int64).T
    ends = np.maximum(ends, begins + 1)
    for row in np.flatnonzero((ends > 0) & (begins < frames)):
        classes[max(begins[row], 0) : ends[row]] = round(float(notes[row, 2])) - LOWEST_PITCH
    return classes


def notes_of(classes: np.ndarray, frame_rate: float, shortest: float = 0.0) -> np.ndarray:
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
    notes = _sorted(notes)
    held = np.maximum.accumulate(notes[:, 1])[:-1] - notes[1:, 0]
    if (held > LARGEST_OVERLAP + 1e-6).any():
        row = int(np.argmax(held > LARGEST_OVERLAP + 1e-6))
        raise ValueError(
            f"{name}: at {notes[row + 1, 0]:.2f} s, {name_of(notes[row + 1, 2])} begins {held[row]:.2f} s before an "
            f"earlier note ends: give one voice, such as one track of the file (--track)"
        )


def monophonic(notes: np.ndarray, name: str) -> np.ndarray:
    """One voice, sorted by onset: a note that is held up to 50 ms into the next ends where that begins.

    Raises:
      ValueError: as `check_monophonic`.
    """
    check_monophonic(notes, name)
    notes = _sorted(notes).copy()
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
            f"the notes reach from {name_of(lowest)} to {name_of(highest)} (MIDI {lowest:g} to {highest:g}), and no "
            f"octave brings them all into {LOWEST_PITCH} to {HIGHEST_PITCH}: leave out the outermost"
        )
    centre, median = (low + high) / 2, float(np.median(notes[:, 2]))
    semitones = min(fitting, key=lambda shift: (abs(median + shift - centre), abs(shift)))
    return transposed(notes, semitones), semitones


def transposed(notes: np.ndarray, semitones: float) -> np.ndarray:
    return notes + np.asarray([0, 0, semitones], np.float32)


def read_notes(path: Path | str, track: int | None = None) -> np.ndarray:
    """Notes of a MIDI file or of a `.csv` as `write_csv` makes it, sorted by onset.

    Raises:
      ValueError: as `read_midi` and `read_csv`, if there are none, and for a track of a CSV file.
    """
    path = Path(path)
    if path.suffix.lower() != ".csv":
        return read_midi(path, track)
    if track is not None:
        raise ValueError(f"{path}: a CSV file has no tracks: leave out track {track}")
    notes = read_csv(path)
    if not len(notes):
        raise ValueError(f"{path}: holds no notes")
    return notes


def read_voice(path: Path | str, track: int | None = None) -> np.ndarray:
    """The notes of one voice, out of a MIDI file or a `.csv`.

    Raises:
      ValueError: as `read_notes`, and if it holds more than one voice.
    """
    return monophonic(read_notes(path, track), str(path))


def voice_classes(notes: np.ndarray, path: Path | str, frame_rate: float, tail: float = 0.0) -> np.ndarray:
    """The classes of the frames of notes that came from a file, from 0 to `tail` seconds after the last.

    Raises:
      ValueError: for a pitch that is no key of a piano; names the file.
    """
    try:
        return frame_classes(notes, math.ceil((float(notes[:, 1].max()) + tail) * frame_rate), frame_rate)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def read_midi(path: Path | str, track: int | None = None) -> np.ndarray:
    """Notes of a MIDI file, drums left out, sorted by onset: of all tracks, or of one.

    Args:
      track: which of those that hold notes other than drums, counted from 1.

    Raises:
      ValueError: if the file is missing, is no MIDI file, is damaged or holds no notes, or has no such track.
    """
    from symusic import Score

    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    content = path.read_bytes()
    if content[:4] != b"MThd":
        raise ValueError(f"{path}: is no MIDI file")
    if not _is_whole(content):  # symusic reads on, beyond what there is
        raise ValueError(f"{path}: is truncated: it promises more than the file holds")
    try:
        read: Any = Score.from_midi(content)
        score = read.to("second")
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"{path}: cannot be read as MIDI ({_first_line(error)}); is it damaged?") from None
    tracks = [each for each in score.tracks if not each.is_drum and len(each.notes)]
    if not tracks:
        raise ValueError(f"{path}: holds no notes" + (" but drums" if len(score.tracks) else ""))
    if track is not None:
        if not 1 <= track <= len(tracks):
            known = ", ".join(f"{number} {each.name}".strip() for number, each in enumerate(tracks, 1))
            raise ValueError(f"{path}: has no track {track}; those with notes are {known}")
        tracks = [tracks[track - 1]]
    columns = [each.notes.numpy() for each in tracks]
    rows = [np.stack([each["time"], each["time"] + each["duration"], each["pitch"]], 1) for each in columns]
    notes = _sorted(np.concatenate(rows).astype(np.float32))
    return notes[notes[:, 1] > notes[:, 0]]


def _is_whole(content: bytes) -> bool:
    """Whether all chunks that a MIDI file promises are there."""
    position, missing = 0, 1 + int.from_bytes(content[10:12], "big")
    while missing and position + 8 <= len(content):
        length = int.from_bytes(content[position + 4 : position + 8], "big")
        missing -= content[position : position + 4] in (b"MThd", b"MTrk")
        position += 8 + length
    return missing == 0 and position <= len(content)


def write_midi(path: Path, notes: np.ndarray, program: int = 0) -> None:
    """Write notes as one track of General MIDI `program` (0 to 127), in steps of about 1 ms.

    Raises:
      ValueError: for a program that there is not.
      OSError: if the file cannot be written.
    """
    from symusic import Note, Score, Track

    if not 0 <= program <= 127:
        raise ValueError(f"a General MIDI program is 0 to 127, not {program}")
    # Their types depend on the value of `ttype`.
    score: Any = Score(ttype="second")
    track: Any = Track(program=program, is_drum=False, ttype="second")
    for onset, offset, pitch in notes:
        track.notes.append(Note(float(onset), float(offset - onset), round(float(pitch)), 100, "second"))
    score.tracks.append(track)
    with appearing(path) as unfinished:
        unfinished.write_bytes(_midi(score))


def _midi(score: Any) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "score.mid"
        score.dump_midi(path)
        return path.read_bytes()


def write_csv(path: Path, notes: np.ndarray) -> None:
    """Write notes as a table with a header: onset, offset, pitch and its name.

    Raises:
      OSError: if the file cannot be written.
    """
    rows = [(f"{onset:.4f}", f"{offset:.4f}", f"{pitch:g}", name_of(pitch)) for onset, offset, pitch in notes]
    with appearing(path) as unfinished, unfinished.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([HEADER, *rows])


def read_csv(path: Path | str) -> np.ndarray:
    """Notes of a table as `write_csv` makes it, sorted by onset; names are for people and not read.

    Raises:
      ValueError: if the file is missing or is no such table; says in which line.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    notes = []
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.reader(file)
            if tuple(next(rows, ()))[:3] != HEADER[:3]:
                raise ValueError(f"{path}: is no table of notes: its first line must be {','.join(HEADER)}")
            for row in rows:
                if row:
                    notes.append(_note(row, f"{path}: line {rows.line_num}"))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path}: cannot be read as a table ({_first_line(error)})") from None
    return _sorted(np.asarray(notes, np.float32).reshape(-1, 3))


def _note(row: list[str], where: str) -> list[float]:
    try:
        onset, offset, pitch = map(float, row[:3])
    except ValueError:
        raise ValueError(f"{where} must be onset, offset and pitch, not '{','.join(row)}'") from None
    if not (0 <= onset < offset < np.inf and 0 <= pitch <= 127):
        raise ValueError(f"{where} must have 0 ≤ onset < offset and a pitch of 0 to 127, not '{','.join(row)}'")
    return [onset, offset, pitch]


@contextmanager
def appearing(path: Path) -> Iterator[Path]:
    """Where to write a file that appears as `path` when the `with` block ends without an error."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.part")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield unfinished
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def _sorted(notes: np.ndarray) -> np.ndarray:
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


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].strip().rstrip(".")
