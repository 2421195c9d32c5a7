"""The test list: drawn from its seed, every pair of stems equally often, and every excerpt audible."""

import itertools
from collections import Counter

import numpy as np
import pytest

from data_pipelines.prepared.corpus import Corpus
from data_pipelines.recipes.mixing import rms
from data_pipelines.testlist import AUDIBLE, TestList, draw, is_audible, waveforms

PAIRS = TestList(kind="pairs", seconds=0.5)
TRACKS = TestList(kind="tracks", seconds=0.5)


@pytest.fixture(scope="module")
def corpus(toy) -> Corpus:
    return toy.open("test")


@pytest.mark.parametrize("settings", [PAIRS, TRACKS], ids=lambda settings: settings.kind)
def test_the_same_seed_draws_the_same_list(settings, corpus, toy):
    items = draw(settings, corpus)
    assert items == draw(settings, toy.open("test"))
    other = TestList(kind=settings.kind, seconds=0.5, seed=1)
    assert items != draw(other, corpus)


def test_every_pair_is_mixed_once_and_each_source_is_a_target(corpus):
    items = draw(PAIRS, corpus)
    mixtures = [members for _, members in itertools.groupby(items, lambda item: item.mixture)]
    pairs = {tuple(source.stem for source in item.sources) for item in items}
    assert pairs == set(itertools.combinations(corpus.stems, 2))
    assert len(items) == 2 * len(pairs) == 12
    assert [item.mixture for item in items] == [number for number in range(6) for _ in range(2)]
    assert [item.target for item in items] == [0, 1] * 6
    assert len(mixtures) == 6


def test_more_mixtures_than_pairs_repeat_the_pairs_in_turn(corpus):
    items = draw(TestList(kind="pairs", mixtures=9, seconds=0.5), corpus)
    pairs = Counter(tuple(source.stem for source in item.sources) for item in items if item.target == 0)
    assert sum(pairs.values()) == 9
    assert sorted(pairs.values()) == [1, 1, 1, 2, 2, 2]
    assert len({item.sources for item in items}) == 9


@pytest.mark.parametrize("settings", [PAIRS, TRACKS], ids=lambda settings: settings.kind)
def test_queries_are_of_the_targets_stem_and_from_another_track(settings, corpus):
    for item in draw(settings, corpus):
        assert item.query.stem == item.stem == item.sources[item.target].stem
        assert item.query.track not in {source.track for source in item.sources}
        assert item.query.samples == 4000


def test_sources_of_a_pair_are_from_two_tracks(corpus):
    for item in draw(TestList(kind="pairs", mixtures=40, seconds=0.5), corpus):
        one, other = item.sources
        assert one.track != other.track


def test_sources_of_a_track_start_at_the_same_sample(corpus):
    items = draw(TRACKS, corpus)
    assert {item.sources[0].track for item in items} == {"e0", "e1", "e2", "e3"}
    for item in items:
        assert len({(source.track, source.start) for source in item.sources}) == 1
        assert [source.stem for source in item.sources] == ["bass", "drums", "other", "vocals"]


def test_pairs_are_mixed_at_equal_level(corpus):
    for item in draw(PAIRS, corpus):
        mixture, sources, query = waveforms(item, corpus, PAIRS)
        assert mixture.shape == query.shape == sources.shape[1:] == (4000, 2)
        assert rms(sources[0]) == pytest.approx(rms(sources[1]), rel=1e-4)
        np.testing.assert_allclose(mixture, sources[0] + sources[1], atol=1e-6)
        np.testing.assert_array_equal(query, corpus.read(item.query))


def test_stems_of_a_track_are_mixed_at_their_stored_level(corpus):
    item = draw(TRACKS, corpus)[0]
    mixture, sources, _ = waveforms(item, corpus, TRACKS)
    np.testing.assert_array_equal(sources, [corpus.read(source) for source in item.sources])
    np.testing.assert_allclose(mixture, sources.sum(axis=0), atol=1e-6)


def test_every_third_of_an_excerpt_is_audible(write_corpus):
    """A third of each track is silent: no source and no query reaches far into it."""
    rng = np.random.default_rng(0)
    noise = np.concatenate([rng.uniform(-0.3, 0.3, (16_000, 1)), np.zeros((8000, 1))])
    corpus = write_corpus({f"t{n}": {"a": noise, "b": np.roll(noise, 4000)} for n in range(4)})
    items = draw(TestList("train", "pairs", mixtures=20, seconds=1.0), corpus)
    excerpts = [excerpt for item in items for excerpt in (*item.sources, item.query)]
    for excerpt in excerpts:
        assert all(rms(third) > AUDIBLE for third in np.array_split(corpus.read(excerpt), 3))
    unchecked = [corpus.draw(rng, "a", 8000) for _ in range(40)]
    assert not all(is_audible(corpus.read(excerpt)) for excerpt in unchecked)


def test_silent_stems_are_no_targets_of_a_track(write_corpus):
    noise = np.random.default_rng(0).uniform(-0.3, 0.3, (9000, 1))
    corpus = write_corpus({f"t{n}": {"a": noise, "b": noise, "c": noise * (n > 0)} for n in range(3)})
    items = draw(TestList("train", "tracks", seconds=0.5), corpus)
    assert {item.stem for item in items if item.sources[0].track == "t0"} == {"a", "b"}


@pytest.mark.parametrize("kind", ["pairs", "tracks"])
@pytest.mark.parametrize("tracks", [1, 2])
def test_too_few_tracks_are_refused(kind, tracks, write_corpus):
    """A pair and its query need three tracks that have the stem, a mixture of one track and its query two."""
    noise = np.random.default_rng(0).uniform(-0.3, 0.3, (9000, 1))
    corpus = write_corpus({f"t{n}": {"a": noise, "b": noise} for n in range(tracks)})
    settings = TestList("train", kind, seconds=0.5)
    if (kind, tracks) == ("tracks", 2):
        assert len(draw(settings, corpus)) == 4
        return
    with pytest.raises(ValueError, match=r"has too few train tracks with '[ab]' for a query from another track"):
        draw(settings, corpus)


def test_too_few_stems_are_refused(write_corpus):
    corpus = write_corpus({"t": {"a": np.ones((9000, 1)) / 2}})
    with pytest.raises(
        ValueError, match=r"a mixture has at least two sources, and at most as many as .* has stems \(a\), not 2"
    ):
        draw(TestList("train", "pairs", seconds=0.5), corpus)


def test_silent_corpora_are_refused(write_corpus):
    corpus = write_corpus({f"t{n}": {"a": np.zeros((9000, 1)), "b": np.zeros((9000, 1))} for n in range(2)})
    with pytest.raises(ValueError, match=r"1000 draws of '[ab]' from .* gave no audible excerpt"):
        draw(TestList("train", "pairs", seconds=0.1), corpus)
    with pytest.raises(ValueError, match=r"has no 0\.1 s in which two stems are audible"):
        draw(TestList("train", "tracks", seconds=0.1), corpus)


def test_mixtures_of_three(corpus):
    settings = TestList(kind="pairs", mixtures=5, seconds=0.5, sources=3)
    items = draw(settings, corpus)
    assert len(items) == 15
    assert len({tuple(source.stem for source in item.sources) for item in items}) == 4
    for item in items:
        assert len({source.track for source in item.sources}) == 3
        mixture, sources, _ = waveforms(item, corpus, settings)
        assert sources.shape[0] == 3
        np.testing.assert_allclose(mixture, sources.sum(axis=0), atol=1e-6)
