"""The recipe of Slizovskaia 2021: the number, choice and level of sources, and the times of their frames."""

import dataclasses
from collections import Counter

import numpy as np
import pytest

from data_pipelines.corpora.base import Stem
from data_pipelines.prepared import store
from data_pipelines.prepared.corpus import Excerpt, open_corpus
from data_pipelines.recipes.mix_and_separate import MixAndSeparate
from data_pipelines.schema import FEATURES, FRAMES, SLOTS, SOURCES
from data_pipelines.video import features

RATE, SECONDS, TRACKS, SAMPLES = 1000, 9, 3, 2000
STEMS = ("bassoon", "cello", "flute", "viola", "violin")
NOTES = np.array([[0.5, 2.0, 60.0], [3.0, 4.5, 65.0], [5.0, 8.5, 50.0]], np.float32)


def level(stem: str, track: int) -> int:
    """The peak of the samples of a stem, which differs between tracks."""
    return 1000 * (STEMS.index(stem) + 1) + 100 * track


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Ramps of ten samples from −1/3 of the peak to the peak; the first second and the second half are silent."""
    root = tmp_path_factory.mktemp("mixed")
    time = np.arange(SECONDS * RATE)
    ramp = ((time % 10) / 9 * 4 / 3 - 1 / 3) * ((time >= RATE) & (time < SECONDS * RATE // 2))

    def tracks():
        for track in range(TRACKS):
            stems = [Stem(stem, np.int16(level(stem, track) * ramp)[:, None], notes=NOTES) for stem in STEMS]
            yield store.segments(f"t{track}", stems, RATE)

    folder = store.corpus_folder(root, "toy", RATE)
    store.write(folder, "toy", RATE, 1, {"train": tracks()}, fingerprint="0", options={"kind": "chamber"})
    return open_corpus(root, "toy", RATE, "train")


def draws(corpus, recipe, count=60, samples=SAMPLES):
    return [recipe(np.random.default_rng(seed), corpus, samples) for seed in range(count)]


def test_shapes_and_the_dependence_on_the_seed(corpus):
    recipe = MixAndSeparate(most=5, slots=6, frames=3, size=16)
    example = recipe(np.random.default_rng(3), corpus, SAMPLES)
    assert {name: (part.shape, part.dtype.name) for name, part in example.items()} == {
        SOURCES: ((6, SAMPLES, 1), "float32"),
        SLOTS: ((6,), "int32"),
        FRAMES: ((6, 3, 16, 16, 3), "uint8"),
    }
    same = recipe(np.random.default_rng(3), corpus, SAMPLES)
    assert all(np.array_equal(example[name], same[name]) for name in example)
    assert set(MixAndSeparate()(np.random.default_rng(3), corpus, SAMPLES)) == {SOURCES, SLOTS}


def test_all_numbers_of_sources_are_equally_likely(corpus):
    recipe = MixAndSeparate(fewest=2, most=4, slots=4, scaling="none")
    counts = Counter(int((example[SLOTS] >= 0).sum()) for example in draws(corpus, recipe, 600, 50))
    assert set(counts) == {2, 3, 4}
    assert all(abs(count - 200) < 50 for count in counts.values())


def test_never_more_sources_than_the_corpus_has(corpus):
    counts = {int((example[SLOTS] >= 0).sum()) for example in draws(corpus, MixAndSeparate(), 100, 50)}
    assert counts == {2, 3, 4, 5}


def test_sources_are_different_and_all_occur(corpus):
    counts = Counter()
    for example in draws(corpus, MixAndSeparate(most=3, slots=3), 100, 50):
        present = example[SLOTS][example[SLOTS] >= 0].tolist()
        assert len(set(present)) == len(present)
        counts.update(present)
    assert set(counts) == set(range(len(STEMS)))


def test_empty_slots_are_zero_and_follow_the_others(corpus):
    for example in draws(corpus, MixAndSeparate(most=3, slots=5, frames=1, size=8), 20):
        count = int((example[SLOTS] >= 0).sum())
        assert (example[SLOTS][count:] == -1).all()
        for name in (SOURCES, FRAMES):
            assert not example[name][count:].any()
            assert all(part.any() for part in example[name][:count])


def test_slots_hold_the_stems_that_they_name_from_independent_tracks(corpus):
    tracks = set()
    for example in draws(corpus, MixAndSeparate(scaling="none"), 60):
        for source, stem in zip(example[SOURCES], example[SLOTS], strict=True):
            if stem >= 0:
                peak = float(source.max()) * 32768
                assert round(peak / 1000 - 0.1) - 1 == stem
                tracks.add(round(peak % 1000 / 100))
    assert tracks == {0, 1, 2}
    example = MixAndSeparate(fewest=5, most=5, slots=5, scaling="none")(np.random.default_rng(0), corpus, SAMPLES)
    assert len({round(float(source.max()) * 32768 % 1000 / 100) for source in example[SOURCES]}) > 1


def test_the_range_of_each_source_is_mapped_as_published(corpus):
    """The lowest sample becomes −1 and the highest 1 at any level, which also changes the mean."""
    plain = draws(corpus, MixAndSeparate(scaling="none"), 20)
    for example, stored in zip(draws(corpus, MixAndSeparate(), 20), plain, strict=True):
        for source, original, stem in zip(example[SOURCES], stored[SOURCES], example[SLOTS], strict=True):
            if stem >= 0:
                assert (source.min(), source.max()) == pytest.approx((-1.0, 1.0), abs=1e-6)
                low, high = original.min(), original.max()
                np.testing.assert_allclose(source, 2 * (original - low) / (high - low) - 1, atol=1e-6)


def test_silent_and_constant_excerpts_are_drawn_again(corpus):
    for example in draws(corpus, MixAndSeparate(scaling="none"), 60, samples=100):
        assert all(source.std() > 0 for source in example[SOURCES][example[SLOTS] >= 0])


def test_nothing_is_left_of_what_was_drawn_before(write_corpus):
    """A constant, which is drawn again, and noise that is then the source and nothing else."""
    rng = np.random.default_rng(0)
    audio = np.concatenate([np.full((6000, 1), 0.5), rng.uniform(-0.1, 0.1, (6000, 1))])
    corpus = write_corpus({"t": {"a": audio, "b": audio}})
    for seed in range(30):
        example = MixAndSeparate(scaling="none")(np.random.default_rng(seed), corpus, 50)
        assert np.abs(example[SOURCES]).max() < 0.51


def test_nothing_but_silence_ends(write_corpus):
    """Constant excerpts are drawn again, too, because scaling their range would divide by zero."""
    rng = np.random.default_rng(0)
    noise = {"a": rng.uniform(-0.5, 0.5, (8000, 1)), "b": np.full((8000, 1), 0.25)}
    with pytest.raises(ValueError, match=r"1000 draws of 'b' from .* gave only silence"):
        MixAndSeparate()(rng, write_corpus({"t": noise}), 500)


def record_calls(corpus, monkeypatch):
    """Record the excerpts and the times of frames that are requested from the corpus."""
    calls, add = {"excerpts": [], "times": []}, corpus.add

    def recording_add(excerpt, gain, out):
        calls["excerpts"].append(excerpt)
        add(excerpt, gain, out)

    def recording_frames(track, stem, times, size):
        calls["times"].append((track, stem, times))
        return np.ones((len(times), size, size, 3), np.uint8)

    monkeypatch.setattr(corpus, "add", recording_add)
    monkeypatch.setattr(corpus, "frames", recording_frames)
    return calls


def test_frames_have_the_position_and_time_of_the_excerpt(corpus, monkeypatch):
    calls = record_calls(corpus, monkeypatch)
    draws(corpus, MixAndSeparate(frames=3, spacing=0.7, size=4), 10)
    starts = {(excerpt.track, excerpt.stem, excerpt.start / RATE) for excerpt in calls["excerpts"]}
    assert len(calls["times"]) >= 20
    for track, stem, times in calls["times"]:
        np.testing.assert_allclose(np.diff(times), 0.7)
        assert (track, stem, times[0]) in starts


def test_frames_show_the_players(corpus):
    example = MixAndSeparate(fewest=5, most=5, slots=5, frames=2, size=16)(np.random.default_rng(1), corpus, SAMPLES)
    corners = {}
    for stem in STEMS:
        for track in ("t0", "t1", "t2"):
            corners[stem, track] = corpus.frames(track, stem, np.linspace(0, SECONDS, 50), 16)[:, 0, 0].mean(axis=0)
    for images, stem in zip(example[FRAMES], example[SLOTS], strict=True):
        of_stem = [corner for (name, _), corner in corners.items() if name == STEMS[stem]]
        assert min(np.abs(images[0, 0, 0] - corner).max() for corner in of_stem) < 1


def test_features_replace_frames(corpus):
    """Each feature encodes its time and its track."""
    times = np.arange(SECONDS * 10) / 10
    items = [
        ("train", f"t{track}", stem, np.stack([times, np.full_like(times, level(stem, track))], 1))
        for track in range(TRACKS)
        for stem in STEMS
    ]
    features.write(corpus.folder, "net", 10, 2, items, "test")
    recipe = MixAndSeparate(frames=4, spacing=0.5, features="net", scaling="none")
    for example in draws(corpus, recipe, 10):
        assert FRAMES not in example
        assert example[FEATURES].shape == (7, 4, 2)
        assert example[FEATURES].dtype == np.float32
        for source, rows, stem in zip(example[SOURCES], example[FEATURES], example[SLOTS], strict=True):
            if stem < 0:
                assert not rows.any()
                continue
            np.testing.assert_allclose(np.diff(rows[:, 0]), 0.5, atol=1e-5)
            track = f"t{round(rows[0, 1] % 1000 / 100)}"
            starts = range(round(rows[0, 0] * RATE) - 51, round(rows[0, 0] * RATE) + 52)
            read = (corpus.read(Excerpt(track, STEMS[stem], max(start, 0), SAMPLES)) for start in starts)
            assert any(np.array_equal(source, audio) for audio in read)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"most": 8}, "not fewest = 2, most = 8, slots = 7"),
        ({"fewest": 0}, "not fewest = 0, most = 7"),
        ({"fewest": 4, "most": 3}, "not fewest = 4, most = 3"),
        ({"scaling": "peak"}, "'range' or 'none', not 'peak'"),
        ({"frames": -1}, "frames -1"),
        ({"frames": 1, "size": 0}, "size 0 must be positive"),
        ({"features": "resnet"}, "features 'resnet' need frames: set the number of frames"),
    ],
)
def test_recipes_that_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        MixAndSeparate(**fields)


def test_more_sources_than_the_corpus_has_are_refused(corpus):
    with pytest.raises(ValueError, match="has 5 instruments, but the recipe mixes at least 6"):
        dataclasses.replace(MixAndSeparate(), fewest=6)(np.random.default_rng(0), corpus, SAMPLES)
