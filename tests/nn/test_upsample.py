"""Tests of bilinear upsampling with aligned corners."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from qsep_jax.nn.upsample import double


def test_corners_keep_their_values_and_a_ramp_stays_a_ramp():
    ramp = jnp.linspace(0.0, 1.0, 5)[None, :, None, None] + jnp.linspace(0.0, 2.0, 3)[None, None, :, None]
    expected = np.linspace(0.0, 1.0, 10)[:, None] + np.linspace(0.0, 2.0, 6)[None]
    np.testing.assert_allclose(double(ramp)[0, ..., 0], expected, atol=1e-6)


@pytest.mark.parametrize("size", [(1, 1), (1, 4), (2, 3), (7, 5)])
def test_is_linear_interpolation_along_each_axis(size):
    image = np.random.default_rng(0).normal(size=(2, *size, 3)).astype(np.float32)
    expected = image
    for axis, count in zip((1, 2), size, strict=True):
        position = np.arange(2 * count) * (count - 1) / (2 * count - 1)
        expected = np.apply_along_axis(
            lambda line, at=position, n=count: np.interp(at, np.arange(n), line), axis, expected
        )
    np.testing.assert_allclose(double(jnp.asarray(image)), expected, atol=1e-5)


def test_the_gradient_is_the_transpose():
    """`⟨double(x), y⟩ = ⟨x, gradient(y)⟩`, in first and second derivative."""
    rng = np.random.default_rng(2)
    x, y = (jnp.asarray(rng.normal(size=size), jnp.float32) for size in ((2, 3, 5, 2), (2, 6, 10, 2)))
    gradient = jax.grad(lambda x: jnp.vdot(double(x), y))(x)
    np.testing.assert_allclose(jnp.vdot(gradient, x), jnp.vdot(double(x), y), rtol=1e-5)
    check_grads(lambda x: double(x) ** 2, (x,), order=2, modes=["rev"], rtol=2e-2)


@pytest.mark.torch
def test_agrees_with_pytorch():
    import torch

    image = np.random.default_rng(1).normal(size=(2, 6, 3, 4)).astype(np.float32)
    tensor = torch.from_numpy(image).permute(0, 3, 1, 2)
    doubled = torch.nn.functional.interpolate(tensor, scale_factor=2, mode="bilinear", align_corners=True)
    np.testing.assert_allclose(double(jnp.asarray(image)), doubled.permute(0, 2, 3, 1), atol=1e-5)
