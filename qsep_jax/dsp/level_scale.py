"""Logarithmic scaling of the magnitudes that enter a network, normalised to the same range in every example.

Slizovskaia et al. 2021, section 4.4, with the constants of the published code.
"""

import jax.numpy as jnp
from jax import Array

# Added to every magnitude of a mixture and of a source that is not silent, so that no magnitude is zero.
FLOOR = 1e-4
_GAIN = 2.0**16


def db_normalised(magnitude: Array) -> Array:
    """Apply `log(1 + 2¹⁶ |X|) / log(1 + 2¹⁶)`, then `to_range`: `[B, N, F]` → `[B, N, F]`."""
    return to_range(jnp.log1p(_GAIN * magnitude) / jnp.log1p(_GAIN))


def log_normalised(magnitude: Array) -> Array:
    """Apply `log |X|`, then `to_range`: `[B, N, F]` → `[B, N, F]`. All magnitudes must be positive."""
    return to_range(jnp.log(magnitude))


def to_range(x: Array) -> Array:
    """Scale each example of `[B, N, F]` linearly from its minimum…maximum to −1…1; a constant example becomes zeros."""
    low, high = x.min((1, 2), keepdims=True), x.max((1, 2), keepdims=True)
    span = high - low
    return jnp.where(span > 0, 2 * (x - low) / jnp.where(span > 0, span, 1) - 1, 0)
