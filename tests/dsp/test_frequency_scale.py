"""Tests of the resampling between linear and logarithmic frequency axes."""

import jax.numpy as jnp
import numpy as np
import pytest

from qsep_jax.dsp.frequency_scale import to_linear, to_logarithmic


def test_reads_the_linear_axis_where_the_formula_says():
    """The input holds the position of each bin on −1…1, so the output holds the position that was read."""
    linear = jnp.linspace(-1.0, 1.0, 512)
    y = np.linspace(-1.0, 1.0, 256)
    np.testing.assert_allclose(to_logarithmic(linear, 256), (21 ** ((y + 1) / 2) - 11) / 10, atol=1e-5)
    back = np.linspace(-1.0, 1.0, 512)
    np.testing.assert_allclose(
        to_linear(jnp.linspace(-1.0, 1.0, 256), 512), 2 * np.log(10 * back + 11) / np.log(21) - 1, atol=1e-5
    )


def test_low_frequencies_get_more_bins():
    impulse = jnp.zeros(512).at[20].set(1.0)
    assert float(to_logarithmic(impulse, 256).sum()) > 3 * float(to_logarithmic(impulse[::-1], 256).sum())


def test_a_smooth_mask_survives_the_round_trip():
    mask = 0.5 + 0.5 * jnp.cos(jnp.linspace(0.0, 6.0, 512))[None].repeat(3, 0)
    np.testing.assert_allclose(to_linear(to_logarithmic(mask, 256), 512), mask, atol=2e-3)


@pytest.mark.torch
def test_agrees_with_pytorch_grid_sample():
    import torch

    image = np.random.default_rng(0).random((2, 1, 64, 5), np.float32)  # [B, 1, F, N]
    rows = np.linspace(-1, 1, 32)
    grid = np.zeros((2, 32, 5, 2), np.float32)
    grid[..., 0] = np.linspace(-1, 1, 5)[None, None]
    grid[..., 1] = ((21 ** ((rows + 1) / 2) - 11) / 10)[None, :, None]
    sampled = torch.nn.functional.grid_sample(torch.from_numpy(image), torch.from_numpy(grid), align_corners=True)
    resampled = to_logarithmic(jnp.asarray(image[:, 0]).swapaxes(1, 2), 32)
    np.testing.assert_allclose(np.swapaxes(resampled, 1, 2), sampled[:, 0], atol=1e-5)
