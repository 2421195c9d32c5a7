"""The ideal ratio mask: bounds it must keep."""

import numpy as np
import pytest

from qsep_jax.metrics.oracles import ideal_ratio_mask
from qsep_jax.metrics.ratios import si_sdr

TIME = np.arange(8000) / 8000.0


@pytest.mark.parametrize("length", [8000, 7777])
def test_estimates_add_up_to_the_mixture(length):
    sources = np.random.default_rng(0).standard_normal((3, length)).astype(np.float32)
    estimates = ideal_ratio_mask(sources, 512, 128)
    assert estimates.shape == sources.shape
    np.testing.assert_allclose(np.sum(estimates, 0), sources.sum(0), atol=1e-4)


def test_better_than_the_mixture():
    sources = np.stack([np.sin(2 * np.pi * 440 * TIME), np.sign(np.sin(2 * np.pi * 97 * TIME))]).astype(np.float32)
    mixture = np.broadcast_to(sources.sum(0), sources.shape)
    assert (np.asarray(si_sdr(sources, ideal_ratio_mask(sources))) > np.asarray(si_sdr(sources, mixture)) + 10).all()


def test_sources_without_common_bins_come_back():
    sources = np.stack([np.sin(2 * np.pi * f * TIME) for f in (500, 2000)]).astype(np.float32)
    assert np.asarray(si_sdr(sources, ideal_ratio_mask(sources))).min() > 35


def test_a_silent_source_stays_silent():
    sources = np.stack([np.sin(2 * np.pi * 440 * TIME), 0 * TIME]).astype(np.float32)
    estimates = ideal_ratio_mask(sources, 512, 128)
    np.testing.assert_array_equal(estimates[1], 0.0)
    np.testing.assert_array_equal(ideal_ratio_mask(0 * sources, 512, 128), 0.0)
