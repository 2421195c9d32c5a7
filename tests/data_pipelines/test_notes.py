"""Notes: to frames and back, one voice, octaves, and files."""

import numpy as np
import pytest

from data_pipelines.notes import (
    frame_classes,
    monophonic,
    move_to_range,
    name_of,
    notes_of,
    read_csv,
    read_midi,
    read_notes,
    transposed,
    write_csv,
    write_midi,
)
from data_pipelines.schema import CLASSES, SILENCE_CLASS

NOTES = np.float32([[0.5, 1.0, 60], [1.0, 1.25, 64], [1.75, 3.0, 55]])


def rows(*notes) -> np.ndarray:
    return np.asarray(notes, np.float32).reshape(-1, 3)


def test_classes_of_frames():
    classes = frame_classes(NOTES, 35, 10)
    expected = [SILENCE_CLASS] * 5 + [39] * 5 + [43] * 2 + [SILENCE_CLASS] * 5 + [34] * 13 + [SILENCE_CLASS] * 5
    np.testing.assert_array_equal(classes, expected)
    assert (classes.dtype, SILENCE_CLASS, CLASSES) == (np.int32, 88, 89)
    np.testing.assert_array_equal(frame_classes(NOTES, 10, 10, start=0.8), classes[8:18])
    np.testing.assert_array_equal(frame_classes(rows(), 4, 10), [SILENCE_CLASS] * 4)


def test_a_note_has_at_least_a_frame_and_later_ones_are_heard():
    np.testing.assert_array_equal(frame_classes(rows([0.21, 0.22, 21]), 4, 10), [88, 88, 0, 88])
    overlapping = rows([0.1, 0.4, 108], [0.0, 0.3, 21])
    np.testing.assert_array_equal(frame_classes(overlapping, 5, 10), [0, 87, 87, 87, 88])
    np.testing.assert_array_equal(frame_classes(rows([0.0, 0.2, 20.6]), 2, 10), [0, 0])


@pytest.mark.parametrize("pitch", [20, 109, np.nan])
def test_refuses_pitches_that_are_no_keys(pitch):
    with pytest.raises(ValueError, match=rf"MIDI pitch {pitch:g} at 1.50 s is outside 21 \(A0\) to 108 .* transpose"):
        frame_classes(rows([1.5, 2.0, pitch]), 10, 10)


@pytest.mark.parametrize("rate", [100, 16_000 / 160, 31.25, 22_050 / 256])
@pytest.mark.parametrize("frames", [1, 7, 720_000])
def test_frames_to_notes_and_back(rate, frames):
    """Two hours, too: float32 seconds must not lose a frame."""
    rng = np.random.default_rng(frames)
    classes = np.repeat(rng.integers(0, CLASSES, frames), rng.integers(1, 2000 if frames > 9 else 3, frames))[:frames]
    np.testing.assert_array_equal(frame_classes(notes_of(classes, rate), frames, rate), classes)


def test_runs_become_notes():
    classes = np.array([88, 10, 10, 11, 88, 88, 11])
    notes = notes_of(classes, 10)
    np.testing.assert_allclose(notes, rows([0.1, 0.3, 31], [0.3, 0.4, 32], [0.6, 0.7, 32]), atol=1e-6)
    assert notes.dtype == np.float32
    np.testing.assert_allclose(notes_of(classes, 10, shortest=0.2), rows([0.1, 0.3, 31]), atol=1e-6)
    assert notes_of(np.full(5, SILENCE_CLASS), 10).shape == (0, 3)
    assert notes_of(np.zeros(0, np.int32), 10).shape == (0, 3)
    with pytest.raises(ValueError, match="0 to 88, not 89"):
        notes_of(np.array([3, 89]), 10)


def test_one_voice():
    held = rows([1.0, 2.0, 62], [0.0, 1.04, 60])
    np.testing.assert_allclose(monophonic(held, "a"), rows([0.0, 1.0, 60], [1.0, 2.0, 62]))
    assert monophonic(rows(), "a").shape == (0, 3)
    assert len(monophonic(rows([0.0, 0.03, 60], [0.0, 1.0, 62]), "a")) == 1


@pytest.mark.parametrize(
    "notes",
    [
        rows([0.0, 1.2, 60], [1.0, 2.0, 62]),
        rows([0.0, 1.2, 60], [0.2, 0.21, 64], [1.0, 2.0, 62]),
        rows([1.0, 2.0, 62], [1.0, 2.0, 62]),
    ],
)
def test_two_voices_are_refused(notes):
    with pytest.raises(ValueError, match=r"s.mid: at [01].[02]0 s, [DE]4 begins .* give one voice.*--track"):
        monophonic(notes, "s.mid")


@pytest.mark.parametrize(
    ("pitches", "low", "high", "semitones"),
    [
        ([60, 64, 67], 60, 72, 0),
        ([60, 64, 67], 36, 48, -24),
        ([60, 64, 67], 84, 84, 24),
        ([60, 64, 67], 21, 21, -36),
        ([30, 60, 90], 21, 40, 0),
        ([10, 15], 60, 70, 48),
        ([60], 65, 67, 0),
    ],
)
def test_moves_by_octaves(pitches, low, high, semitones):
    notes = rows(*[[number, number + 1, pitch] for number, pitch in enumerate(pitches)])
    moved, by = move_to_range(notes, low, high)
    assert by == semitones
    np.testing.assert_array_equal(moved, transposed(notes, semitones))
    frame_classes(moved, 10, 10)


