"""Notes in files: MIDI, and CSV tables with a line for each note."""

import csv
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from data_pipelines.annotations import midi_events
from data_pipelines.annotations.midi_notes import Note, parts_of
from data_pipelines.annotations.notes import (
    LONGEST_SCORE,
    check_monophonic,
    check_times,
    merge_doubled,
    monophonic,
    pitch_name,
    sort_by_onset,
)
from data_pipelines.files import atomic_write, first_line
from data_pipelines.names import quoted

HEADER = ("onset_s", "offset_s", "midi_pitch", "name")


def read_notes(path: Path | str, track: int | None = None) -> np.ndarray:
    """The notes of a MIDI file, or of a `.csv` as `write_csv` writes it, sorted by onset: `[n, 3]`.

    Args:
      track: track of a MIDI file, as in `read_midi`.

    Raises:
      ValueError: as `read_midi` and `read_csv`, if there are no notes, or if a track of a CSV file is requested.
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
    """The notes of one voice from a MIDI file or a `.csv`, sorted by onset: `[n, 3]`.

    In a MIDI file, a note that the sustain pedal holds lasts until the pedal is released or the next note begins.

    Raises:
      ValueError: as `read_notes`, or if the file holds more than one voice.
    """
    path = Path(path)
    if path.suffix.lower() == ".csv":
        return monophonic(read_notes(path, track), str(path))
    notes = _read_midi(path, track)
    check_monophonic(notes[:, [0, 1, 3]], str(path))  # of the keys: a pedal does not make two voices of one
    notes[:-1, 2] = np.minimum(notes[:-1, 2], notes[1:, 0])
    return _with_length(notes[:, [0, 2, 3]].astype(np.float32))


def voice_of(score: Path | str | np.ndarray, track: int | None = None) -> tuple[np.ndarray, str]:
    """The notes `[n, 3]` of one voice in a file or an array, sorted by onset, and what error messages call it.

    Args:
      score: A MIDI or CSV file, or `[n, 3]`: onset in s, offset in s, MIDI pitch.
      track: Of a MIDI file, as in `read_midi`.

    Raises:
      ValueError: as `read_voice`, or if the array has another shape.
    """
    if isinstance(score, str | Path):
        return read_voice(score, track), str(score)
    notes = np.asarray(score, np.float32)
    if notes.ndim != 2 or notes.shape[1] != 3 or not len(notes):
        raise ValueError(f"the score has the shape {notes.shape}: give [n, 3] of onset s, offset s and MIDI pitch")
    check_times(notes, "the score")
    return monophonic(sort_by_onset(notes), "the score"), "the score"


def read_midi(path: Path | str, track: int | None = None) -> np.ndarray:
    """The notes of a MIDI file without drums, sorted by onset: `[n, 3]`.

    A note lasts until its key is released, or with the sustain pedal until the pedal is released, but at most until the
    next note of its pitch. Of notes with the same onset and pitch, the longest counts. A note without an end lasts
    until the end of its track, with a warning. Notes without length are left out.

    Args:
      track: number of the track to read, counted from 1 over the tracks that have notes and are not drums; by default
        all of them. The channels and programs of a track count as tracks of their own.

    Raises:
      ValueError: if the file is missing, is not a MIDI file, is damaged, holds no notes, or has no such track.
    """
    return _with_length(_read_midi(Path(path), track)[:, [0, 2, 3]].astype(np.float32))


def _with_length(notes: np.ndarray) -> np.ndarray:
    return notes[notes[:, 1] > notes[:, 0]]


def _read_midi(path: Path, track: int | None) -> np.ndarray:
    """The notes of a MIDI file, sorted by onset, float64 `[n, 4]`: onset, end of the key, end, pitch; n ≥ 1."""
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    try:
        file = midi_events.parse(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    all_parts = parts_of(file)
    parts = [part for part in all_parts if not part.is_drum]
    if not parts:
        raise ValueError(f"{path}: holds no notes" + (" other than drums" if all_parts else ""))
    if track is not None:
        if not 1 <= track <= len(parts):
            known = ", ".join(f"{number} {part.name}".strip() for number, part in enumerate(parts, 1))
            raise ValueError(f"{path}: has no track {track}; those with notes are {known}")
        parts = [parts[track - 1]]
    listed = [note for part in parts for note in part.notes]
    _warn_of_hanging(path, [note for note in listed if note.hangs], file)
    ticks = np.array([(note.onset, note.key_off, note.offset) for note in listed])
    notes = np.column_stack([file.seconds(ticks), [note.pitch for note in listed]])
    notes = merge_doubled(notes[notes[:, 2] > notes[:, 0]])
    if not len(notes):
        raise ValueError(f"{path}: holds no notes with a length, but {len(listed)} that end where they begin")
    check_times(notes[:, [0, 2, 3]], str(path))
    return notes


def _warn_of_hanging(path: Path, notes: list[Note], file: midi_events.MidiFile) -> None:
    if notes:
        first = float(file.seconds(np.array(notes[0].onset)))
        lost = sum(note.offset <= note.onset for note in notes)
        left_out = f" and those that begin there ({lost}) are left out" if lost else ""
        others = f" (and those of {len(notes) - 1} other notes)" if len(notes) > 1 else ""
        # Without a stack level the place is always the same, so a command that reads a file twice warns once.
        warnings.warn(
            f"{path}: the key of {pitch_name(notes[0].pitch)} at {first:.2f} s is never released{others}; "
            f"such notes last until the end of their track{left_out}",
            stacklevel=1,
        )


def write_midi(path: Path, notes: np.ndarray, program: int = 0) -> None:
    """Write notes as one track of General MIDI `program` (0 to 127), with times rounded to steps of about 1 ms.

    Raises:
      ValueError: if the program is outside 0 to 127.
      OSError: if the file cannot be written.
    """
    import symusic

    if not 0 <= program <= 127:
        raise ValueError(f"a General MIDI program is 0 to 127, not {program}")
    # The types of symusic's classes depend on the value of `ttype`.
    score: Any = symusic.Score(ttype="second")
    track: Any = symusic.Track(program=program, is_drum=False, ttype="second")
    for onset, offset, pitch in notes:
        track.notes.append(symusic.Note(float(onset), float(offset - onset), round(float(pitch)), 100, "second"))
    score.tracks.append(track)
    with atomic_write(path) as unfinished:
        unfinished.write_bytes(_midi(score))


def _midi(score: Any) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "score.mid"
        score.dump_midi(path)
        return path.read_bytes()


def write_csv(path: Path, notes: np.ndarray) -> None:
    """Write notes as a table with a header: onset (s), offset (s), MIDI pitch and its name.

    Raises:
      OSError: if the file cannot be written.
    """
    rows = [(f"{onset:.4f}", f"{offset:.4f}", f"{pitch:g}", pitch_name(pitch)) for onset, offset, pitch in notes]
    with atomic_write(path) as unfinished, unfinished.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([HEADER, *rows])


def read_csv(path: Path | str) -> np.ndarray:
    """The notes of a table as `write_csv` writes it, sorted by onset: `[n, 3]`. The names of the pitches are ignored.

    Raises:
      ValueError: if the file is missing or is not such a table; the message has the number of the line.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    notes = []
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.reader(file)
            if tuple(next(rows, ()))[:3] != HEADER[:3]:
                raise ValueError(f"{path}: is not a table of notes: its first line must be {','.join(HEADER)}")
            for row in rows:
                if row:
                    notes.append(_note(row, f"{path}: line {rows.line_num}"))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path}: cannot be read as a table ({first_line(error)})") from None
    return sort_by_onset(np.asarray(notes, np.float32).reshape(-1, 3))


def _note(row: list[str], where: str) -> list[float]:
    """The note in a row of a table; `where` names the line in error messages."""
    try:
        onset, offset, pitch = map(float, row[:3])
    except ValueError:
        raise ValueError(f"{where} must be onset, offset and pitch, not {quoted(','.join(row))}") from None
    if not (0 <= onset < offset <= LONGEST_SCORE and 0 <= pitch <= 127):
        raise ValueError(
            f"{where} must have 0 ≤ onset < offset ≤ {LONGEST_SCORE:g} s and a pitch of 0 to 127, not "
            f"{quoted(','.join(row))}"
        )
    return [onset, offset, pitch]
