"""Ideal ratio and binary masks: properties that they must have, and which source gets a bin."""

import numpy as np
import pytest

from qsep_jax.dsp.stft import istft, stft
from qsep_jax.metrics.oracles import ideal_binary_mask, ideal_ratio_mask
from qsep_jax.metrics.ratios import si_sdr

TIME = np.arange(8000) / 8000.0
MASKS = (ideal_ratio_mask, ideal_binary_mask)


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("length", [8000, 7777])
def test_estimates_add_up_to_the_mixture(length, mask):
    sources = np.random.default_rng(0).standard_normal((3, length)).astype(np.float32)
    estimates = mask(sources, 512, 128)
    assert estimates.shape == sources.shape
    np.testing.assert_allclose(np.sum(estimates, 0), sources.sum(0), atol=1e-4)


@pytest.mark.parametrize("mask", MASKS)
def test_better_than_the_mixture(mask):
    sources = np.stack([np.sin(2 * np.pi * 440 * TIME), np.sign(np.sin(2 * np.pi * 97 * TIME))]).astype(np.float32)
    mixture = np.broadcast_to(sources.sum(0), sources.shape)
    assert (np.asarray(si_sdr(sources, mask(sources))) > np.asarray(si_sdr(sources, mixture)) + 10).all()


@pytest.mark.parametrize("mask", MASKS)
def test_sources_without_common_bins_are_recovered(mask):
    sources = np.stack([np.sin(2 * np.pi * f * TIME) for f in (500, 2000)]).astype(np.float32)
    assert np.asarray(si_sdr(sources, mask(sources))).min() > 35


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("silent", [0, 1])
def test_a_silent_source_stays_silent(mask, silent):
    sources = np.stack([np.sin(2 * np.pi * 440 * TIME)] * 2).astype(np.float32)
    sources[silent] = 0
    estimates = mask(sources, 512, 128)
    np.testing.assert_array_equal(estimates[silent], 0.0)
    np.testing.assert_array_equal(mask(0 * sources, 512, 128), 0.0)


def test_a_ratio_mask_shares_a_bin_and_a_binary_one_gives_it_to_the_loudest():
    sine = np.sin(2 * np.pi * 440 * TIME)
    sources = np.stack([0.2 * sine, 0.5 * sine, 0.3 * sine]).astype(np.float32)
    np.testing.assert_allclose(ideal_ratio_mask(sources), sources, atol=1e-5)
    np.testing.assert_allclose(ideal_binary_mask(sources), np.stack([0 * sine, sine, 0 * sine]), atol=1e-5)


def test_the_first_of_equally_loud_sources_gets_the_bin():
    source = np.random.default_rng(0).standard_normal(2048).astype(np.float32)
    estimates = np.asarray(ideal_binary_mask(np.stack([0.1 * source, source, source, -source]), 512, 128))
    np.testing.assert_array_equal(estimates[[0, 2, 3]], 0.0)
    np.testing.assert_allclose(estimates[1], 1.1 * source, atol=1e-4)


def test_a_binary_mask_equals_its_definition():
    sources = np.random.default_rng(0).standard_normal((3, 4096)).astype(np.float32)
    spectrograms = np.asarray(stft(sources, 512, 128))
    for source, estimate in enumerate(ideal_binary_mask(sources, 512, 128)):
        louder = [np.abs(spectrograms[source]) > np.abs(spectrograms[other]) for other in range(3) if other != source]
        expected = istft(np.logical_and(*louder) * spectrograms.sum(0), 512, 128)
        np.testing.assert_allclose(estimate, expected, atol=1e-4)
