"""The slide's table of Cantisani 2021: songs with silences, scores, aggregation and form."""

import dataclasses

import numpy as np
import pytest

from benchmarks.papers.cantisani2021 import slide, songs
from qsep_jax.inference.model import Model
from qsep_jax.systems.cantisani2021 import SPLITS, Cantisani2021

RATE = 8_000


def noise(*shape):
    return np.random.default_rng(0).normal(0, 0.1, shape).astype(np.float32)


def test_each_stem_rests_in_a_quarter_of_its_own():
    stems = noise(4, 40_000, 2)
    found = songs.silenced(stems, np.random.default_rng(1))
    assert found.shape == stems.shape
    middles = [slice(10_000 * part + 2_500, 10_000 * part + 7_500) for part in range(4)]
    rests = [[not found[stem, middle].any() for middle in middles] for stem in range(4)]
    assert np.array_equal(np.sum(rests, axis=0), np.ones(4))
    assert np.array_equal(np.sum(rests, axis=1), np.ones(4))
    for stem in range(4):
        for part in np.flatnonzero(~np.array(rests[stem])):
            np.testing.assert_allclose(found[stem, middles[part]], stems[stem, middles[part]], atol=1e-5)


def test_a_stem_is_scored_where_it_sounds():
    truth = noise(2, 5 * RATE, 1)
    truth[0, : 3 * RATE] = 0.0
    scores = slide.score(truth, 0.9 * truth + 0.001, ("bass", "drums"), RATE)
    assert np.isnan(scores["bass"]["SDR"]).tolist() == [True, False, False]  # frames of 2 s, from 0, 1.5 and 3 s on
    assert np.isfinite(scores["drums"]["SDR"]).all()
    np.testing.assert_allclose(scores["drums"]["SDR"], 20.0, atol=0.1)
    assert scores["bass"]["PES"][0] == pytest.approx(10 * np.log10(2 * RATE * 1e-6), abs=0.1)
    assert np.isnan(scores["drums"]["PES"][0])


def test_aggregation_by_hand():
    frames = {"a": [1.0, np.nan, 3.0, 8.0], "b": [5.0], "c": [9.0]}
    scores = {song: {"bass": {"SDR": values}} for song, values in frames.items()}
    assert slide.aggregate(scores, "bass", "SDR", "median") == 5.0
    assert slide.aggregate(scores, "bass", "SDR", "mean") == pytest.approx(17 / 3)


def test_counts_and_form_of_the_table():
    system = Cantisani2021()
    assert [slide.trainable(system, name) for name in SPLITS] == [8_244_284, 5_586_984, 2_929_684, 403_456, 10_240]
    one = {"song": {stem: {"SDR": [1.0], "PES": [-60.0], "EPS": [-80.0]} for stem in slide.STEMS}}
    lines = slide.table({"B0": one, "B0 gated": one, "l3": one}, system).splitlines()
    assert lines[2] == "| B0 | - | 1.00 | 1.00 | 1.00 | 1.00 |"
    assert lines[3] == "| B0, gated | - | 1.00 | 1.00 | 1.00 | 1.00 |"
    assert lines[4] == "| P-L3:D | 2,929,684 | 1.00 | 1.00 | 1.00 | 1.00 |"
    assert "| P-L1:D | 6.1 | 8.1 | 7.4 | 6.3 |" in lines


def test_settings_of_a_strategy():
    system = Cantisani2021()
    found = slide.settings_of(system, "l5", slide.Slide(epochs=3, rate=1e-4))
    assert (found.trainable, found.epochs, found.optimizer.learning_rate) == (("tasnet/decoder",), 3, 1e-4)
    assert dataclasses.replace(found, epochs=10, optimizer=system.adaptation.optimizer) == dataclasses.replace(
        system.adaptation, trainable=("tasnet/decoder",)
    )


def test_shifts_are_undone_before_the_mean(monkeypatch):
    """Of a model that gives the mixture back as two stems."""
    lengths = []

    def twice(model, mixture, condition):
        lengths.append(len(mixture))
        return np.stack([mixture, -mixture])

    class Two:
        stems, sample_rate = ("a", "b"), RATE

    monkeypatch.setattr(slide, "separate", twice)
    mixture = noise(6_000, 2)
    found = slide.averaged(Model(Two(), {}), mixture, 5, np.random.default_rng(0))
    np.testing.assert_allclose(found, [mixture, -mixture], atol=1e-6)
    assert len(set(lengths)) > 1
    assert max(lengths) <= 6_000 + RATE // 2
