"""Normalisation over the pixels of one example or over a batch; statistics are float32 for every compute type."""

from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jax import Array, lax


def instance_norm(x: Array, epsilon: float = 1e-5) -> Array:
    """Compute `(x − μ) / √(σ² + ε)` per example and channel of `[B, H, W, C]`, without scale and bias.

    A map of one pixel becomes zero for every input. The innermost layer of a network that halves its maps down to 1×1
    must therefore not be normalised. Ulyanov et al. 2016, with PyTorch's ε.
    """
    wide = x.astype(jnp.float32)
    mean = wide.mean((1, 2), keepdims=True)
    variance = jnp.square(wide - mean).mean((1, 2), keepdims=True)
    return ((wide - mean) * lax.rsqrt(variance + epsilon)).astype(x.dtype)


def batch_norm(
    train: bool, dtype: jnp.dtype, name: str | None = None, *, decay: float = 0.9, spread: float = 0.0
) -> nn.BatchNorm:
    """Create a batch normalisation layer with PyTorch's ε of 1e-5.

    With `train`, the layer normalises with the statistics of the global batch, over all devices, and updates the
    running statistics (collection `batch_stats`). The running variance is updated with the variance of the batch;
    PyTorch multiplies it by n / (n − 1), where n is the number of pixels in the batch.

    Args:
      train: whether to use and track the statistics of the batch instead of the running ones.
      dtype: compute type.
      name: name of the layer.
      decay: decay of the running statistics, 1 minus PyTorch's momentum.
      spread: standard deviation of the initial scales, whose mean is 1.
    """

    def around_one(key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
        return 1.0 + nn.initializers.normal(spread)(key, shape, dtype)

    init = around_one if spread else nn.initializers.ones
    norm = nn.BatchNorm(use_running_average=not train, momentum=decay, epsilon=1e-5, dtype=dtype, scale_init=init)
    return norm.copy(name=name)
