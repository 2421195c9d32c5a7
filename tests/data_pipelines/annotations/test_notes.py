"""Conversion between notes and classes of frames, single voices, and shifts by octaves."""

import numpy as np
import pytest

from data_pipelines.annotations.notes import (
    frame_classes,
    monophonic,
    move_to_range,
    notes_from_classes,
    pitch_name,
    transpose,
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


def test_a_note_lasts_at_least_a_frame_and_the_later_one_prevails():
    np.testing.assert_array_equal(frame_classes(rows([0.21, 0.22, 21]), 4, 10), [88, 88, 0, 88])
    overlapping = rows([0.1, 0.4, 108], [0.0, 0.3, 21])
    np.testing.assert_array_equal(frame_classes(overlapping, 5, 10), [0, 87, 87, 87, 88])
    np.testing.assert_array_equal(frame_classes(rows([0.0, 0.2, 20.6]), 2, 10), [0, 0])


@pytest.mark.parametrize("pitch", [20, 109, np.nan])
def test_pitches_that_are_not_keys_are_refused(pitch):
    with pytest.raises(ValueError, match=rf"MIDI pitch {pitch:g} at 1.50 s is outside 21 \(A0\) to 108 .* transpose"):
        frame_classes(rows([1.5, 2.0, pitch]), 10, 10)


@pytest.mark.parametrize("rate", [100, 16_000 / 160, 31.25, 22_050 / 256])
@pytest.mark.parametrize("frames", [1, 7, 720_000])
def test_frames_to_notes_and_back(rate, frames):
    """Times in float32 must not lose a frame, even after two hours."""
    rng = np.random.default_rng(frames)
    runs = max(frames // 200, 7)
    classes = np.repeat(rng.integers(0, CLASSES, runs), rng.integers(1, 2000 if frames > 9 else 3, runs))[:frames]
    assert len(classes) == frames
    np.testing.assert_array_equal(frame_classes(notes_from_classes(classes, rate), frames, rate), classes)


def test_runs_become_notes():
    classes = np.array([88, 10, 10, 11, 88, 88, 11])
    notes = notes_from_classes(classes, 10)
    np.testing.assert_allclose(notes, rows([0.1, 0.3, 31], [0.3, 0.4, 32], [0.6, 0.7, 32]), atol=1e-6)
    assert notes.dtype == np.float32
    np.testing.assert_allclose(notes_from_classes(classes, 10, shortest=0.2), rows([0.1, 0.3, 31]), atol=1e-6)
    assert notes_from_classes(np.full(5, SILENCE_CLASS), 10).shape == (0, 3)
    assert notes_from_classes(np.zeros(0, np.int32), 10).shape == (0, 3)
    with pytest.raises(ValueError, match="0 to 88, not 89"):
        notes_from_classes(np.array([3, 89]), 10)


def test_short_overlaps_are_cut():
    overlapping = rows([1.0, 2.0, 62], [0.0, 1.04, 60])
    np.testing.assert_allclose(monophonic(overlapping, "a"), rows([0.0, 1.0, 60], [1.0, 2.0, 62]))
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
def test_notes_are_moved_by_octaves(pitches, low, high, semitones):
    notes = rows(*[[number, number + 1, pitch] for number, pitch in enumerate(pitches)])
    moved, shift = move_to_range(notes, low, high)
    assert shift == semitones
    np.testing.assert_array_equal(moved, transpose(notes, semitones))
    frame_classes(moved, 10, 10)


def test_a_melody_wider_than_a_piano_cannot_be_moved():
    with pytest.raises(ValueError, match=r"from C0 to C8 \(MIDI 12 to 108\)"):
        move_to_range(rows([0, 1, 12], [1, 2, 108]), 60, 70)
    assert move_to_range(rows(), 60, 70)[1] == 0


@pytest.mark.parametrize(("pitch", "name"), [(21, "A0"), (60, "C4"), (69.2, "A4"), (108, "C8"), (61, "C#4")])
def test_names_of_pitches(pitch, name):
    assert pitch_name(pitch) == name
