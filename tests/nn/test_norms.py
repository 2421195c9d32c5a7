"""Tests of instance norm against numpy and PyTorch, and of the initialisation of batch norm."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qsep_jax.nn import norms

instance_norm = jax.jit(norms.instance_norm)


def image(*shape: int) -> np.ndarray:
    scale = np.arange(1, shape[-1] + 1)
    return (np.random.default_rng(0).standard_normal(shape) * scale + 3 * scale).astype(np.float32)


def test_every_map_is_normalised_separately():
    x = image(2, 5, 7, 3)
    y = np.asarray(instance_norm(x))
    for b in range(2):
        for c in range(3):
            values = x[b, :, :, c].astype(np.float64)
            expected = (values - values.mean()) / np.sqrt(values.var() + 1e-5)
            np.testing.assert_allclose(y[b, :, :, c], expected, atol=1e-5)


def test_epsilon_is_added_under_the_root():
    x = 1e-3 * image(1, 4, 4, 1)
    variance = float(np.var(x.astype(np.float64)))
    np.testing.assert_allclose(np.var(instance_norm(x, 1e-6)), variance / (variance + 1e-6), rtol=1e-4)


def test_one_pixel_becomes_zero():
    np.testing.assert_array_equal(instance_norm(image(2, 1, 1, 4)), 0.0)


def test_statistics_of_bfloat16_are_float32():
    """A mean of 257, which bfloat16 would round to 256, must not swamp a deviation of 1."""
    x = jnp.asarray(np.where(np.arange(4096) % 2, 258.0, 256.0).reshape(1, 64, 64, 1), jnp.bfloat16)
    y = instance_norm(x)
    assert y.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.abs(y.astype(np.float32)), 1.0, atol=0.01)


@pytest.mark.torch
def test_equals_torch():
    import torch

    x = image(2, 5, 7, 3)
    expected = torch.nn.functional.instance_norm(torch.from_numpy(x.transpose(0, 3, 1, 2).copy()))
    np.testing.assert_allclose(instance_norm(x), expected.numpy().transpose(0, 2, 3, 1), atol=1e-5)


def test_initial_scales_may_spread_around_one():
    x = jnp.zeros((1, 2, 2, 1000))
    scale = norms.batch_norm(True, jnp.dtype("float32"), "norm", spread=0.02).init(jax.random.key(0), x)["params"][
        "scale"
    ]
    assert float(scale.mean()) == pytest.approx(1.0, abs=0.005)
    assert float(scale.std()) == pytest.approx(0.02, rel=0.2)
