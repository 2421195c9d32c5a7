"""Queries of one source together, of different sources apart (Lin et al. 2021, Eq. 6)."""

from typing import Literal

import jax.numpy as jnp
from jax import Array


def query_loss(anchor: Array, same: Array, other: Array, margin: float, form: Literal["squared", "norm"]) -> Array:
    """`d(q, q′) + max(margin − d(q, q_j), 0)` of vectors `[..., Z]`, averaged: a float32 scalar.

    Args:
      form: of the distance d: `squared`, the mean of the squared differences, as in the authors' code; `norm`, the
        Euclidean length of the difference, as in Eq. 6.
    """

    def distance(a: Array, b: Array) -> Array:
        squares = jnp.square(a - b)
        if form == "squared":
            return squares.mean(-1)
        return jnp.sqrt(jnp.maximum(squares.sum(-1), 1e-12))  # the root has no gradient at zero

    return (distance(anchor, same) + jnp.maximum(margin - distance(anchor, other), 0.0)).mean()
