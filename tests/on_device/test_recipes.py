"""Tests that examples drawn inside the step have the shapes and the statistics of those drawn on the host."""

from functools import partial
from typing import Any

import jax
import numpy as np
import pytest
from scipy.stats import ks_2samp

from data_pipelines.corpora.base import Stem
from data_pipelines.pipeline import Pipeline
from data_pipelines.prepared import store
from data_pipelines.prepared.corpus import Corpus, open_corpus
from data_pipelines.recipes.instrument_pairs import InstrumentPairs
from data_pipelines.recipes.mix_and_separate import MixAndSeparate
from data_pipelines.recipes.mixing import Augmentation, RandomSplit, Remix
from data_pipelines.recipes.unpaired import PairedExcerpt, SoloExcerpt, UnpairedMixture
from data_pipelines.schema import NOTES, SOURCES, variant_name
from data_pipelines.streams import Data, Recipe, Shape, Stream
from qsep_jax.on_device.batches import DEVICE_RECIPES, DrawnBatches
from qsep_jax.on_device.memory import DoesNotFit
from qsep_jax.training.sharding import make_mesh

RATE, SAMPLES, COUNT = 1000, 400, 600
STEMS = ("bass", "drums", "flute", "vocals")
LENGTHS = (3100, 250, 5000, 2047)
# Every option of every recipe occurs.
RECIPES: dict[str, tuple[Recipe, dict[str, tuple[str, ...]], int]] = {
    "lee": (RandomSplit(), {}, 2),
    "lee, augmented": (RandomSplit(augmentation=Augmentation(0.3, 0.2, (-6.0, 3.0)), gain=(1.0, 1.0)), {}, 2),
    "lee, mono pairs": (RandomSplit(presence=0.8, classes=2, targets=1, other_query=0.6), {}, 1),
    "sums": (RandomSplit(0.9), {"rhythm": ("bass", "drums"), "vocals": ("vocals",)}, 2),
    "slots": (MixAndSeparate(2, 3, slots=5), {}, 1),
    "slots as stored": (MixAndSeparate(1, 4, slots=4, scaling="none"), {}, 2),
    "songs": (PairedExcerpt(), {}, 2),
    "mixtures": (UnpairedMixture(), {}, 1),
    "solos": (SoloExcerpt((0.5, 1.0)), {"vocals": ("vocals",)}, 1),
    "solos, absent as silence": (SoloExcerpt((0.5, 1.0), "silent"), {"flute": ("flute",)}, 1),
    "remix": (Remix(songs=3, shift=0.2), {}, 2),
    "pairs": (InstrumentPairs(shifts=1, most_notes=8), {}, 1),
}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Stereo tracks, one shorter than an excerpt, one without flute; samples encode stem, track, shift and time."""
    folder = tmp_path_factory.mktemp("corpora")

    def track(number, length):
        stems = []
        for index, stem in enumerate(STEMS):
            if (number, stem) == (0, "flute"):
                continue
            time = np.arange(length)
            notes = np.array([[0.2 + index / 10, 1.1, 60 + index], [1.05, 2.0, 64], [1.9, 2.9, 67]], np.float32)
            for shift in (-2, -1, 0, 1, 2):
                value = 1000 + 3000 * index + 500 * number + 100 * shift + time // 16 + 40 * np.sin(time)
                audio = np.stack([value, -value / 2], 1).astype(np.int16)
                audio[(time // 700) % 2 == 1] = 0  # rests, longer than an excerpt
                shifted_notes = notes + np.array([0, 0, shift], np.float32)
                stems.append(Stem(variant_name(stem, shift), audio, stem if shift else "", shifted_notes))
        return store.segments(f"t{number}", stems, RATE)

    tracks = {"train": iter([track(number, length) for number, length in enumerate(LENGTHS)])}
    store.write(
        store.corpus_folder(folder, "own", RATE), "own", RATE, 2, tracks, fingerprint="0", options={"kind": "toy"}
    )
    other = [Stem(stem, np.full((900, 1), level, np.int16)) for stem, level in (("bass", 20000), ("drums", -9000))]
    tracks = {"train": iter([store.segments(f"o{number}", other, RATE) for number in range(2)])}
    store.write(
        store.corpus_folder(folder, "other", RATE), "other", RATE, 1, tracks, fingerprint="0", options={"kind": "toy"}
    )
    return folder


def batches(root, recipe, view, channels, *, batch_size=COUNT, devices=1, seed=0, repeats=1) -> DrawnBatches:
    data = Data(str(root), {"s": Stream("own", recipe, view, channels)})
    mesh = make_mesh(jax.devices()[:devices])
    return DrawnBatches(data, {"s": Shape(SAMPLES, RATE, repeats)}, batch_size, seed, mesh)


def draw_on_host(corpus: Corpus, recipe: Recipe, count: int) -> dict[str, np.ndarray]:
    examples = [recipe(np.random.default_rng(seed), corpus, SAMPLES) for seed in range(count)]
    return {name: np.stack([example[name] for example in examples]) for name in examples[0]}


def statistics(examples: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Statistics that depend on sources, levels and positions of an example; each `[B]`."""
    values = {}
    for name, leaf in examples.items():
        flat = leaf.reshape(len(leaf), -1).astype(float)
        values |= {f"{name} mean": flat.mean(1), f"{name} rms": np.sqrt(np.square(flat).mean(1))}
        values |= {f"{name} first": flat[:, 0], f"{name} last": flat[:, -1], f"{name} maximum": flat.max(1)}
        if leaf.ndim == 4:
            parts = np.sqrt(np.square(leaf.astype(float)).mean((2, 3)))
            values |= {f"{name} {index}": parts[:, index] for index in range(parts.shape[1])}
            values[f"{name} silent"] = (parts == 0).sum(1)
    first, *others = [examples[name].reshape(len(examples[name]), -1).astype(float) for name in sorted(examples)]
    for number, other in enumerate(others):
        values[f"{number} difference"] = first[:, 0] - other[:, 0]
    return values


