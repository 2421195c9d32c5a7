"""Tests of the logarithmic scales of magnitudes."""

import jax.numpy as jnp
import numpy as np
import pytest

from qsep_jax.dsp.level_scale import db_normalised, log_normalised, to_range


@pytest.mark.parametrize("scale", [db_normalised, log_normalised])
def test_every_example_fills_the_range_in_the_order_of_its_magnitudes(scale):
    magnitude = jnp.asarray(np.random.default_rng(0).uniform(1e-4, 50.0, (3, 4, 5)), jnp.float32)
    scaled = np.asarray(scale(magnitude))
    np.testing.assert_allclose(scaled.min((1, 2)), -1.0, atol=1e-6)
    np.testing.assert_allclose(scaled.max((1, 2)), 1.0, atol=1e-6)
    for before, after in zip(np.asarray(magnitude), scaled, strict=True):
        np.testing.assert_array_equal(np.argsort(before, axis=None), np.argsort(after, axis=None))


def test_log_normalised_has_equal_steps_per_decade():
    decades = jnp.asarray([[[1e-3, 1e-2, 1e-1, 1.0]]])
    np.testing.assert_allclose(log_normalised(decades)[0, 0], [-1, -1 / 3, 1 / 3, 1], atol=1e-5)
    # `log1p` is linear below 2^-16, so the scale compresses soft magnitudes.
    scaled = np.asarray(db_normalised(jnp.asarray([[[0.0, 2.0**-24, 1.0]]])))[0, 0]
    assert scaled[1] == pytest.approx(-1.0, abs=1e-3)


def test_a_constant_example_is_zero():
    np.testing.assert_array_equal(to_range(jnp.full((2, 3, 4), 7.0)), jnp.zeros((2, 3, 4)))
