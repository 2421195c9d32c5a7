"""Normalisation over the pixels of one example, with statistics in float32 whatever the compute type."""

import jax.numpy as jnp
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
