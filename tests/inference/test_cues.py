"""What a model is told of a mixture: labels, and players at the times of each chunk, in the order of its stems."""

import dataclasses

import numpy as np
import pytest

from data_pipelines.prepared.corpus import Excerpt, open_corpus
from data_pipelines.schema import FEATURES, FRAMES, SLOTS
from qsep_jax.inference import cues
from qsep_jax.inference.chunks import default_plan
from qsep_jax.runs.bundle import Bundle
from tests.data_pipelines.pictures import number_of, write_video
from tests.pieces import LABELLED, NONE, RATE, SAMPLES, SEEING, STEMS, write_bundle, write_pieces

SHOWN = SEEING.seen


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    root = write_pieces(tmp_path_factory.mktemp("data"))
    return open_corpus(root, "pieces", RATE, "test", {stem: (stem,) for stem in STEMS})


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    systems = {"none": NONE, "labelled": LABELLED, "seeing": SEEING}
    return {name: Bundle(write_bundle(system, folder / name)).load()[1] for name, system in systems.items()}


@pytest.fixture
def told(monkeypatch):
    """The cues themselves in place of what a model makes of them."""
    monkeypatch.setattr(cues, "_condition", lambda system, variables, told: told)


def test_labels(models, corpus, told):
    trio = cues.playing(corpus, "trio")
    assert [source.stem for source in trio] == ["bassoon", "cello", "flute"]
    found = cues.from_corpus(models["labelled"], corpus, trio)
    np.testing.assert_array_equal(found["labels"], [[1.0, 1.0, 1.0, 0.0]])
    found = cues.from_labels(models["labelled"], ["violin", "cello"])
    np.testing.assert_array_equal(found["labels"], [[0.0, 1.0, 0.0, 1.0]])


def test_the_model_makes_its_condition(models):
    np.testing.assert_array_equal(cues.from_labels(models["labelled"], ["flute"]), [[0.0, 0.0, 1.0, 0.0]])


def test_nothing_is_told_where_nothing_is_taken(models, corpus):
    assert cues.from_corpus(models["none"], corpus, cues.playing(corpus, "trio")) == ()


def test_players_of_a_corpus_at_the_times_of_a_chunk(models, corpus, told):
    """In the order of the stems, whatever that of the sources; each at its own place in its own track."""
    sources = [Excerpt("duet", "violin", 900, 400), Excerpt("trio", "bassoon", 100, 400)]
    at = cues.from_corpus(models["seeing"], corpus, sources)
    for start in (-512, 0, 1_000):
        found = at(start)
        assert found[FRAMES].shape == (1, 3, 2, 16, 16, 3)
        assert found[FRAMES].dtype == np.uint8
        np.testing.assert_array_equal(found[SLOTS], [[0, 3, -1]])
        for slot, source in enumerate(reversed(sources)):
            times = max(source.start + start, 0) / RATE + np.array([0.0, 0.05])
            expected = corpus.frames(source.track, source.stem, times, 16)
            np.testing.assert_array_equal(found[FRAMES][0, slot], expected)
        assert not found[FRAMES][0, 2].any()
    assert not np.array_equal(at(0)[FRAMES], at(1_000)[FRAMES])


def test_features_in_place_of_frames(models, corpus, told, monkeypatch):
    asked = []

    def features(track, stem, times, name):
        asked.append((track, stem, *times, name))
        return np.full((2, 5), STEMS.index(stem), np.float32)

    monkeypatch.setattr(corpus, "features", features)
    found = cues.from_corpus(models["seeing"], corpus, cues.playing(corpus, "duet"), "frozen")(800)
    assert found.keys() == {FEATURES, SLOTS}
    np.testing.assert_array_equal(found[FEATURES][0, :, :, 0], [[1, 1], [3, 3], [0, 0]])
    assert asked[0] == ("duet", "cello", pytest.approx(0.1), pytest.approx(0.15), "frozen")


