"""Tests of target masks and of their losses."""

import jax.numpy as jnp
import numpy as np

from qsep_jax.losses.masks import binary_masks, ratio_masks, weighted_binary_cross_entropy


def test_ratio_masks_sum_to_one():
    sources = jnp.asarray(np.random.default_rng(0).random((2, 4, 3, 5)), jnp.float32).at[:, 1].set(0.0)
    masks = ratio_masks(sources)
    np.testing.assert_allclose(masks.sum(1), 1.0, rtol=1e-6)
    np.testing.assert_allclose(masks[:, 2], sources[:, 2] / sources.sum(1), rtol=1e-6)
    assert not masks[:, 1].any()
    np.testing.assert_array_equal(ratio_masks(jnp.zeros((1, 2, 1, 1))), jnp.zeros((1, 2, 1, 1)))


def test_binary_masks_are_one_where_a_source_is_at_least_the_rest():
    sources = jnp.asarray([3.0, 1.0, 0.0, 2.0]).reshape(1, 4, 1, 1)
    np.testing.assert_array_equal(binary_masks(sources, jnp.full((1, 1, 1), 4.0))[0, :, 0, 0], [1, 0, 0, 1])
    # An absent source is 0 in silent bins, too.
    np.testing.assert_array_equal(binary_masks(sources, jnp.zeros((1, 1, 1)))[0, :, 0, 0], [1, 1, 0, 1])


def test_weighted_binary_cross_entropy_by_hand():
    logits, masks = jnp.asarray([0.0, 2.0, -1.0]), jnp.asarray([1.0, 0.0, 1.0])
    probability = 1 / (1 + np.exp(-np.asarray(logits)))
    expected = -(5 * np.log(probability[0]) + np.log(1 - probability[1]) + 5 * np.log(probability[2])) / 3
    np.testing.assert_allclose(weighted_binary_cross_entropy(logits, masks, 5.0), expected, rtol=1e-5)
    assert np.isfinite(weighted_binary_cross_entropy(jnp.asarray([1e4, -1e4]), jnp.asarray([0.0, 1.0]), 5.0))
