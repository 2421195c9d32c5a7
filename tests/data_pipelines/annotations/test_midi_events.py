"""MIDI files byte by byte: times, the sustain pedal, repeated and endless notes, and damage."""

import struct

import numpy as np
import pytest

from data_pipelines.annotations.note_files import read_midi, read_notes, read_voice, write_midi

QUARTER = b"\x83\x60"  # 480 ticks, half a second without a tempo
EIGHTH = b"\x81\x70"
TEMPO_OF_ONE_SECOND = b"\0\xff\x51\3" + (1_000_000).to_bytes(3, "big")
PEDAL, NO_PEDAL = b"\xb0\x40\x7f", b"\xb0\x40\0"


def on(pitch: int, velocity: int = 90, channel: int = 0) -> bytes:
    return bytes([0x90 | channel, pitch, velocity])


def off(pitch: int, channel: int = 0) -> bytes:
    return bytes([0x80 | channel, pitch, 64])


def track(*events: bytes, end: bytes = b"\0") -> bytes:
    body = b"".join(events) + end + b"\xff\x2f\0"
    return b"MTrk" + struct.pack(">I", len(body)) + body


def midi(*tracks: bytes, count: int | None = None, division: int = 480, form: int = 1) -> bytes:
    header = struct.pack(">IHHH", 6, form, len(tracks) if count is None else count, division)
    return b"MThd" + header + b"".join(tracks)


def write(tmp_path, content: bytes):
    (tmp_path / "a.mid").write_bytes(content)
    return tmp_path / "a.mid"


def notes_of(tmp_path, *events: bytes, end: bytes = b"\0") -> list[list[float]]:
    return read_midi(write(tmp_path, midi(track(*events, end=end)))).tolist()


def test_times_follow_the_tempos(tmp_path):
    tempos = track(b"\0\xff\x51\3\x07\xa1\x20", QUARTER, TEMPO_OF_ONE_SECOND[1:])
    melody = track(b"\0", on(60), QUARTER, off(60), b"\0", on(62), QUARTER, on(62, 0))
    assert read_midi(write(tmp_path, midi(tempos, melody))).tolist() == [[0, 0.5, 60], [0.5, 1.5, 62]]


def test_running_status_other_events_and_names(tmp_path):
    skipped = (b"\0\xf0\3abc", b"\0\xff\1\4text", b"\0\xe0\0\x40", b"\0\xd0\7", b"\0\xa0\1\2", b"\0\xc0\7")
    name = b"\0\xff\3\4lead"
    events = (name, *skipped, b"\0", on(60), QUARTER, b"\x3c\0", b"\0\x3e\x5a", QUARTER, b"\x3e\0")
    assert notes_of(tmp_path, *events) == [[0, 0.5, 60], [0.5, 1.0, 62]]
    with pytest.raises(ValueError, match="has no track 2; those with notes are 1 lead"):
        read_midi(tmp_path / "a.mid", 2)


def test_the_pedal_holds_notes(tmp_path):
    """Until it is released, or the same pitch is played again; a voice also until its next note."""
    held = (b"\0", PEDAL, b"\0", on(60), EIGHTH, off(60), EIGHTH, on(64), EIGHTH, off(64), EIGHTH, on(60), QUARTER)
    held += (off(60), QUARTER, NO_PEDAL)
    assert notes_of(tmp_path, *held) == [[0, 1, 60], [0.5, 2, 64], [1, 2, 60]]
    assert read_voice(tmp_path / "a.mid").tolist() == [[0, 0.5, 60], [0.5, 1, 64], [1, 2, 60]]
    with_end = (b"\0", PEDAL, b"\0", on(60), EIGHTH, off(60), QUARTER, on(64), EIGHTH, off(64))
    assert notes_of(tmp_path, *with_end, end=QUARTER)[0] == [0, 1.5, 60]
    assert notes_of(tmp_path, *with_end[2:], end=QUARTER)[0] == [0, 0.25, 60]
    on_another_channel = (b"\0", b"\xb1\x40\x7f", *with_end[2:])
    assert notes_of(tmp_path, *on_another_channel, end=QUARTER)[0] == [0, 0.25, 60]


def test_two_voices_with_a_pedal_are_refused(tmp_path):
    chord = (b"\0", PEDAL, b"\0", on(60), b"\0", on(64), QUARTER, off(60), b"\0", off(64))
    with pytest.raises(ValueError, match=r"E4 begins 0.50 s before an earlier note ends"):
        read_voice(write(tmp_path, midi(track(*chord))))


@pytest.mark.parametrize("controller", [120, 123])
def test_all_notes_off(tmp_path, controller):
    events = (b"\0", on(60), QUARTER, bytes([0xB0, controller, 0]))
    assert notes_of(tmp_path, *events, end=QUARTER) == [[0, 0.5, 60]]


