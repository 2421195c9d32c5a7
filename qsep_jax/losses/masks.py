"""Target masks and losses of masks (Slizovskaia et al. 2021, Eq. 2, 3, 6 and 7)."""

import jax
import jax.numpy as jnp
from jax import Array


def ratio_masks(sources: Array) -> Array:
    """Compute `|S_i| / Σ_j |S_j|` of magnitudes `[B, K, N, F]`; 0 where all sources are 0.

    Departs from the paper: Eq. 2 divides by the mixture. The published code divides by this sum, which bounds the mask.
    """
    total = sources.sum(1, keepdims=True)
    return sources / jnp.where(total > 0, total, 1)


def binary_masks(sources: Array, mixture: Array) -> Array:
    """Compute masks that are 1 where `|S_i| ≥ |Y| − |S_i|` and `|S_i| > 0`, otherwise 0.

    Shapes: magnitudes of sources `[B, K, N, F]`, of the mixture `[B, N, F]`, masks `[B, K, N, F]`.
    """
    rest = mixture[:, None] - sources
    return ((sources >= rest) & (sources > 0)).astype(sources.dtype)


def weighted_binary_cross_entropy(logits: Array, masks: Array, positive: float) -> Array:
    """Compute the mean of `−(λ m log σ(x) + (1 − m) log(1 − σ(x)))` with λ = `positive` (Eq. 6, there a sum)."""
    log_one, log_zero = jax.nn.log_sigmoid(logits), jax.nn.log_sigmoid(-logits)
    return -(positive * masks * log_one + (1 - masks) * log_zero).mean()
