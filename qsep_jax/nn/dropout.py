"""Dropout that draws half as many random bits."""

import jax
import jax.numpy as jnp
from jax import Array, lax


def dropout(x: Array, key: Array, rate: float) -> Array:
    """Zero each element with probability `rate`, to 1 in 65,536, and scale the others up.

    Sixteen bits decide on an element where `jax.random.bernoulli` takes 32: on large maps the random numbers are most
    of the cost. The last axis must be even or the size of `x` must be.
    """
    kept = round((1 - rate) * 2**16)
    words = jax.random.bits(key, (-(-x.size // 2),), jnp.uint32)
    bits = lax.bitcast_convert_type(words, jnp.uint16).reshape(-1)[: x.size].reshape(x.shape)
    return jnp.where(bits < kept, x * (2**16 / kept), jnp.zeros((), x.dtype))
