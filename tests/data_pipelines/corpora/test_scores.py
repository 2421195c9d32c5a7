"""Scores as lists of notes, and the tunes by which works are split."""

import itertools

import numpy as np
import pytest

from data_pipelines.corpora.scores import Part, Work, chorales, generator, quartets, read_work, tunes


@pytest.fixture(scope="module")
def passion() -> list[Work]:
    """Three settings of `O Haupt voll Blut und Wunden` in different keys."""
    return [read_work(f"bach/bwv244.{number}.mxl") for number in (15, 17, 54)]


def test_the_package_holds_enough_scores():
    assert len(chorales()) > 400
    assert len(quartets()) > 30
    assert len(tunes()) > 1000
    for names in (chorales(), quartets(), tunes()):
        assert names == sorted(set(names))


def test_a_chorale(passion):
    work = passion[0]
    assert [part.name for part in work.parts] == ["Soprano", "Alto", "Tenor", "Bass"]
    assert work.metre == 4.0
    assert [pitch for _, _, pitch in work.parts[0].notes[:5]] == [66, 71, 69, 67, 66]
    for part in work.parts:
        assert part.low == min(pitch for _, _, pitch in part.notes)
        assert part.high == max(pitch for _, _, pitch in part.notes)
        for (onset, offset, _), (next_onset, _, _) in itertools.pairwise(part.notes):
            assert onset < offset <= next_onset


def test_settings_of_a_tune_have_the_same_tune(passion):
    assert len({work.parts[0].notes[0][2] for work in passion}) == 3
    assert {work.tune for work in passion} == {"5 -2 -2 -1 -2 2 7 1 0 -1 -2"}


def test_the_tune_of_a_chorale_with_instruments_is_that_of_its_voices():
    """One score of BWV 248.9 has trumpets above the voices, the other one has only the voices."""
    full, voices = read_work("bach/bwv248.9-1.mxl"), read_work("bach/bwv248.9-s.mxl")
    assert full.tune == voices.tune


def test_movements_of_a_work_have_the_same_tune():
    work = read_work("haydn/opus1no1/movement3.mxl")
    assert work.tune == "haydn/opus1no1"
    assert len(work.parts) == 4


def test_a_fiddle_tune_has_one_part():
    work = read_work("ryansMammoth/CupOfTeaReel.abc")
    assert len(work.parts) == 1
    assert len(work.tune.split()) == 11


def test_range_of_a_part():
    part = Part("p", ((0.0, 1.0, 60), (1.0, 2.0, 55), (2.0, 3.0, 71)))
    assert (part.low, part.high) == (55, 71)


def test_generator_depends_only_on_its_words():
    draws = [generator(*words).random() for words in [("a", 1), ("a", 1), ("a", 2), ("a1",), (1, "a")]]
    assert draws[0] == draws[1]
    assert len(set(draws)) == 4
    # SHA-256 of the words is the same on every machine and in every process, unlike `hash`.
    digest = bytes.fromhex("d44ed1e7a7ee1e33737c86315c414b74b1f984e8b578c11100c2fd3885ea82b9")
    assert generator("split", "5 -2").random() == np.random.default_rng(list(digest)).random()
