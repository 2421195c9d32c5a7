"""Bilinear upsampling whose corner pixels stay where they are, which is not what `jax.image.resize` does."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax


def double(x: Array) -> Array:
    """`[B, H, W, C]` → `[B, 2H, 2W, C]`, bilinear with aligned corners, as PyTorch's `align_corners=True`.

    Output `i` of an axis of `n` pixels lies at `i (n − 1) / (2n − 1)`. So even outputs mix a pixel with the one before
    it, odd ones with the one after it, by weights that change along the axis: shifted copies instead of a gather.
    """
    return _double(_double(x, 1), 2)


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def _double(x: Array, axis: int) -> Array:
    from_before, from_after = _shares(x.shape[axis], axis, x)
    before, after = _moved(x, axis, 1), _moved(x, axis, -1)
    even = x + from_before * (before - x)
    odd = x + from_after * (after - x)
    doubled = (*x.shape[:axis], 2 * x.shape[axis], *x.shape[axis + 1 :])
    return jnp.stack([even, odd], axis + 1).reshape(doubled)


def _double_forward(x: Array, axis: int) -> tuple[Array, None]:
    return _double(x, axis), None


def _double_backward(axis: int, _: None, cotangent: Array) -> tuple[Array]:
    """The transpose in the same form, twice as fast as what autodiff makes of it."""
    count = cotangent.shape[axis] // 2
    pairs = cotangent.reshape(*cotangent.shape[:axis], count, 2, *cotangent.shape[axis + 1 :])
    even, odd = (lax.index_in_dim(pairs, place, axis + 1, keepdims=False) for place in (0, 1))
    from_before, from_after = _shares(count, axis, even)
    to_before, to_after = from_before * even, from_after * odd
    return (even - to_before + _moved(to_before, axis, -1) + odd - to_after + _moved(to_after, axis, 1),)


_double.defvjp(_double_forward, _double_backward)


def _shares(count: int, axis: int, like: Array) -> tuple[Array, Array]:
    """How much of an even output comes from the pixel before, and of an odd one from the one after."""
    shape = [count if other == axis else 1 for other in range(like.ndim)]
    share = np.arange(count) / (2 * count - 1)
    before, after = (jnp.asarray(each.reshape(shape), like.dtype) for each in (share, share[::-1]))
    return jnp.broadcast_to(before, like.shape), jnp.broadcast_to(after, like.shape)


def _moved(x: Array, axis: int, by: int) -> Array:
    """Each pixel from its neighbour before (`by` 1) or after (−1), which is zero beyond the edge."""
    edges = [(by, -by, 0) if other == axis else (0, 0, 0) for other in range(x.ndim)]
    return lax.pad(x, jnp.zeros((), x.dtype), edges)
