"""Notes in files: MIDI, and CSV with a line per note."""

import csv
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from data_pipelines.annotations.notes import monophonic, pitch_name, sort_by_onset
from data_pipelines.files import atomic_write

HEADER = ("onset_s", "offset_s", "midi_pitch", "name")


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
    return monophonic(sort_by_onset(notes), "the score"), "the score"


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
    notes = sort_by_onset(np.concatenate(rows).astype(np.float32))
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
    with atomic_write(path) as unfinished:
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
    rows = [(f"{onset:.4f}", f"{offset:.4f}", f"{pitch:g}", pitch_name(pitch)) for onset, offset, pitch in notes]
    with atomic_write(path) as unfinished, unfinished.open("w", newline="") as file:
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
    return sort_by_onset(np.asarray(notes, np.float32).reshape(-1, 3))


def _note(row: list[str], where: str) -> list[float]:
    try:
        onset, offset, pitch = map(float, row[:3])
    except ValueError:
        raise ValueError(f"{where} must be onset, offset and pitch, not '{','.join(row)}'") from None
    if not (0 <= onset < offset < np.inf and 0 <= pitch <= 127):
        raise ValueError(f"{where} must have 0 ≤ onset < offset and a pitch of 0 to 127, not '{','.join(row)}'")
    return [onset, offset, pitch]


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].strip().rstrip(".")
