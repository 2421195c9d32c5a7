"""Losses of masks and the masks that they want (Slizovskaia et al. 2021, Eq. 2, 3, 6 and 7)."""

import jax
import jax.numpy as jnp
from jax import Array


def ratio_masks(sources: Array) -> Array:
    """`|S_i| / Σ_j |S_j|` of magnitudes `[B, K, N, F]`; 0 where no source has any.

    Departs from the paper: its Eq. 2 divides by the mixture; the published code by this sum, which bounds the mask.
    """
    total = sources.sum(1, keepdims=True)
    return sources / jnp.where(total > 0, total, 1)


def binary_masks(sources: Array, mixture: Array) -> Array:
    """1 where `|S_i| ≥ |Y| − |S_i|` and the source is there, else 0: `[B, K, N, F]` of magnitudes, `[B, N, F]`."""
    rest = mixture[:, None] - sources
    return ((sources >= rest) & (sources > 0)).astype(sources.dtype)


def weighted_binary_cross_entropy(logits: Array, masks: Array, positive: float) -> Array:
    """Mean of `−(λ m log σ(x) + (1 − m) log(1 − σ(x)))`, λ = `positive` (Eq. 6, there a sum)."""
    yes, no = jax.nn.log_sigmoid(logits), jax.nn.log_sigmoid(-logits)
    return -(positive * masks * yes + (1 - masks) * no).mean()