def test_more_players_than_slots(models, corpus):
    narrow = dataclasses.replace(SEEING, visual=dataclasses.replace(SHOWN, slots=2))
    model = dataclasses.replace(models["seeing"], system=narrow)
    with pytest.raises(
        ValueError, match=r"there are 3 players \(bassoon, cello, flute\), and the model sees 2 at most"
    ):
        cues.from_corpus(model, corpus, cues.playing(corpus, "trio"))


@pytest.mark.parametrize("name", ["none", "labelled", "seeing"])
def test_a_stem_that_the_model_does_not_know(models, corpus, name):
    with pytest.raises(ValueError, match="unknown label 'tuba'; this model knows bassoon, cello, flute, violin"):
        cues.from_corpus(models[name], corpus, [Excerpt("trio", "tuba", 0, 100)])


def test_all_times_come_in_order():
    begins, offsets = [0.0, 0.0, 0.3, 0.9, 1.0], np.array([0.0, 0.5, 1.0])
    found = list(cues.in_order(iter(begins), offsets))
    assert found == sorted((begin + offset, number) for number, begin in enumerate(begins) for offset in offsets)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """Forty pictures, twenty a second."""
    pytest.importorskip("av", reason="needs PyAV: pip install 'qsep-jax[video]'")
    return write_video(tmp_path_factory.mktemp("video") / "clip.mp4", 40, rate=20)


@pytest.mark.parametrize("spacing", [0.05, 0.35])
def test_a_video_is_shown_at_the_times_of_each_chunk(models, clip, told, spacing):
    """Also where a chunk's pictures come after the first of the next; beyond its end the last one stays."""
    system = dataclasses.replace(SEEING, visual=dataclasses.replace(SHOWN, spacing=spacing))
    model = dataclasses.replace(models["seeing"], system=system)
    begin, plan = cues.from_video(model, clip, {}), default_plan(SAMPLES)
    for _ in range(2):  # a second mixture begins at the beginning
        at = begin()
        for start in range(-plan.context - plan.fade, 30 * plan.hop, plan.hop):
            found = at(start)
            assert found.keys() == {FRAMES}
            seconds = max(start, 0) / RATE + np.array([0.0, spacing])
            nearest = np.minimum(seconds * 20, 39)
            numbers = [number_of(image) for image in found[FRAMES][0, 0]]
            np.testing.assert_allclose(numbers, nearest, atol=0.501)
            assert not found[FRAMES][0, 1:].any()


def test_boxes_of_named_players_are_in_the_order_of_the_stems(models, clip, told):
    boxes = {"violin": (32, 0, 32, 48), "cello": (0, 0, 64, 10)}
    found = cues.from_video(models["seeing"], clip, boxes)()(-512)
    np.testing.assert_array_equal(found[SLOTS], [[1, 3, -1]])
    assert number_of(found[FRAMES][0, 0, 1]) == 1
    assert found[FRAMES][0, 0, 1].any()
    assert found[FRAMES][0, 1].mean() < 10  # the right half of small numbers is black


def test_players_whose_instruments_are_not_known(models, clip, told):
    boxes = {"left": (0, 0, 32, 48), "right": (32, 0, 32, 48)}
    found = cues.from_video(models["seeing"], clip, boxes)()(-512)
    assert found.keys() == {FRAMES}
    assert found[FRAMES][0, 0].any()


def test_mistakes_with_videos(models, clip, tmp_path):
    model = models["seeing"]
    with pytest.raises(ValueError, match=r"the box \[40, 0, 30, 10\] of 'flute' .* not within the picture, 64 × 48"):
        cues.from_video(model, clip, {"flute": (40, 0, 30, 10)})
    with pytest.raises(ValueError, match=r"there are 4 players .* and the model sees 3 at most"):
        cues.from_video(model, clip, dict.fromkeys("abcd", (0, 0, 8, 8)))
    with pytest.raises(ValueError, match="no such file"):
        cues.from_video(model, tmp_path / "no.mp4", {})
