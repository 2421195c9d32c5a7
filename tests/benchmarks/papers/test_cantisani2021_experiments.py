"""Tests of the table of Cantisani 2021: songs with silences, scores, aggregation and form."""

import dataclasses

import numpy as np
import pytest

from benchmarks.papers.cantisani2021 import slide, songs
from qsep_jax.inference.model import Model
from qsep_jax.systems.cantisani2021 import SPLITS, Cantisani2021

RATE = 8_000


def noise(*shape):
    return np.random.default_rng(0).normal(0, 0.1, shape).astype(np.float32)


def test_each_stem_is_silent_in_another_quarter():
    stems = noise(4, 40_000, 2)
    silenced = songs.silence_parts(stems, np.random.default_rng(1))
    assert silenced.shape == stems.shape
    middles = [slice(10_000 * part + 2_500, 10_000 * part + 7_500) for part in range(4)]
    is_silent = [[not silenced[stem, middle].any() for middle in middles] for stem in range(4)]
    assert np.array_equal(np.sum(is_silent, axis=0), np.ones(4))
    assert np.array_equal(np.sum(is_silent, axis=1), np.ones(4))
    for stem in range(4):
        for part in np.flatnonzero(~np.array(is_silent[stem])):
            np.testing.assert_allclose(silenced[stem, middles[part]], stems[stem, middles[part]], atol=1e-5)


def test_a_stem_is_scored_where_it_sounds():
    references = noise(2, 5 * RATE, 1)
    references[0, : 3 * RATE] = 0.0
    scores = slide.score(references, 0.9 * references + 0.001, ("bass", "drums"), RATE)
    assert np.isnan(scores["bass"]["SDR"]).tolist() == [True, False, False]  # frames of 2 s that begin at 0, 1.5, 3 s
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
    counts = [slide.trained_parameters(system, name) for name in SPLITS]
    assert counts == [8_244_284, 5_586_984, 2_929_684, 403_456, 10_240]
    one = {"song": {stem: {"SDR": [1.0], "PES": [-60.0], "EPS": [-80.0]} for stem in slide.STEMS}}
    lines = slide.table({"B0": one, "B0 gated": one, "l3": one}, system).splitlines()
    assert lines[2] == "| | #TP | mean: other | bass | drums | vocals | median: other | bass | drums | vocals |"
    assert lines[4] == "| B0 | – |" + 8 * " 1.00 |"
    assert lines[5] == "| B0, gated | – |" + 8 * " 1.00 |"
    assert lines[6] == "| P-L3:D | 2,929,684 |" + 8 * " 1.00 |"
    assert lines[12] == "| B0 | – |" + 4 * " -60.00 |" + 4 * " -80.00 |"
    assert "| P-L1:D | 6.1 | 8.1 | 7.4 | 6.3 |" in lines


def test_settings_of_a_strategy():
    system = Cantisani2021()
    settings = slide.settings_of(system, "l5", slide.Slide(epochs=3, rate=1e-4))
    assert (settings.trainable, settings.epochs, settings.optimizer.learning_rate) == (("tasnet/decoder",), 3, 1e-4)
    assert dataclasses.replace(settings, epochs=10, optimizer=system.adaptation.optimizer) == dataclasses.replace(
        system.adaptation, trainable=("tasnet/decoder",)
    )


def test_shifts_are_undone_before_the_mean(monkeypatch):
    """A model that returns the mixture as two stems gives the same with shifts."""
    lengths = []

    def twice(model, mixture, condition):
        lengths.append(len(mixture))
        return np.stack([mixture, -mixture])

    class Two:
        stems, sample_rate = ("a", "b"), RATE

    monkeypatch.setattr(slide, "separate", twice)
    mixture = noise(6_000, 2)
    estimates = slide.separate_with_shifts(Model(Two(), {}), mixture, 5, np.random.default_rng(0))
    np.testing.assert_allclose(estimates, [mixture, -mixture], atol=1e-6)
    assert len(set(lengths)) > 1
    assert max(lengths) <= 6_000 + RATE // 2
