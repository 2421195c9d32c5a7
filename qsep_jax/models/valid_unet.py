"""The separator of Stoller et al. 2018: a U-Net whose convolutions see no padding, only real context (published code).

Every output is computed from inputs alone, so it does not matter where a spectrogram was cut, as long as the halvings
fall on the same frames: what it says of a frame is the same in any excerpt that has `context` more on both sides.
"""

import dataclasses
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from qsep_jax.nn.conv import Conv, ConvTranspose


@dataclasses.dataclass(frozen=True)
class Extent:
    """Pixels of one axis: `inputs` of which the network makes `outputs`; both ends lose `context`."""

    inputs: int
    outputs: int

    @property
    def context(self) -> int:
        return (self.inputs - self.outputs) // 2


def extent(wanted: int, levels: int) -> Extent:
    """The smallest one whose outputs are at least `wanted`, with so many halvings.

    With `n` pixels at the bottom, `2^L n − 2 (2^L − 1)` come out of `2^L n + 4 · 2^L − 2`.
    """
    scale = 2**levels
    bottom = max(-(-(wanted + 2 * (scale - 1)) // scale), 2)
    return Extent(scale * bottom + 4 * scale - 2, scale * bottom - 2 * (scale - 1))


class ValidUNet(nn.Module):
    """3×3 convolutions with ReLU; 2×2 maxima on the way down, transposed convolutions on the way up.

    Attributes:
      channels: of the levels, outermost first; the last is the bottom.
      sources: maps that come out, S, each from its own 1×1 convolution and 0 or more.
    """

    channels: tuple[int, ...] = (16, 32, 64, 128, 256)
    sources: int = 2
    dtype: jnp.dtype = jnp.dtype("float32")

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """`[B, N, F]` → `[B, S, N', F']` float32, as `extent` says of both axes."""
        x = x[..., None].astype(self.dtype)
        skips = [x]
        for level, features in enumerate(self.channels):
            x = maxima(skips[-1]) if level else x
            skips.append(nn.relu(Conv(features, (3, 3), valid=True, dtype=self.dtype, name=f"down_{level}")(x)))
        x = skips.pop()
        for level in reversed(range(len(self.channels) - 1)):
            features = self.channels[level]
            x = nn.relu(ConvTranspose(features, (2, 2), (2, 2), dtype=self.dtype, name=f"up_{level}")(x))
            x = jnp.concatenate([_centre(skips.pop(), x), x], axis=-1)
            x = nn.relu(Conv(features, (3, 3), valid=True, dtype=self.dtype, name=f"after_{level}")(x))
        x = jnp.concatenate([_centre(skips.pop(), x), x], axis=-1).astype(jnp.float32)
        # Departs from the published code: weights begin at 0 or more. A source whose weights are mostly negative would
        # be 0 everywhere, as all that comes in is 0 or more, and a ReLU that is 0 everywhere learns nothing.
        return jnp.moveaxis(nn.relu(nn.Dense(self.sources, kernel_init=_not_negative, name="sources")(x)), -1, 1)


def maxima(x: Array) -> Array:
    """Of 2×2 pixels: `[B, H, W, C]` → `[B, H / 2, W / 2, C]`; of equal ones the first gets the gradient.

    By selection. The gradient of `max` divides by how many pixels equal the maximum, which is nan where XLA rounds them
    otherwise when it computes them again; this one is twice as fast on CPU, too.
    """
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height // 2, 2, width // 2, 2, channels)
    left, right = x[..., 0, :], x[..., 1, :]
    x = jnp.where(left >= right, left, right)
    upper, lower = x[:, :, 0], x[:, :, 1]
    return jnp.where(upper >= lower, upper, lower)


def _not_negative(key: Array, shape: Any, dtype: Any = jnp.float32) -> Array:
    return jnp.abs(nn.initializers.lecun_normal()(key, shape, dtype))


def _centre(x: Array, like: Array) -> Array:
    rows, columns = ((x.shape[axis] - like.shape[axis]) // 2 for axis in (1, 2))
    return x[:, rows : rows + like.shape[1], columns : columns + like.shape[2]]