def test_notes_without_an_end_last_to_the_end_of_the_track(tmp_path):
    with pytest.warns(UserWarning, match=r"a.mid: the key of E4 at 0.50 s is never released; such notes"):
        notes = notes_of(tmp_path, b"\0", on(60), QUARTER, off(60), b"\0", on(64), end=QUARTER)
    assert notes == [[0, 0.5, 60], [0.5, 1, 64]]
    with pytest.warns(UserWarning, match=r"those that begin there \(1\) are left out"):
        assert notes_of(tmp_path, b"\0", on(60), QUARTER, off(60), b"\0", on(64)) == [[0, 0.5, 60]]


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ((on(60), b"\0", on(60), QUARTER, off(60), b"\0", off(60)), [[0, 0.5, 60]]),
        ((on(60), b"\0", on(60), QUARTER, off(60)), [[0, 0.5, 60]]),
        ((on(60), b"\0", on(60), EIGHTH, off(60), EIGHTH, off(60)), [[0, 0.5, 60]]),
        ((on(60), EIGHTH, on(60), EIGHTH, off(60), b"\0", off(60)), [[0, 0.25, 60], [0.25, 0.5, 60]]),
        ((on(60), EIGHTH, on(60), EIGHTH, off(60)), [[0, 0.25, 60], [0.25, 0.5, 60]]),
        ((off(60), b"\0", on(60), EIGHTH, off(60), EIGHTH, off(60)), [[0, 0.25, 60]]),
    ],
)
def test_doubled_and_repeated_notes(tmp_path, events, expected):
    assert notes_of(tmp_path, b"\0", *events, end=QUARTER) == expected
    assert read_voice(tmp_path / "a.mid").tolist() == expected


def test_a_melody_in_two_tracks_is_one_voice(tmp_path):
    melody = (b"\0", on(60), EIGHTH, off(60), b"\0", on(62), EIGHTH, off(62))
    assert len(read_voice(write(tmp_path, midi(track(*melody), track(*melody))))) == 2
    assert len(read_midi(tmp_path / "a.mid", 2)) == 2


NOTE = (b"\0", on(60), QUARTER, off(60))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (midi(track(*NOTE), division=0), "has 0 ticks per quarter note"),
        (midi(track(*NOTE), division=0xE728), "counts time in frames of a film"),
        (midi(track(b"\0\xff\x51\3\0\0\0", *NOTE)), "has a tempo of 0 or without a value at tick 0"),
        (midi(track(*NOTE, b"\0\xff\x51\2\0\1")), "has a tempo of 0 or without a value at tick 480"),
        (midi(track(*NOTE), count=3), "its header promises 3 tracks, but the file holds 1"),
        (midi(track(*NOTE), track(*NOTE), count=1), "its header promises 1 tracks, but the file holds 2"),
        (midi(track(*NOTE), count=0), "its header promises 0 tracks, but the file holds 1"),
        (midi(track(*NOTE))[:-1], "is truncated: its header promises more"),
        (midi(track(*NOTE))[:20], "is truncated or damaged"),
        (midi(track()), "holds no notes"),
        (midi(), "holds no notes"),
        (midi(track(b"\0", on(60), b"\0", off(60))), "holds no notes with a length, but 1 that end where they begin"),
        (midi(track(b"\0", on(60, channel=9), QUARTER, off(60, channel=9))), "holds no notes other than drums"),
        (midi(track(b"\0\x3c\x40")), "track 1 has data without an event"),
        (midi(track(b"\0\x90\xff\x40")), "track 1 has an event with data beyond 127"),
        (midi(track(b"\0\xf4")), "has the event 0xf4"),
        (midi(track(b"\xff\xff\xff\xff\x7f")), "has a number of more than four bytes"),
        (midi(track(b"\0\xff\1\x7f")), "track 1 ends within an event"),
        (midi(track(*NOTE), form=9), "cannot be read as MIDI"),
        (
            midi(track(b"\0", on(60), b"\xff\xff\xff\x7f", off(60)), division=1),
            "must have 0 ≤ onset < offset ≤ 86400 s",
        ),
    ],
)
def test_damage_is_one_line(tmp_path, content, message):
    for read in (read_notes, read_voice):
        with pytest.raises(ValueError, match=f"^{tmp_path}/a.mid: .*{message}") as error:
            read(write(tmp_path, content))
        assert str(error.value).isprintable()


@pytest.mark.filterwarnings("ignore:.*never released")
def test_no_damage_is_a_traceback(tmp_path):
    """Every prefix, and every changed byte of a file, is read or refused in one line."""
    good = midi(track(TEMPO_OF_ONE_SECOND, b"\0", PEDAL, *NOTE, b"\0\xc0\7", b"\0\xf0\1\xf7"), track(*NOTE))
    rng = np.random.default_rng(0)
    damaged = [good[:length] for length in range(len(good))]
    for place in range(len(good)):
        for value in rng.integers(256, size=8):
            damaged.append(good[:place] + bytes([value]) + good[place + 1 :])
    refused = 0
    for content in damaged:
        try:
            read_midi(write(tmp_path, content))
        except ValueError:
            refused += 1
    assert len(good) < refused < len(damaged)


def test_the_notes_are_those_of_symusic(tmp_path):
    from symusic import Score

    rng = np.random.default_rng(1)
    onsets = np.cumsum(rng.uniform(0.05, 0.5, 200))
    notes = np.stack([onsets, onsets + rng.uniform(0.01, 0.04, 200), rng.integers(21, 109, 200)], 1)
    write_midi(tmp_path / "a.mid", notes.astype(np.float32))
    table = Score(tmp_path / "a.mid").to("second").tracks[0].notes.numpy()
    expected = np.stack([table["time"], table["time"] + table["duration"], table["pitch"]], 1)
    np.testing.assert_allclose(read_midi(tmp_path / "a.mid"), expected, rtol=1e-6)
