"""Tests of dropout."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qsep_jax.nn.dropout import dropout


@pytest.mark.parametrize("rate", [0.2, 0.5])
def test_drops_at_the_rate_and_keeps_the_mean(rate):
    x = jnp.full((40, 50, 51), 3.0)
    y = np.asarray(dropout(x, jax.random.key(0), rate))
    assert (y == 0).mean() == pytest.approx(rate, abs=0.005)
    np.testing.assert_allclose(y[y != 0], 3.0 / (1 - rate), rtol=1e-4)
    # Neighbouring elements share a random word but are dropped independently.
    zero = (y == 0).reshape(-1, 2)
    assert (zero[:, 0] & zero[:, 1]).mean() == pytest.approx(rate**2, abs=0.005)


def test_depends_on_the_key_and_accepts_odd_sizes():
    x = jnp.ones((3, 5, 7))
    first, again, other = (np.asarray(dropout(x, jax.random.key(seed), 0.5)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
