"""Reconstruction losses between an estimate and its target."""

import jax.numpy as jnp
from jax import Array


def l1(estimate: Array, target: Array) -> Array:
    """Compute the mean absolute difference over all elements, a float32 scalar (Lee et al. 2019, Eq. 3, as a mean)."""
    return jnp.abs(estimate.astype(jnp.float32) - target.astype(jnp.float32)).mean()
