"""Pairs of instruments: what is shifted, what is silent, and the notes that go with it."""

import dataclasses

import numpy as np
import pytest

from data_pipelines.corpora.base import Stem
from data_pipelines.prepared import store
from data_pipelines.prepared.corpus import Excerpt, open_corpus
from data_pipelines.recipes.instrument_pairs import InstrumentPairs, sounding_parts
from data_pipelines.schema import NOTES, OTHERS, QUERIES, SOURCES, variant_name

RATE, SECONDS = 1000, 8
# Two seconds of sound, two of silence, and so on; a stem's samples say which it is, how it is shifted and when.
NOTES_OF = np.array([[0.0, 2.0, 60.0], [4.0, 6.0, 62.0]], np.float32)
STEMS, SHIFTS, TRACKS = ("cello", "flute", "viola"), (-2, -1, 0, 1, 2), 3


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    root = tmp_path_factory.mktemp("pairs")
    time = np.arange(SECONDS * RATE)
    sounding = (time // (2 * RATE)) % 2 == 0

    def track(number):
        loaded = []
        for place, stem in enumerate(STEMS[: 3 if number else 2]):  # the first track has no viola
            for shift in SHIFTS:
                value = 1000 * (place + 1) + 100 * shift + 10 * number
                notes = NOTES_OF + np.array([0, 0, shift], np.float32)
                audio = np.int16(sounding * value)[:, None]
                loaded.append(Stem(variant_name(stem, shift), audio, stem if shift else "", notes))
        return store.segments(f"t{number}", loaded, RATE)

    folder = store.corpus_folder(root, "toy", RATE)
    tracks = {"train": iter([track(number) for number in range(TRACKS)])}
    store.write(folder, "toy", RATE, 1, tracks, fingerprint="0", options={"kind": "toy"})
    return open_corpus(root, "toy", RATE, "train")


def draws(corpus, recipe, samples=3000, count=200):
    return [recipe(np.random.default_rng(seed), corpus, samples) for seed in range(count)]


def test_shapes_and_a_draw_is_its_seeds(corpus):
    example = InstrumentPairs()(np.random.default_rng(3), corpus, 3000)
    shapes = {name: part.shape for name, part in example.items()}
    assert shapes == {SOURCES: (2, 3000, 1), OTHERS: (2, 3000, 1), QUERIES: (2, 2, 3000, 1), NOTES: (2, 64, 3)}
    again = InstrumentPairs()(np.random.default_rng(3), corpus, 3000)
    assert all(np.array_equal(example[name], again[name]) for name in example)


def level(audio):
    """The value of the samples that sound, 0 if none does: 1000 · stem + 100 · shift + 10 · track."""
    return round(float(np.abs(audio).max()) * 32768)


def stem_of(audio):
    return round((level(audio) - 10) / 1000)


def test_two_instruments_and_queries_of_the_same(corpus):
    for example in draws(corpus, InstrumentPairs(), count=50):
        stems = [stem_of(query[0]) for query in example[QUERIES]]
        assert len(set(stems)) == 2
        for place in (0, 1):
            assert {stem_of(query) for query in example[QUERIES][place]} == {stems[place]}
            for name in (SOURCES, OTHERS):
                assert level(example[name][place]) == 0 or stem_of(example[name][place]) == stems[place]


def test_queries_have_no_silence_and_go_on_across_it(corpus):
    for example in draws(corpus, InstrumentPairs(), count=20):
        assert (example[QUERIES] != 0).all()


def test_shifts_are_all_there_and_bounded(corpus):
    def shifts(recipe):
        levels = [level(example[SOURCES][0]) for example in draws(corpus, recipe)]
        return {round((value - 1000 * round(value / 1000)) / 100) for value in levels if value}

    assert shifts(InstrumentPairs()) == set(SHIFTS)
    assert shifts(InstrumentPairs(shifts=1)) == {-1, 0, 1}
    assert shifts(InstrumentPairs(shifts=0)) == {0}


def test_the_second_clip_is_of_the_same_track_and_second_unless_the_first_was_silent(corpus):
    moved = 0
    for example in draws(corpus, InstrumentPairs(), samples=1000):
        for first, other in zip(example[SOURCES], example[OTHERS], strict=True):
            if level(first) and level(other):
                assert level(first) % 100 == level(other) % 100  # the track
            moved += bool(level(first)) != bool(level(other)) and not level(first)
            assert not (level(first) and not level(other))  # same second, same rests
    assert moved > 0


def test_notes_are_those_of_the_clip_as_it_was_shifted(corpus):
    seen = set()
    for example in draws(corpus, InstrumentPairs(), samples=5000):
        for source, notes in zip(example[SOURCES], example[NOTES], strict=True):
            notes = notes[notes[:, 1] > 0]
            sounding = np.zeros(len(source), bool)
            for onset, offset, _ in notes:
                sounding[round(onset * RATE) : round(offset * RATE)] = True
            np.testing.assert_array_equal(sounding, source[:, 0] != 0)
            shift = round((level(source) - 1000 * round(level(source) / 1000)) / 100)
            assert {round(float(pitch)) - shift for pitch in notes[:, 2]} <= {60, 62}
            seen.add(len(notes))
    assert seen >= {1, 2}


def test_clips_begin_at_whole_seconds(corpus):
    for example in draws(corpus, InstrumentPairs(), count=30):
        edges = np.flatnonzero(np.diff((example[SOURCES][0][:, 0] != 0).astype(int)))
        assert ((edges + 1) % RATE == 0).all()


def test_instruments_with_more_tracks_come_more_often(corpus):
    found = [
        stem_of(query) for example in draws(corpus, InstrumentPairs(), count=400) for query in example[QUERIES][:, 0]
    ]
    assert found.count(3) < found.count(1)


def test_sounding_parts(corpus):
    assert sounding_parts(corpus, "t0", "cello") == [(0, 2000), (4000, 6000)]


def test_what_cannot_be_drawn(corpus):
    one = open_corpus(corpus.folder.parents[1], "toy", RATE, "train", {"cello": ("cello",)})
    with pytest.raises(ValueError, match="pairs need two instruments"):
        InstrumentPairs()(np.random.default_rng(0), one, 1000)
    with pytest.raises(ValueError, match="raise most_notes, 1, of the recipe"):
        draws(corpus, dataclasses.replace(InstrumentPairs(), most_notes=1), samples=7000, count=5)


def test_variants_are_read_by_name(corpus):
    assert corpus.stems == STEMS
    assert corpus.shifts("cello") == SHIFTS
    assert corpus.variant("cello", 0) == "cello"
    with pytest.raises(ValueError, match="not 5"):
        corpus.variant("cello", 5)
    read = corpus.read(Excerpt("t0", corpus.variant("cello", 2), 0, 1000))
    np.testing.assert_array_equal(read * 32768, 1200.0)
