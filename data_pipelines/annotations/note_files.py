"""Notes in files: MIDI, and CSV tables with a line for each note."""

import csv
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from data_pipelines.annotations.notes import monophonic, pitch_name, sort_by_onset
from data_pipelines.files import atomic_write

HEADER = ("onset_s", "offset_s", "midi_pitch", "name")
# The latest end of a note.
LONGEST_SECONDS = 24 * 3_600.0


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

    Raises:
      ValueError: as `read_notes`, or if the file holds more than one voice.
    """
    return monophonic(read_notes(path, track), str(path))


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
    if not (np.isfinite(notes).all() and (notes[:, 0] >= 0).all() and (notes[:, 0] < notes[:, 1]).all()):
        raise ValueError("the score must have 0 ≤ onset < offset, in seconds, for every note")
    _check_end(notes, "the score")
    return monophonic(sort_by_onset(notes), "the score"), "the score"


def read_midi(path: Path | str, track: int | None = None) -> np.ndarray:
    """The notes of a MIDI file without drums, sorted by onset: `[n, 3]`.

    Args:
      track: number of the track to read, counted from 1 over the tracks that have notes and are not drums; by default
        all of them.

    Raises:
      ValueError: if the file is missing, is not a MIDI file, is damaged, holds no notes, or has no such track.
    """
    from symusic import Score

    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    content = path.read_bytes()
    if content[:4] != b"MThd":
        raise ValueError(f"{path}: is not a MIDI file")
    if not _is_complete(content):  # symusic reads beyond the end of a truncated file
        raise ValueError(f"{path}: is truncated: its header promises more than the file holds")
    try:
        score_in_ticks: Any = Score.from_midi(content)
        score = score_in_ticks.to("second")
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"{path}: cannot be read as MIDI ({_first_line(error)}); is it damaged?") from None
    tracks = [part for part in score.tracks if not part.is_drum and len(part.notes)]
    if not tracks:
        raise ValueError(f"{path}: holds no notes" + (" other than drums" if len(score.tracks) else ""))
    if track is not None:
        if not 1 <= track <= len(tracks):
            known = ", ".join(f"{number} {part.name}".strip() for number, part in enumerate(tracks, 1))
            raise ValueError(f"{path}: has no track {track}; those with notes are {known}")
        tracks = [tracks[track - 1]]
    columns = [part.notes.numpy() for part in tracks]
    rows = [np.stack([table["time"], table["time"] + table["duration"], table["pitch"]], 1) for table in columns]
    notes = sort_by_onset(np.concatenate(rows).astype(np.float32))
    _check_end(notes, str(path))
    return notes[notes[:, 1] > notes[:, 0]]


def _check_end(notes: np.ndarray, where: str) -> None:
    """Check that notes `[n, 3]` do not end so late that what is computed from them would take all memory."""
    if notes[:, 1].max(initial=0.0) > LONGEST_SECONDS:
        end = float(notes[:, 1].max())
        raise ValueError(f"{where}: a note ends after {end:g} s, beyond {LONGEST_SECONDS / 3600:g} h")


def _is_complete(content: bytes) -> bool:
    """Whether a MIDI file holds as many chunks as its header states, each with its full length."""
    position, missing = 0, 1 + int.from_bytes(content[10:12], "big")
    while missing and position + 8 <= len(content):
        length = int.from_bytes(content[position + 4 : position + 8], "big")
        missing -= content[position : position + 4] in (b"MThd", b"MTrk")
        position += 8 + length
    return missing == 0 and position <= len(content)


def write_midi(path: Path, notes: np.ndarray, program: int = 0) -> None:
    """Write notes as one track of General MIDI `program` (0 to 127), with times rounded to steps of about 1 ms.

    Raises:
      ValueError: if the program is outside 0 to 127.
      OSError: if the file cannot be written.
    """
    from symusic import Note, Score, Track

    if not 0 <= program <= 127:
        raise ValueError(f"a General MIDI program is 0 to 127, not {program}")
    # The types of symusic's classes depend on the value of `ttype`.
    score: Any = Score(ttype="second")
    track: Any = Track(program=program, is_drum=False, ttype="second")
    for onset, offset, pitch in notes:
        track.notes.append(Note(float(onset), float(offset - onset), round(float(pitch)), 100, "second"))
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
        raise ValueError(f"{path}: cannot be read as a table ({_first_line(error)})") from None
    return sort_by_onset(np.asarray(notes, np.float32).reshape(-1, 3))


def _note(row: list[str], where: str) -> list[float]:
    """The note in a row of a table; `where` names the line in error messages."""
    text = repr(",".join(row))[:80]
    try:
        onset, offset, pitch = map(float, row[:3])
    except ValueError:
        raise ValueError(f"{where} must be onset, offset and pitch, not {text}") from None
    if not (0 <= onset < offset < np.inf and 0 <= pitch <= 127):
        raise ValueError(f"{where} must have 0 ≤ onset < offset and a pitch of 0 to 127, not {text}")
    if offset > LONGEST_SECONDS:
        raise ValueError(f"{where} ends after {offset:g} s, beyond {LONGEST_SECONDS / 3600:g} h: times are in seconds")
    return [onset, offset, pitch]


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].strip().rstrip(".")
