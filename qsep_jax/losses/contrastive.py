"""Contrastive loss of queries: same source close together, different sources apart (Lin et al. 2021, Eq. 6)."""

from typing import Literal

import jax.numpy as jnp
from jax import Array


def query_loss(anchor: Array, same: Array, other: Array, margin: float, form: Literal["squared", "norm"]) -> Array:
    """Compute the mean of `d(q, q′) + max(margin − d(q, q_j), 0)`, a float32 scalar.

    Args:
      anchor: latents q of queries, `[..., Z]`.
      same: latents q′ of other queries of the same sources, `[..., Z]`.
      other: latents q_j of queries of different sources, `[..., Z]`.
      margin: distance beyond which different sources no longer contribute.
      form: form of the distance d: `squared`, the mean of the squared differences, as in the authors' code; or `norm`,
        the Euclidean norm of the difference, as in Eq. 6.
    """

    def distance(a: Array, b: Array) -> Array:
        squares = jnp.square(a - b)
        if form == "squared":
            return squares.mean(-1)
        return jnp.sqrt(jnp.maximum(squares.sum(-1), 1e-12))  # the gradient of the root is infinite at zero

    return (distance(anchor, same) + jnp.maximum(margin - distance(anchor, other), 0.0)).mean()
