"""Tests that convolution blocks use batch statistics in training and running statistics otherwise."""

import jax
import numpy as np
import pytest

from qsep_jax.nn.blocks import ConvBlock, pool

X = (np.random.default_rng(0).standard_normal((3, 4, 8, 2)) * 3 + 1).astype(np.float32)


def test_training_normalises_by_the_batch_and_updates_the_running_statistics():
    block = ConvBlock(5)
    variables = jax.jit(block.init, static_argnums=2)(jax.random.key(0), X, True)
    y, changed = block.apply(variables, X, True, mutable=["batch_stats"])
    assert y.shape == (3, 4, 8, 5)
    assert y.min() == 0
    plain = ConvBlock(5, plain=True).apply({"params": {"conv_0": variables["params"]["conv_0"]}}, X, True)
    mean, variance = plain.mean((0, 1, 2)), plain.var((0, 1, 2))
    expected = np.maximum((plain - mean[None, None, None]) / np.sqrt(variance + 1e-5)[None, None, None], 0)
    np.testing.assert_allclose(y, expected, atol=1e-4)
    updated = changed["batch_stats"]["norm_0"]
    before = variables["batch_stats"]["norm_0"]
    np.testing.assert_allclose(updated["mean"], 0.99 * before["mean"] + 0.01 * mean, atol=1e-5)
    np.testing.assert_allclose(updated["var"], 0.99 * before["var"] + 0.01 * variance, rtol=1e-4)


def test_examples_are_independent_with_running_statistics():
    block = ConvBlock(5, layers=2)
    variables = jax.jit(block.init, static_argnums=2)(jax.random.key(0), X, True)
    together = block.apply(variables, X, False)
    np.testing.assert_allclose(together[1:2], block.apply(variables, X[1:2], False), atol=1e-6)


@pytest.mark.parametrize(("kind", "value"), [("average", 4.5), ("max", 9.0)])
def test_pooling(kind, value):
    image = np.array([[[0.0, 9.0], [3.0, 6.0]]])[..., None]  # [1, 2, 2, 1]
    assert pool(image, (2, 2), kind).ravel().tolist() == [value]
    assert pool(image, (1, 2), kind).shape == (1, 2, 1, 1)