def test_a_melody_wider_than_a_piano_cannot_be_moved():
    with pytest.raises(ValueError, match=r"from C0 to C8 \(MIDI 12 to 108\)"):
        move_to_range(rows([0, 1, 12], [1, 2, 108]), 60, 70)
    assert move_to_range(rows(), 60, 70)[1] == 0


@pytest.mark.parametrize(("pitch", "name"), [(21, "A0"), (60, "C4"), (69.2, "A4"), (108, "C8"), (61, "C#4")])
def test_names(pitch, name):
    assert name_of(pitch) == name


def test_files_give_back_what_was_written(tmp_path):
    write_midi(tmp_path / "new" / "a.mid", NOTES[::-1], 40)
    np.testing.assert_allclose(read_midi(tmp_path / "new" / "a.mid"), NOTES, atol=1.1e-3)
    write_csv(tmp_path / "new" / "a.csv", NOTES)
    assert (tmp_path / "new" / "a.csv").read_text().splitlines()[:2] == [
        "onset_s,offset_s,midi_pitch,name",
        "0.5000,1.0000,60,C4",
    ]
    np.testing.assert_allclose(read_notes(tmp_path / "new" / "a.csv"), NOTES, atol=1e-4)
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["a.csv", "a.mid"]
    write_csv(tmp_path / "none.csv", rows())
    assert read_csv(tmp_path / "none.csv").shape == (0, 3)


def test_programs_and_full_disks(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="0 to 127, not 128"):
        write_midi(tmp_path / "a.mid", NOTES, 128)

    def full(*_) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.replace", full)
    with pytest.raises(OSError, match="No space"):
        write_csv(tmp_path / "a.csv", NOTES)
    assert not list(tmp_path.iterdir())


def score_of(path, *tracks: tuple[str, bool, list[int]]) -> None:
    from symusic import Note, Score, Track

    score = Score(ttype="second")
    for name, drum, pitches in tracks:
        track = Track(name=name, program=0, is_drum=drum, ttype="second")
        for number, pitch in enumerate(pitches):
            track.notes.append(Note(float(number), 1.0, pitch, 100, "second"))
        score.tracks.append(track)
    score.dump_midi(path)


def test_tracks_are_counted_from_one_without_drums(tmp_path):
    score_of(tmp_path / "a.mid", ("kit", True, [35]), ("top", False, [72, 74]), ("low", False, [48]))
    assert sorted(read_midi(tmp_path / "a.mid")[:, 2]) == [48, 72, 74]
    np.testing.assert_array_equal(read_midi(tmp_path / "a.mid", 1)[:, 2], [72, 74])
    np.testing.assert_array_equal(read_notes(tmp_path / "a.mid", 2)[:, 2], [48])
    for track in (0, 3):
        with pytest.raises(ValueError, match=f"a.mid: has no track {track}; those with notes are 1 top, 2 low"):
            read_midi(tmp_path / "a.mid", track)


def test_bad_midi_is_one_line(tmp_path):
    write_midi(tmp_path / "whole.mid", NOTES)
    (tmp_path / "cut.mid").write_bytes((tmp_path / "whole.mid").read_bytes()[:40])
    (tmp_path / "short.mid").write_bytes((tmp_path / "whole.mid").read_bytes()[:-1])
    (tmp_path / "odd.mid").write_bytes(b"MThd\0\0\0\0\0\0\0\0")
    (tmp_path / "text.mid").write_text("not music")
    (tmp_path / "zero.mid").write_bytes(b"")
    write_midi(tmp_path / "empty.mid", rows())
    score_of(tmp_path / "drums.mid", ("kit", True, [35]))
    for name, says in {
        "missing": "no such file",
        "cut": "is truncated",
        "short": "is truncated",
        "odd": "cannot be read as MIDI .*is it damaged",
        "text": "is no MIDI file",
        "zero": "is no MIDI file",
        "empty": "holds no notes",
        "drums": "holds no notes but drums",
    }.items():
        with pytest.raises(ValueError, match=rf"{name}.mid: {says}") as error:
            read_midi(tmp_path / f"{name}.mid")
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "is no table of notes"),
        ("a,b,c\n", "is no table of notes"),
        ("1,2,x\n", r"line 2 must be onset, offset and pitch, not '1,2,x'"),
        ("1\n", "line 2 must be onset, offset and pitch"),
        ("0,1,60\n2,1,60\n", "line 3 must have 0 ≤ onset < offset"),
        ("0,1,128\n", "a pitch of 0 to 127"),
        ("0,nan,60\n", "line 2 must have"),
    ],
)
def test_bad_tables_are_one_line(tmp_path, content, says):
    header = "" if "table" in says else "onset_s,offset_s,midi_pitch,name\n"
    (tmp_path / "a.csv").write_text(header + content)
    with pytest.raises(ValueError, match=says):
        read_csv(tmp_path / "a.csv")


def test_what_else_a_table_may_not_be(tmp_path):
    with pytest.raises(ValueError, match="no such file"):
        read_csv(tmp_path / "a.csv")
    (tmp_path / "a.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="cannot be read as a table"):
        read_csv(tmp_path / "a.csv")
    write_csv(tmp_path / "a.csv", rows())
    with pytest.raises(ValueError, match="holds no notes"):
        read_notes(tmp_path / "a.csv")
    with pytest.raises(ValueError, match="a CSV file has no tracks: leave out track 1"):
        read_notes(tmp_path / "a.csv", 1)
