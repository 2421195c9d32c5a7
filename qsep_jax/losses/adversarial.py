"""Losses of Wasserstein critics (Gulrajani et al. 2017), as Stoller et al. 2018 use them."""

from typing import Literal

import jax.numpy as jnp
from jax import Array

# Added under the root of a squared norm, because the gradient of the root is infinite at zero.
TINY = 1e-12


def wasserstein(real: Array, fake: Array) -> Array:
    """Estimate the Wasserstein distance by `E[D(real)] − E[D(fake)]` over the last axis: `[..., B]` → `[...]`."""
    return real.mean(-1) - fake.mean(-1)


def gradient_norms(gradients: Array) -> Array:
    """Compute the Euclidean norm of each example's gradient: `[..., B, N, F]` → `[..., B]`."""
    return jnp.sqrt(jnp.square(gradients).sum((-2, -1)) + TINY)


def gradient_penalty(norms: Array, sides: Literal["one", "two"]) -> Array:
    """Compute `E[max(‖∇D‖ − 1, 0)²]`, or with two sides `E[(‖∇D‖ − 1)²]`: `[..., B]` → `[...]`."""
    excess = norms - 1.0
    return jnp.square(jnp.maximum(excess, 0.0) if sides == "one" else excess).mean(-1)
