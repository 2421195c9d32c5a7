"""Pairs of instruments: their pitch shifts, silent sections, notes and queries."""

import dataclasses

import numpy as np
import pytest

from data_pipelines.corpora.base import Stem
from data_pipelines.prepared import store
from data_pipelines.prepared.corpus import Excerpt, open_corpus
from data_pipelines.recipes.instrument_pairs import InstrumentPairs, sounding_parts
from data_pipelines.schema import NOTES, OTHERS, QUERIES, SOURCES, variant_name

RATE, SECONDS = 1000, 8
# Two seconds of sound alternate with two of silence; the samples encode the stem, the shift and the track.
SCORE = np.array([[0.0, 2.0, 60.0], [4.0, 6.0, 62.0]], np.float32)
STEMS, SHIFTS, TRACKS = ("cello", "flute", "viola"), (-2, -1, 0, 1, 2), 3


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    root = tmp_path_factory.mktemp("pairs")
    time = np.arange(SECONDS * RATE)
    sounding = (time // (2 * RATE)) % 2 == 0

    def track(number):
        loaded = []
        for index, stem in enumerate(STEMS[: 3 if number else 2]):  # the first track has no viola
            for shift in SHIFTS:
                value = 1000 * (index + 1) + 100 * shift + 10 * number
                notes = SCORE + np.array([0, 0, shift], np.float32)
                audio = np.int16(sounding * value)[:, None]
                loaded.append(Stem(variant_name(stem, shift), audio, stem if shift else "", notes))
        return store.segments(f"t{number}", loaded, RATE)

    folder = store.corpus_folder(root, "toy", RATE)
    tracks = {"train": iter([track(number) for number in range(TRACKS)])}
    store.write(folder, "toy", RATE, 1, tracks, fingerprint="0", options={"kind": "toy"})
    return open_corpus(root, "toy", RATE, "train")


def draws(corpus, recipe, samples=3000, count=200):
    return [recipe(np.random.default_rng(seed), corpus, samples) for seed in range(count)]


def test_shapes_and_the_dependence_on_the_seed(corpus):
    example = InstrumentPairs()(np.random.default_rng(3), corpus, 3000)
    shapes = {name: part.shape for name, part in example.items()}
    assert shapes == {SOURCES: (2, 3000, 1), OTHERS: (2, 3000, 1), QUERIES: (2, 2, 3000, 1), NOTES: (2, 64, 3)}
    same = InstrumentPairs()(np.random.default_rng(3), corpus, 3000)
    assert all(np.array_equal(example[name], same[name]) for name in example)


def level(audio):
    """The value of the sounding samples, 1000 · stem + 100 · shift + 10 · track; 0 if all are silent."""
    return round(float(np.abs(audio).max()) * 32768)


def stem_of(audio):
    """The number of the stem that the samples encode."""
    return round((level(audio) - 10) / 1000)


def test_two_instruments_with_queries_of_the_same_instruments(corpus):
    for example in draws(corpus, InstrumentPairs(), count=50):
        stems = [stem_of(query[0]) for query in example[QUERIES]]
        assert len(set(stems)) == 2
        for source in (0, 1):
            assert {stem_of(query) for query in example[QUERIES][source]} == {stems[source]}
            for name in (SOURCES, OTHERS):
                assert level(example[name][source]) == 0 or stem_of(example[name][source]) == stems[source]


def test_queries_skip_silence(corpus):
    for example in draws(corpus, InstrumentPairs(), count=20):
        assert (example[QUERIES] != 0).all()


def test_all_shifts_within_the_limit_occur(corpus):
    def shifts(recipe):
        levels = [level(example[SOURCES][0]) for example in draws(corpus, recipe)]
        return {round((value - 1000 * round(value / 1000)) / 100) for value in levels if value}

    assert shifts(InstrumentPairs()) == set(SHIFTS)
    assert shifts(InstrumentPairs(shifts=1)) == {-1, 0, 1}
    assert shifts(InstrumentPairs(shifts=0)) == {0}


def test_the_other_excerpt_has_the_same_track_and_second_unless_the_source_is_silent(corpus):
    moved = 0
    for example in draws(corpus, InstrumentPairs(), samples=1000):
        for first, other in zip(example[SOURCES], example[OTHERS], strict=True):
            if level(first) and level(other):
                assert level(first) % 100 == level(other) % 100  # the track
            moved += bool(level(first)) != bool(level(other)) and not level(first)
            assert not (level(first) and not level(other))  # the same second has the same rests
    assert moved > 0


def test_notes_are_those_of_the_shifted_source(corpus):
    note_counts = set()
    for example in draws(corpus, InstrumentPairs(), samples=5000):
        for source, notes in zip(example[SOURCES], example[NOTES], strict=True):
            notes = notes[notes[:, 1] > 0]
            sounding = np.zeros(len(source), bool)
            for onset, offset, _ in notes:
                sounding[round(onset * RATE) : round(offset * RATE)] = True
            np.testing.assert_array_equal(sounding, source[:, 0] != 0)
            shift = round((level(source) - 1000 * round(level(source) / 1000)) / 100)
            assert {round(float(pitch)) - shift for pitch in notes[:, 2]} <= {60, 62}
            note_counts.add(len(notes))
    assert note_counts >= {1, 2}


def test_excerpts_begin_at_whole_seconds(corpus):
    for example in draws(corpus, InstrumentPairs(), count=30):
        edges = np.flatnonzero(np.diff((example[SOURCES][0][:, 0] != 0).astype(int)))
        assert ((edges + 1) % RATE == 0).all()


def test_instruments_with_more_tracks_are_drawn_more_often(corpus):
    stems = [
        stem_of(query) for example in draws(corpus, InstrumentPairs(), count=400) for query in example[QUERIES][:, 0]
    ]
    assert stems.count(3) < stems.count(1)


def test_sounding_parts(corpus):
    assert sounding_parts(corpus, "t0", "cello") == [(0, 2000), (4000, 6000)]


def test_corpora_and_settings_that_are_refused(corpus):
    cello = open_corpus(corpus.folder.parents[1], "toy", RATE, "train", {"cello": ("cello",)})
    with pytest.raises(ValueError, match="pairs need two instruments"):
        InstrumentPairs()(np.random.default_rng(0), cello, 1000)
    with pytest.raises(ValueError, match="increase most_notes of the recipe, which is 1"):
        draws(corpus, dataclasses.replace(InstrumentPairs(), most_notes=1), samples=7000, count=5)


def test_variants_are_read_by_name(corpus):
    assert corpus.stems == STEMS
    assert corpus.shifts("cello") == SHIFTS
    assert corpus.variant("cello", 0) == "cello"
    with pytest.raises(ValueError, match="not 5"):
        corpus.variant("cello", 5)
    read = corpus.read(Excerpt("t0", corpus.variant("cello", 2), 0, 1000))
    np.testing.assert_array_equal(read * 32768, 1200.0)
