"""Conditions from labels and from videos: frames at the times of each chunk, players in the order of the stems."""

import dataclasses

import numpy as np
import pytest

from data_pipelines.prepared.corpus import Excerpt, open_corpus
from data_pipelines.schema import FEATURES, FRAMES, SLOTS
from qsep_jax.inference import cues
from qsep_jax.inference.chunks import default_plan
from qsep_jax.runs.bundle import Bundle
from tests.data_pipelines.pictures import number_of, write_video
from tests.pieces import (
    ON_LABELS,
    ON_VIDEO,
    PLAYERS,
    RATE,
    SAMPLES,
    STEMS,
    UNCONDITIONED,
    write_bundle,
    write_pieces,
)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    root = write_pieces(tmp_path_factory.mktemp("data"))
    return open_corpus(root, "pieces", RATE, "test", {stem: (stem,) for stem in STEMS})


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    systems = {"unconditioned": UNCONDITIONED, "labels": ON_LABELS, "video": ON_VIDEO}
    return {name: Bundle(write_bundle(system, folder / name)).load()[1] for name, system in systems.items()}


@pytest.fixture
def raw_cues(monkeypatch):
    """Replace the conditions by the cues that the model computes them from."""
    monkeypatch.setattr(cues, "_condition", lambda system, variables, raw: raw)


def test_labels(models, corpus, raw_cues):
    trio = cues.stem_excerpts(corpus, "trio")
    assert [source.stem for source in trio] == ["bassoon", "cello", "flute"]
    labels = cues.from_corpus(models["labels"], corpus, trio)["labels"]
    np.testing.assert_array_equal(labels, [[1.0, 1.0, 1.0, 0.0]])
    labels = cues.from_labels(models["labels"], ["violin", "cello"])["labels"]
    np.testing.assert_array_equal(labels, [[0.0, 1.0, 0.0, 1.0]])


def test_the_model_computes_its_condition(models):
    np.testing.assert_array_equal(cues.from_labels(models["labels"], ["flute"]), [[0.0, 0.0, 1.0, 0.0]])


def test_a_model_without_cues_gets_an_empty_condition(models, corpus):
    assert cues.from_corpus(models["unconditioned"], corpus, cues.stem_excerpts(corpus, "trio")) == ()


def test_players_of_a_corpus_at_the_times_of_a_chunk(models, corpus, raw_cues):
    """Players are in the order of the stems, not of the sources; each has the times of its own excerpt."""
    sources = [Excerpt("duet", "violin", 900, 400), Excerpt("trio", "bassoon", 100, 400)]
    condition_at = cues.from_corpus(models["video"], corpus, sources)
    for start in (-512, 0, 1_000):
        condition = condition_at(start)
        assert condition[FRAMES].shape == (1, 3, 2, 16, 16, 3)
        assert condition[FRAMES].dtype == np.uint8
        np.testing.assert_array_equal(condition[SLOTS], [[0, 3, -1]])
        for slot, source in enumerate(reversed(sources)):
            times = max(source.start + start, 0) / RATE + np.array([0.0, 0.05])
            expected = corpus.frames(source.track, source.stem, times, 16)
            np.testing.assert_array_equal(condition[FRAMES][0, slot], expected)
        assert not condition[FRAMES][0, 2].any()
    assert not np.array_equal(condition_at(0)[FRAMES], condition_at(1_000)[FRAMES])


def test_features_in_place_of_frames(models, corpus, raw_cues, monkeypatch):
    requests = []

    def features(track, stem, times, name):
        requests.append((track, stem, *times, name))
        return np.full((2, 5), STEMS.index(stem), np.float32)

    monkeypatch.setattr(corpus, "features", features)
    condition = cues.from_corpus(models["video"], corpus, cues.stem_excerpts(corpus, "duet"), "frozen")(800)
    assert condition.keys() == {FEATURES, SLOTS}
    np.testing.assert_array_equal(condition[FEATURES][0, :, :, 0], [[1, 1], [3, 3], [0, 0]])
    assert requests[0] == ("duet", "cello", pytest.approx(0.1), pytest.approx(0.15), "frozen")


