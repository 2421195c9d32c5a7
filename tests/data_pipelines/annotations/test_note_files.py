"""Reading and writing of notes in MIDI and CSV files."""

import numpy as np
import pytest

from data_pipelines.annotations.note_files import read_csv, read_midi, read_notes, voice_of, write_csv, write_midi

NOTES = np.float32([[0.5, 1.0, 60], [1.0, 1.25, 64], [1.75, 3.0, 55]])


def rows(*notes) -> np.ndarray:
    return np.asarray(notes, np.float32).reshape(-1, 3)


def test_the_notes_that_were_written_are_read(tmp_path):
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


def write_score(path, *tracks: tuple[str, bool, list[int]]) -> None:
    from symusic import Note, Score, Track

    score = Score(ttype="second")
    for name, drum, pitches in tracks:
        track = Track(name=name, program=0, is_drum=drum, ttype="second")
        for number, pitch in enumerate(pitches):
            track.notes.append(Note(float(number), 1.0, pitch, 100, "second"))
        score.tracks.append(track)
    score.dump_midi(path)


def test_tracks_are_counted_from_one_without_drums(tmp_path):
    write_score(tmp_path / "a.mid", ("kit", True, [35]), ("top", False, [72, 74]), ("low", False, [48]))
    assert sorted(read_midi(tmp_path / "a.mid")[:, 2]) == [48, 72, 74]
    np.testing.assert_array_equal(read_midi(tmp_path / "a.mid", 1)[:, 2], [72, 74])
    np.testing.assert_array_equal(read_notes(tmp_path / "a.mid", 2)[:, 2], [48])
    for track in (0, 3):
        with pytest.raises(ValueError, match=f"a.mid: has no track {track}; those with notes are 1 top, 2 low"):
            read_midi(tmp_path / "a.mid", track)


def test_bad_midi_is_one_line(tmp_path):
    write_midi(tmp_path / "complete.mid", NOTES)
    (tmp_path / "cut.mid").write_bytes((tmp_path / "complete.mid").read_bytes()[:40])
    (tmp_path / "short.mid").write_bytes((tmp_path / "complete.mid").read_bytes()[:-1])
    (tmp_path / "odd.mid").write_bytes(b"MThd\0\0\0\0\0\0\0\0")
    (tmp_path / "text.mid").write_text("not music")
    (tmp_path / "zero.mid").write_bytes(b"")
    write_midi(tmp_path / "empty.mid", rows())
    write_score(tmp_path / "drums.mid", ("kit", True, [35]))
    for name, message in {
        "missing": "no such file",
        "cut": "is truncated",
        "short": "is truncated",
        "odd": "cannot be read as MIDI .*is it damaged",
        "text": "is not a MIDI file",
        "zero": "is not a MIDI file",
        "empty": "holds no notes",
        "drums": "holds no notes other than drums",
    }.items():
        with pytest.raises(ValueError, match=rf"{name}.mid: {message}") as error:
            read_midi(tmp_path / f"{name}.mid")
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is not a table of notes"),
        ("a,b,c\n", "is not a table of notes"),
        ("1,2,x\n", r"line 2 must be onset, offset and pitch, not '1,2,x'"),
        ("1\n", "line 2 must be onset, offset and pitch"),
        ("0,1,60\n2,1,60\n", "line 3 must have 0 ≤ onset < offset"),
        ("0,1,128\n", "a pitch of 0 to 127"),
        ("0,nan,60\n", "line 2 must have"),
        ("nan,1,60\n", "line 2 must have"),
        ("-1,1,60\n", "line 2 must have"),
        ("0,inf,60\n", "line 2 must have"),
        ("1e8,100000001,60\n", "line 2 must have 0 ≤ onset < offset ≤ 86400 s"),
        ("0,1,nan\n", "a pitch of 0 to 127"),
    ],
)
def test_bad_tables_are_one_line(tmp_path, content, message):
    header = "" if "table" in message else "onset_s,offset_s,midi_pitch,name\n"
    (tmp_path / "a.csv").write_text(header + content)
    with pytest.raises(ValueError, match=message):
        read_csv(tmp_path / "a.csv")


def test_other_faults_of_tables(tmp_path):
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


@pytest.mark.parametrize("note", [(1e8, 1e8 + 8, 60), (-1, 1, 60), (np.nan, 1, 60), (1, 1, 60), (0, 1, np.inf)])
def test_impossible_times_of_an_array(note):
    with pytest.raises(ValueError, match=r"^the score: the note .* must have 0 ≤ onset < offset ≤ 86400 s"):
        voice_of(rows((0, 1, 60), note))
