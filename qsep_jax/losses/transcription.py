"""Losses of transcription."""

import jax.numpy as jnp
import optax
from jax import Array


def frame_cross_entropy(logits: Array, classes: Array) -> Array:
    """Compute the mean cross-entropy of logits `[..., K]` against classes `[...]` (Lin et al. 2021, Eq. 15)."""
    return optax.softmax_cross_entropy_with_integer_labels(logits.astype(jnp.float32), classes).mean()
