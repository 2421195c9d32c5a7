"""Drawn players: the same for the same arguments, moved by their notes, and told apart by encoder."""

import time

import numpy as np
import pytest

from data_pipelines.schema import INSTRUMENTS
from data_pipelines.video.players import draw, pose_at

SILENCE = 0.2, 5.0  # before the first note, and long after the last


def notes_from_classes(instrument: str) -> np.ndarray:
    low, high, _ = INSTRUMENTS[instrument]
    return np.array([[1.0, 1.9, low + 3], [2.0, 2.9, high - 3], [3.0, 3.9, low + 5]], np.float32)


@pytest.mark.parametrize("instrument", INSTRUMENTS)
def test_the_same_for_the_same_arguments_and_moved_by_the_notes(instrument):
    notes = notes_from_classes(instrument)

    def at(moment, size=48):
        return draw(instrument, notes, moment, size, "somebody")

    assert (at(1.5).shape, at(1.5).dtype) == ((48, 48, 3), np.uint8)
    np.testing.assert_array_equal(at(1.5), at(1.5))
    # Another pitch, and a note against a rest, change what is to be seen; silence does not.
    assert np.abs(at(1.5).astype(int) - at(2.5)).max() > 60
    assert np.abs(at(1.5).astype(int) - at(SILENCE[0])).max() > 60
    np.testing.assert_array_equal(at(0.1), at(0.9))
    np.testing.assert_array_equal(at(4.5), at(9.0))


def test_what_comes_later_is_not_seen():
    notes = notes_from_classes("violin")
    changed = notes.copy()
    changed[2] = [3.5, 3.9, 80.0]
    for moment in (0.5, 1.5, 2.5):
        np.testing.assert_array_equal(draw("violin", notes, moment, 32, "a"), draw("violin", changed, moment, 32, "a"))
    assert (draw("violin", notes, 3.2, 32, "a") != draw("violin", changed, 3.2, 32, "a")).any()


def test_bows_turn_with_every_note_and_go_on_from_where_they_are():
    notes = np.array([[1.0, 2.0, 60.0], [2.0, 3.0, 62.0], [3.0, 4.0, 60.0]], np.float32)
    strokes = [pose_at("cello", notes, moment).stroke for moment in np.arange(1.0, 4.0, 0.01)]
    turns = np.flatnonzero(np.diff(np.sign(np.diff(strokes))))
    assert (turns + 1).tolist() == [100, 200]
    assert np.abs(np.diff(strokes)).max() < 0.03
    assert max(strokes) > 0.97
    assert min(strokes) < -0.97


def test_slides_go_where_the_pitch_is():
    low, high, _ = INSTRUMENTS["trombone"]
    notes = np.array([[0.0, 1.0, low], [1.0, 2.0, high]], np.float32)
    heights = [pose_at("trombone", notes, moment).height for moment in (0.9, 1.0, 1.05, 1.5)]
    assert heights[0] == heights[1] == 0.0
    assert 0.0 < heights[2] < 1.0
    assert heights[3] == 1.0


def test_level_follows_the_notes():
    notes = notes_from_classes("oboe")
    levels = {moment: pose_at("oboe", notes, moment).level for moment in (0.5, 1.02, 1.5, 2.5, 4.0, 4.5)}
    assert levels[0.5] == levels[4.5] == 0.0
    assert levels[1.5] == levels[2.5] == 1.0
    assert 0.0 < levels[1.02] < 1.0
    assert 0.0 < levels[4.0] < 1.0


def test_what_sounds_is_brighter():
    notes = notes_from_classes("tuba")
    assert draw("tuba", notes, 1.8, 64, "a").mean() > draw("tuba", notes, 0.5, 64, "a").mean() + 5


def test_players_without_notes_sit_still():
    nothing = np.zeros((0, 3), np.float32)
    np.testing.assert_array_equal(draw("tuba", nothing, 0.0, 32, "a"), draw("tuba", nothing, 7.0, 32, "a"))


def test_players_of_one_instrument_differ_from_each_other():
    notes = notes_from_classes("flute")
    seen = [draw("flute", notes, 1.5, 32, f"track{number}/flute").astype(int) for number in range(6)]
    for one in range(6):
        for other in range(one):
            assert np.abs(seen[one] - seen[other]).mean() > 4


@pytest.mark.parametrize("size", [32, 64])
def test_instruments_are_told_apart(size):
    """By no more than how much there is of each colour, in players who were not looked at before."""
    rng, moments, people = np.random.default_rng(0), (1.2, 1.6, 2.4, 3.3), 60

    def colours(instrument, person):
        moment = moments[rng.integers(4)]
        image = draw(instrument, notes_from_classes(instrument), moment, size, f"{person}/{instrument}")
        return np.bincount((image // 43).reshape(-1, 3) @ [36, 6, 1], minlength=216) ** 0.5 / size

    seen = np.array([[colours(name, person) for name in INSTRUMENTS] for person in range(people)])
    known, fresh = seen[:50].reshape(-1, 216), seen[50:].reshape(-1, 216)
    classes = np.tile(np.eye(len(INSTRUMENTS)), (people, 1))
    weights = np.linalg.solve(known.T @ known + 0.1 * np.eye(216), known.T @ classes[: len(known)])
    right = (fresh @ weights).argmax(axis=1) == classes[len(known) :].argmax(axis=1)
    assert right.mean() > 0.85


@pytest.mark.parametrize(("size", "seconds"), [(32, 0.005), (224, 0.075)])
def test_drawing_is_quick(size, seconds):
    """Five times what is asked for, as the machine may be busy."""
    notes, taken = notes_from_classes("tuba"), []
    for number in range(20):
        start = time.perf_counter()
        draw("tuba", notes, 1.0 + 0.1 * number, size, "a")
        taken.append(time.perf_counter() - start)
    assert min(taken) < seconds


def test_other_instruments_cannot_be_drawn():
    with pytest.raises(ValueError, match="no player of 'harp' can be drawn; there are bassoon, cello"):
        draw("harp", np.zeros((0, 3), np.float32), 0.0, 32, "a")
