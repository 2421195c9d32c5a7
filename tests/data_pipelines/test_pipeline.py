"""Batches are the same for any number of processes and workers and after any restart."""

import itertools
import multiprocessing
import time

import numpy as np
import pytest

from data_pipelines.pipeline import Pipeline
from data_pipelines.recipes.mixing import RandomSplit
from data_pipelines.streams import Data, Shape, Stream

SAMPLES = 500


def pipeline(toy, split: str = "train", batch_size: int = 4, seed: int = 0, repeats: int = 1, **options) -> Pipeline:
    data = Data(str(toy.root), {"one": Stream("toy"), "two": Stream("toy", channels=2)})
    shapes = {"one": Shape(SAMPLES, 8000), "two": Shape(SAMPLES, 8000, repeats)}
    return Pipeline(data, shapes, split, batch_size, seed, **options)


def first(source: Pipeline, count: int, start: int = 0, workers: int = 0) -> list:
    """The first batches of a pipeline from number `start` on."""
    iterator = source.batches(start, workers)
    batches = list(itertools.islice(iterator, count))
    iterator.close()
    return batches


def assert_equal(batch, expected) -> None:
    assert set(batch) == set(expected)
    for name in batch:
        assert set(batch[name]) == set(expected[name]) == {"mixture", "target"}
        for key in batch[name]:
            np.testing.assert_array_equal(batch[name][key], expected[name][key])


def test_shapes(toy):
    (batch,) = first(pipeline(toy, repeats=3), 1)
    assert {name: audio["mixture"].shape for name, audio in batch.items()} == {
        "one": (4, SAMPLES, 1),
        "two": (3, 4, SAMPLES, 2),
    }
    assert all(audio.dtype == np.float32 for stream in batch.values() for audio in stream.values())


def test_examples_differ_from_one_another(toy):
    batches = first(pipeline(toy, repeats=2), 3)
    rows = [row.tobytes() for batch in batches for row in batch["one"]["mixture"]]
    rows += [row[..., :1].tobytes() for batch in batches for row in batch["two"]["mixture"].reshape(-1, SAMPLES, 2)]
    assert len(set(rows)) == len(rows) == 3 * 4 + 3 * 2 * 4


@pytest.mark.parametrize("processes", [2, 4])
def test_processes_share_a_batch(processes, toy):
    batches = first(pipeline(toy, repeats=2), 3)
    shares = [first(pipeline(toy, repeats=2, process=n, processes=processes), 3) for n in range(processes)]
    for number, batch in enumerate(batches):
        joined = {
            name: {
                key: np.concatenate([share[number][name][key] for share in shares], axis=audio.ndim - 3)
                for key, audio in stream.items()
            }
            for name, stream in batch.items()
        }
        assert_equal(joined, batch)


@pytest.mark.parametrize("start", [1, 3])
def test_a_restart_continues(start, toy):
    batches = first(pipeline(toy, repeats=2), 5)
    for batch, expected in zip(first(pipeline(toy, repeats=2), 5 - start, start), batches[start:], strict=True):
        assert_equal(batch, expected)


def test_any_batch_independently_of_the_others(toy):
    source = pipeline(toy, repeats=2)
    batches = first(source, 4)
    for number in (3, 0, 2):
        assert_equal(source.batch(number), batches[number])


def test_a_worker_computes_the_same_batches_and_ends(toy):
    """The start of the worker takes some seconds, because the process imports grain."""
    before = set(multiprocessing.active_children())
    iterator = pipeline(toy).batches(start=1, workers=1)
    batches = list(itertools.islice(iterator, 3))
    workers = set(multiprocessing.active_children()) - before
    assert len(workers) == 1
    for batch, expected in zip(batches, first(pipeline(toy), 3, start=1), strict=True):
        assert_equal(batch, expected)
    iterator.close()
    end = time.monotonic() + 20
    while any(worker.is_alive() for worker in workers) and time.monotonic() < end:
        time.sleep(0.05)
    assert not any(worker.is_alive() for worker in workers)


def test_seeds_splits_and_streams_differ(toy):
    def mixtures(**options):
        return first(pipeline(toy, **options), 1)[0]["one"]["mixture"].tobytes()

    assert mixtures() == mixtures()
    assert len({mixtures(), mixtures(seed=1), mixtures(split="test")}) == 3
    names = ("one", "two")
    data = Data(str(toy.root), {name: Stream("toy") for name in names})
    batch = Pipeline(data, {name: Shape(SAMPLES, 8000) for name in names}, "train", 4, 0).batch(0)
    assert not np.array_equal(batch["one"]["mixture"], batch["two"]["mixture"])


def test_splits_have_different_seeds(toy, monkeypatch):
    """With the same seed, the splits would draw the same random numbers for different tracks."""
    seeds = []
    monkeypatch.setattr("grain.MapDataset.seed", lambda self, seed: (seeds.append(seed), self)[1])
    for split in ("train", "test"):
        with pytest.raises(ValueError, match="seed"):
            pipeline(toy, split)
    assert len(seeds) == len(set(seeds)) == 2


def test_the_recipe_and_the_view_of_the_stream_are_used(toy):
    stream = Stream("toy", RandomSplit(classes=1, targets=1, presence=1.0), {"hat": ("hat",)})
    source = Pipeline(Data(str(toy.root), {"x": stream}), {"x": Shape(SAMPLES, 8000)}, "train", 2, 0)
    assert source.corpora["x"][0].stems == ("hat",)
    batch = source.batch(0)["x"]
    np.testing.assert_array_equal(batch["mixture"], batch["target"])


def test_a_batch_that_cannot_be_divided(toy):
    with pytest.raises(ValueError, match="a batch of 4 cannot be divided equally among 3 processes"):
        pipeline(toy, processes=3)


def test_streams_that_do_not_match(toy):
    with pytest.raises(ValueError, match=r"requires the streams \['x'\], but the config has \['y'\]"):
        Pipeline(Data(str(toy.root), {"y": Stream("toy")}), {"x": Shape(SAMPLES, 8000)}, "train", 4, 0)


def test_a_corpus_that_is_not_prepared(toy):
    with pytest.raises(ValueError, match=r"not prepared at 16000 Hz .*\n  qsep prepare toy"):
        Pipeline(Data(str(toy.root), {"x": Stream("toy")}), {"x": Shape(SAMPLES, 16_000)}, "train", 4, 0)