def test_more_players_than_slots(models, corpus):
    narrow = dataclasses.replace(ON_VIDEO, visual=dataclasses.replace(PLAYERS, slots=2))
    model = dataclasses.replace(models["video"], system=narrow)
    with pytest.raises(
        ValueError, match=r"there are 3 players \(bassoon, cello, flute\), but the model takes at most 2"
    ):
        cues.from_corpus(model, corpus, cues.stem_excerpts(corpus, "trio"))


@pytest.mark.parametrize("name", ["unconditioned", "labels", "video"])
def test_a_stem_that_the_model_does_not_have(models, corpus, name):
    with pytest.raises(ValueError, match="unknown label 'tuba'; this model knows bassoon, cello, flute, violin"):
        cues.from_corpus(models[name], corpus, [Excerpt("trio", "tuba", 0, 100)])


def test_times_are_ascending():
    begins, offsets = [0.0, 0.0, 0.3, 0.9, 1.0], np.array([0.0, 0.5, 1.0])
    times = list(cues.ascending_times(iter(begins), offsets))
    assert times == sorted((begin + offset, index) for index, begin in enumerate(begins) for offset in offsets)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """A video of 40 frames, 20 per second."""
    return write_video(tmp_path_factory.mktemp("video") / "clip.mp4", 40, rate=20)


@pytest.mark.parametrize("spacing", [0.05, 0.35])
def test_chunks_get_the_frames_at_their_times(models, clip, raw_cues, spacing):
    """Also if a chunk ends after the next begins; after the end of the video the last frame is repeated."""
    system = dataclasses.replace(ON_VIDEO, visual=dataclasses.replace(PLAYERS, spacing=spacing))
    model = dataclasses.replace(models["video"], system=system)
    begin, plan = cues.from_video(model, clip, {}), default_plan(SAMPLES)
    for _ in range(2):  # a second mixture begins with the first frame
        condition_at = begin()
        for start in range(-plan.context - plan.fade, 30 * plan.hop, plan.hop):
            condition = condition_at(start)
            assert condition.keys() == {FRAMES}
            seconds = max(start, 0) / RATE + np.array([0.0, spacing])
            nearest = np.minimum(seconds * 20, 39)
            numbers = [number_of(image) for image in condition[FRAMES][0, 0]]
            np.testing.assert_allclose(numbers, nearest, atol=0.501)
            assert not condition[FRAMES][0, 1:].any()


def test_boxes_of_named_players_are_in_the_order_of_the_stems(models, clip, raw_cues):
    boxes = {"violin": (32, 0, 32, 48), "cello": (0, 0, 64, 10)}
    condition = cues.from_video(models["video"], clip, boxes)()(-512)
    np.testing.assert_array_equal(condition[SLOTS], [[1, 3, -1]])
    assert number_of(condition[FRAMES][0, 0, 1]) == 1
    assert condition[FRAMES][0, 0, 1].any()
    assert condition[FRAMES][0, 1].mean() < 10  # the right half of small numbers is black


def test_players_whose_instruments_are_not_known(models, clip, raw_cues):
    boxes = {"left": (0, 0, 32, 48), "right": (32, 0, 32, 48)}
    condition = cues.from_video(models["video"], clip, boxes)()(-512)
    assert condition.keys() == {FRAMES}
    assert condition[FRAMES][0, 0].any()


def test_invalid_boxes_and_videos_are_refused(models, clip, tmp_path):
    model = models["video"]
    with pytest.raises(
        ValueError, match=r"the box \[40, 0, 30, 10\] of 'flute' .* is not within the frame, which has 64 × 48 pixels"
    ):
        cues.from_video(model, clip, {"flute": (40, 0, 30, 10)})
    with pytest.raises(ValueError, match=r"there are 4 players .* but the model takes at most 3"):
        cues.from_video(model, clip, dict.fromkeys("abcd", (0, 0, 8, 8)))
    with pytest.raises(ValueError, match="no such file"):
        cues.from_video(model, tmp_path / "no.mp4", {})
