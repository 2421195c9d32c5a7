"""Tests of the L1 distance."""

import jax.numpy as jnp
import numpy as np

from qsep_jax.losses.reconstruction import l1


def test_l1_is_the_mean_over_all_elements():
    estimate, target = np.array([[1.0, -2.0, 0.0]], np.float32), np.array([[0.0, 2.0, 0.5]], np.float32)
    assert l1(estimate, target) == (1.0 + 4.0 + 0.5) / 3
    assert l1(target, estimate) == l1(estimate, target)
    assert l1(target, target) == 0.0


def test_l1_sums_bfloat16_in_float32():
    estimate = jnp.full((300, 300), 1.0, jnp.bfloat16)
    loss = l1(estimate, jnp.zeros_like(estimate).at[0].set(0.5))
    assert loss.dtype == jnp.float32
    np.testing.assert_allclose(loss, 1 - 0.5 / 300, rtol=1e-6)
