"""Normalisation, over the pixels of one example or over a batch; statistics in float32 whatever the compute type."""

from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jax import Array, lax


def instance_norm(x: Array, epsilon: float = 1e-5) -> Array:
    """`(x − μ) / √(σ² + ε)` per example and channel of `[B, H, W, C]`; no scale or bias of its own.

    A map of one pixel becomes zero for every input, so the innermost layer of a network that halves down to 1×1 must
    go without. Ulyanov et al. 2016; ε as in PyTorch.
    """
    wide = x.astype(jnp.float32)
    mean = wide.mean((1, 2), keepdims=True)
    variance = jnp.square(wide - mean).mean((1, 2), keepdims=True)
    return ((wide - mean) * lax.rsqrt(variance + epsilon)).astype(x.dtype)


def batch_norm(
    train: bool, dtype: jnp.dtype, name: str | None = None, *, decay: float = 0.9, spread: float = 0.0
) -> nn.BatchNorm:
    """Batch normalisation with PyTorch's ε of 1e-5; `decay` is one minus PyTorch's momentum.

    With `train` the statistics are the batch's, over all devices, and the running ones (collection `batch_stats`) move:
    the variance takes in that of the batch as it is, PyTorch's takes it times n / (n − 1), n being the batch's pixels.

    Args:
      spread: standard deviation of the scales around 1, at initialisation.
    """

    def around_one(key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
        return 1.0 + nn.initializers.normal(spread)(key, shape, dtype)

    init = around_one if spread else nn.initializers.ones
    norm = nn.BatchNorm(use_running_average=not train, momentum=decay, epsilon=1e-5, dtype=dtype, scale_init=init)
    return norm.copy(name=name)