def lowest_p_value(on_device: dict[str, np.ndarray], on_host: dict[str, np.ndarray]) -> tuple[float, str]:
    """Compare all statistics by Kolmogorov-Smirnov tests; return the lowest p-value and its statistic."""
    actual, expected = statistics(on_device), statistics(on_host)
    tests: dict[str, Any] = {key: ks_2samp(np.round(actual[key], 5), np.round(expected[key], 5)) for key in actual}
    return min((test.pvalue, key) for key, test in tests.items())


@pytest.mark.parametrize("name", RECIPES)
def test_statistics_equal_those_of_the_host(root, name):
    recipe, view, channels = RECIPES[name]
    drawn = batches(root, recipe, view, channels).batch(0)["s"]
    host = draw_on_host(open_corpus(root, "own", RATE, "train", view, channels), recipe, COUNT)
    assert {key: (leaf.shape, leaf.dtype) for key, leaf in drawn.items()} == {
        key: (leaf.shape, leaf.dtype) for key, leaf in host.items()
    }
    p_value, statistic = lowest_p_value(drawn, host)
    assert p_value > 1e-4, statistic


def test_another_recipe_has_other_statistics(root):
    """The test above would detect classes that are present more often."""
    one, other = (
        batches(root, RandomSplit(presence), {}, 2, seed=seed).batch(0)["s"] for seed, presence in enumerate((0.5, 0.7))
    )
    assert lowest_p_value(one, other)[0] < 1e-4


def test_every_recipe_runs_on_devices():
    assert set(DEVICE_RECIPES) == set(Recipe.__args__)


def test_sources_are_excerpts_of_the_corpus(root):
    """Sources without gain equal the stored audio, with zeros after the end of a track."""
    drawn = batches(root, PairedExcerpt(), {}, 2, batch_size=50).batch(3)["s"]
    corpus = open_corpus(root, "own", RATE, "train", {stem: (stem,) for stem in STEMS})
    stored = {
        (track, index): np.concatenate(
            [np.concatenate(list(corpus.segments(row))) for row in corpus.parts(track, stem)]
        )
        for index, stem in enumerate(STEMS)
        for track in corpus.tracks(stem)
    }
    for sources in np.rint(drawn[SOURCES] * 32768).astype(int):
        assert any(_is_of(track, sources, stored) for track in corpus.all_tracks)


