"""Tests of AdaIN and FiLM against numpy and PyTorch."""

import jax
import numpy as np
import pytest

from qsep_jax.nn.film import AdaIN, ChannelFiLM, FiLM

RNG = np.random.default_rng(0)
X = (RNG.standard_normal((2, 5, 7, 3)) * 4 + 2).astype(np.float32)
LATENT = RNG.standard_normal((2, 6)).astype(np.float32)


def test_adain_scale_and_bias_are_linear_in_the_latent():
    y, variables = jax.jit(AdaIN().init_with_output)(jax.random.key(0), X, LATENT)
    weights = variables["params"]
    assert jax.tree.map(np.shape, weights) == {"scale": {"kernel": (6, 3)}, "bias": {"kernel": (6, 3)}}
    scale, bias = (LATENT @ np.asarray(weights[name]["kernel"]) for name in ("scale", "bias"))
    for b in range(2):
        for c in range(3):
            values = X[b, :, :, c].astype(np.float64)
            normal = (values - values.mean()) / values.std()
            np.testing.assert_allclose(y[b, :, :, c], scale[b, c] * normal + bias[b, c], atol=1e-4)


def test_adain_with_a_zero_latent_gives_zeros():
    y, _ = jax.jit(AdaIN().init_with_output)(jax.random.key(0), X, np.zeros_like(LATENT))
    np.testing.assert_array_equal(y, 0.0)


def test_film_is_linear_in_the_latent_for_every_bin_and_channel():
    y, variables = jax.jit(FiLM().init_with_output)(jax.random.key(0), X, LATENT)
    weights = variables["params"]
    shape = {"kernel": (6, 7 * 3), "bias": (21,)}
    assert jax.tree.map(np.shape, weights) == {"scale": shape, "bias": shape}
    scale, bias = (
        (LATENT @ np.asarray(weights[name]["kernel"]) + np.asarray(weights[name]["bias"])).reshape(2, 1, 7, 3)
        for name in ("scale", "bias")
    )
    np.testing.assert_allclose(y, X * scale + bias, atol=1e-5)


@pytest.mark.parametrize("offset", [1.0, 0.0])
def test_channel_film_scales_by_gamma_and_an_offset(offset):
    """The code of Slizovskaia 2021 has (1 + γ) x + β, Eq. 9 of the paper γ x + β; both biases are 0.1."""
    layer = ChannelFiLM(offset)
    y, variables = jax.jit(layer.init_with_output)(jax.random.key(0), X, LATENT)
    weights = variables["params"]["linear"]
    scale, bias = np.split(LATENT @ np.asarray(weights["kernel"]) + np.asarray(weights["bias"]), 2, axis=-1)
    np.testing.assert_allclose(y, X * (offset + scale)[:, None, None] + bias[:, None, None], atol=1e-4)
    np.testing.assert_allclose(layer.apply(variables, X, 0 * LATENT), X * (offset + 0.1) + 0.1, rtol=1e-4, atol=1e-5)


@pytest.mark.torch
def test_equals_torch():
    import torch

    y, variables = jax.jit(AdaIN().init_with_output)(jax.random.key(0), X, LATENT)
    scale, bias = (
        torch.nn.functional.linear(
            torch.from_numpy(LATENT), torch.from_numpy(np.array(variables["params"][n]["kernel"].T))
        )
        for n in ("scale", "bias")
    )
    normal = torch.nn.functional.instance_norm(torch.from_numpy(X.transpose(0, 3, 1, 2).copy()))
    expected = normal * scale[:, :, None, None] + bias[:, :, None, None]
    np.testing.assert_allclose(y, expected.numpy().transpose(0, 2, 3, 1), atol=1e-5)