def _is_of(track, sources, stored) -> bool:
    """Whether all sources come from one position of a track, and sources that it lacks are silent."""
    starts = set(range(max(LENGTHS)))
    for index, source in enumerate(sources):
        audio = stored.get((track, index))
        if audio is None:
            starts = starts if not source.any() else set()
            continue
        padded = np.pad(audio, ((0, max(0, SAMPLES - len(audio))), (0, 0)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, SAMPLES, 0)
        starts &= set(np.flatnonzero((windows == source.T[None]).all((1, 2))).tolist())
    return bool(starts)


def test_notes_are_those_of_the_excerpt(root):
    """Notes overlap the excerpt, are ordered, have times from its beginning, and are padded with zeros."""
    drawn = batches(root, InstrumentPairs(shifts=2, most_notes=3), {}, 1, batch_size=100).batch(0)["s"]
    notes, sources = drawn[NOTES].reshape(-1, 3, 3), drawn[SOURCES].reshape(-1, SAMPLES)
    for rows in notes:
        sounding = rows[rows[:, 2] > 0]
        assert (np.diff(sounding[:, 0]) >= 0).all()
        assert (sounding[:, 1] > sounding[:, 0]).all()
        assert sounding[:, :2].min(initial=0.0) >= 0
        assert sounding[:, :2].max(initial=0.0) <= SAMPLES / RATE
        assert not rows[len(sounding) :].any()
    assert len({tuple(row) for rows in notes for row in rows}) > 20
    assert np.isfinite(sources).all()


TWO_STEMS = {"bass": ("bass",), "drums": ("drums",)}
POOLED: list[tuple[Recipe, dict[str, tuple[str, ...]]]] = [
    (RandomSplit(0.9, targets=1, other_query=0.5), TWO_STEMS),
    (UnpairedMixture(), TWO_STEMS),
    (Remix(2, 0.1), TWO_STEMS),
    (SoloExcerpt((0.5, 1.0)), {"low": ("tuba", "bass")}),
    (SoloExcerpt((0.5, 1.0), "silent"), {"low": ("tuba", "bass")}),
]


@pytest.mark.parametrize(("recipe", "view"), POOLED)
def test_examples_come_from_one_of_several_corpora(root, recipe, view):
    """A corpus is drawn in proportion to its number of tracks; here one corpus is mono and has only two stems."""
    stream = Stream("own+other", recipe, view)
    shape = Shape(SAMPLES, RATE)
    data = Data(str(root), {"s": stream})
    drawn = DrawnBatches(data, {"s": shape}, COUNT, 0, make_mesh(jax.devices()[:1])).batch(0)["s"]
    host = Pipeline(data, {"s": shape}, "train", COUNT, 0).batch(0)["s"]
    p_value, statistic = lowest_p_value(drawn, host)
    assert p_value > 1e-4, statistic


def test_audio_shared_by_streams_is_stored_once(root):
    streams = {"s": Stream("own", PairedExcerpt(), {}, 2), "t": Stream("own", UnpairedMixture(), {}, 2)}
    shape, mesh = Shape(SAMPLES, RATE), make_mesh(jax.devices()[:1])
    shared = DrawnBatches(Data(str(root), streams), {"s": shape, "t": shape}, 2, 0, mesh)
    assert shared.corpora.rows.shape == batches(root, PairedExcerpt(), {}, 2, batch_size=2).corpora.rows.shape


@pytest.mark.parametrize("name", ["lee, mono pairs", "slots", "pairs", "remix"])
def test_batches_do_not_depend_on_the_number_of_devices(root, name):
    recipe, view, channels = RECIPES[name]
    one, four = (batches(root, recipe, view, channels, batch_size=8, devices=n).batch(7)["s"] for n in (1, 4))
    jax.tree.map(partial(np.testing.assert_allclose, atol=1e-6), four, one)


def test_each_device_holds_an_equal_part(root):
    drawn = batches(root, RandomSplit(), {}, 2, batch_size=8, devices=4)
    single = batches(root, RandomSplit(), {}, 2, batch_size=8)
    parts = [shard.data.nbytes for shard in drawn.corpora.rows.addressable_shards]
    assert len(parts) == 4
    assert max(parts) <= 0.3 * single.corpora.rows.nbytes
    assert drawn.bytes_per_device < 0.5 * single.bytes_per_device


def test_batches_differ_by_step_seed_and_repeat(root):
    drawn, other = (batches(root, PairedExcerpt(), {}, 1, batch_size=4, seed=s, repeats=3) for s in (0, 1))
    first, again, second, other_seed = drawn.batch(0), drawn.batch(0), drawn.batch(1), other.batch(0)
    assert first["s"]["mixture"].shape == (3, 4, SAMPLES, 1)
    np.testing.assert_array_equal(first["s"]["mixture"], again["s"]["mixture"])
    mixtures = np.concatenate([batch["s"]["mixture"].reshape(-1, SAMPLES) for batch in (first, second, other_seed)])
    audible = mixtures[(mixtures != 0).all(1)]
    assert len(audible) > 4
    assert len(np.unique(audible, axis=0)) == len(audible)
    repeated = batches(root, PairedExcerpt(), {}, 1, batch_size=4, devices=2, repeats=3).batch(0)
    np.testing.assert_allclose(repeated["s"]["mixture"], first["s"]["mixture"], atol=1e-6)


def test_a_silent_corpus_gives_nan(tmp_path):
    """The step skips and reports such batches; the recipe of the host raises an error."""
    silent = [Stem(name, np.zeros((3000, 1), np.int16)) for name in ("a", "b")]
    tracks = {"train": iter([store.segments("t", silent, RATE)])}
    store.write(store.corpus_folder(tmp_path, "own", RATE), "own", RATE, 1, tracks, fingerprint="0", options={})
    drawn = batches(tmp_path, RandomSplit(), {}, 1, batch_size=2).batch(0)["s"]
    assert not np.isfinite(drawn["mixture"]).any()


def test_a_corpus_too_large_for_the_devices(root, monkeypatch):
    monkeypatch.setattr("qsep_jax.on_device.batches.available_bytes", lambda device: 1 << 17)
    with pytest.raises(DoesNotFit, match=r"needs 0\.[1-9] MiB of each device, but may use 0\.1 MiB"):
        batches(root, RandomSplit(), {}, 2)


@pytest.mark.parametrize(
    ("recipe", "corpus", "message"),
    [
        (MixAndSeparate(2, 3, slots=3, frames=1, size=8), "own", "has video frames, which are only read on the host"),
        (PairedExcerpt("seconds"), "own", "has the recipe's draw = 'seconds', which only the host does"),
        (InstrumentPairs(), "own+own", r"consists of several corpora, whose pitch-shifted variants may differ"),
        (RandomSplit(classes=5), "own", r"requires 0 targets of 5 classes"),
        (SoloExcerpt(), "own", r"a solo excerpt needs a view of one stem"),
        (InstrumentPairs(most_notes=1), "own", r"has 2 notes in 0.4 s: increase most_notes of the recipe, which is 1"),
        (MixAndSeparate(5, 7), "own", r"has 4 instruments, but the recipe mixes at least 5"),
    ],
)
def test_corpora_that_cannot_be_held_on_devices(root, recipe, corpus, message):
    data = Data(str(root), {"s": Stream(corpus, recipe)})
    with pytest.raises(ValueError, match=message):
        DrawnBatches(data, {"s": Shape(SAMPLES, RATE)}, 2, 0, make_mesh(jax.devices()[:1]))


def test_a_query_from_another_track_needs_two_tracks(tmp_path):
    sound = [Stem(name, np.ones((3000, 1), np.int16)) for name in ("a", "b")]
    tracks = {"train": iter([store.segments("t", sound, RATE)])}
    store.write(store.corpus_folder(tmp_path, "own", RATE), "own", RATE, 1, tracks, fingerprint="0", options={})
    with pytest.raises(ValueError, match="has only one train track with 'a'"):
        batches(tmp_path, RandomSplit(targets=1, other_query=1.0), {}, 1)


def test_streams_must_be_those_of_the_system(root):
    data = Data(str(root), {"s": Stream("own")})
    with pytest.raises(ValueError, match=r"needs the streams \['other'\], the config has \['s'\]"):
        DrawnBatches(data, {"other": Shape(SAMPLES, RATE)}, 2, 0, make_mesh(jax.devices()[:1]))
