"""The separator of Stoller et al. 2018: a U-Net whose convolutions have no padding (published code).

Every output depends on inputs only and not on padding. The output for a frame is therefore the same in every excerpt
that has `context` further frames on both sides and whose pooling windows begin at the same frames.
"""

import dataclasses
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from qsep_jax.nn.conv import Conv, ConvTranspose


@dataclasses.dataclass(frozen=True)
class Extent:
    """Size of one axis: the network maps `inputs` pixels to `outputs` pixels and loses `context` at both ends."""

    inputs: int
    outputs: int

    @property
    def context(self) -> int:
        """Pixels that each end of the axis loses."""
        return (self.inputs - self.outputs) // 2


def extent(min_outputs: int, levels: int) -> Extent:
    """Find the smallest extent with at least `min_outputs` outputs for a network that halves its input `levels` times.

    With `n` pixels at the innermost level, `2^L n + 4 · 2^L − 2` inputs give `2^L n − 2 (2^L − 1)` outputs.
    """
    scale = 2**levels
    bottom = max(-(-(min_outputs + 2 * (scale - 1)) // scale), 2)
    return Extent(scale * bottom + 4 * scale - 2, scale * bottom - 2 * (scale - 1))


class ValidUNet(nn.Module):
    """3×3 convolutions with ReLU, 2×2 max pooling in the encoder and transposed convolutions in the decoder.

    Attributes:
      channels: Channels of the levels, outermost first.
      sources: Number of output maps S; each comes from a separate 1×1 convolution and is 0 or more.
      dtype: Compute type; parameters are float32.
    """

    channels: tuple[int, ...] = (16, 32, 64, 128, 256)
    sources: int = 2
    dtype: jnp.dtype = jnp.dtype("float32")

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Map `[B, N, F]` to `[B, S, N', F']` float32; the sizes of both axes follow `extent`."""
        x = x[..., None].astype(self.dtype)
        skips = [x]
        for level, features in enumerate(self.channels):
            x = max_pool(skips[-1]) if level else x
            skips.append(nn.relu(Conv(features, (3, 3), valid=True, dtype=self.dtype, name=f"down_{level}")(x)))
        x = skips.pop()
        for level in reversed(range(len(self.channels) - 1)):
            features = self.channels[level]
            x = nn.relu(ConvTranspose(features, (2, 2), (2, 2), dtype=self.dtype, name=f"up_{level}")(x))
            x = jnp.concatenate([_crop_centre(skips.pop(), x), x], axis=-1)
            x = nn.relu(Conv(features, (3, 3), valid=True, dtype=self.dtype, name=f"after_{level}")(x))
        x = jnp.concatenate([_crop_centre(skips.pop(), x), x], axis=-1).astype(jnp.float32)
        # Departs from the published code: initial weights are 0 or more. All inputs of this layer are 0 or more, so a
        # source with mostly negative weights would be 0 everywhere, and a ReLU that is 0 everywhere learns nothing.
        return jnp.moveaxis(nn.relu(nn.Dense(self.sources, kernel_init=_not_negative, name="sources")(x)), -1, 1)


def max_pool(x: Array) -> Array:
    """Pool `[B, H, W, C]` by the maximum of 2×2 pixels: `[B, H / 2, W / 2, C]`.

    The maximum is computed by selection, so the first of equal pixels gets the gradient. The gradient of `max` divides
    by the number of pixels that equal the maximum; it is nan where XLA recomputes the pixels with different rounding.
    Selection is also twice as fast on CPU.
    """
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height // 2, 2, width // 2, 2, channels)
    left, right = x[..., 0, :], x[..., 1, :]
    x = jnp.where(left >= right, left, right)
    upper, lower = x[:, :, 0], x[:, :, 1]
    return jnp.where(upper >= lower, upper, lower)


def _not_negative(key: Array, shape: Any, dtype: Any = jnp.float32) -> Array:
    return jnp.abs(nn.initializers.lecun_normal()(key, shape, dtype))


def _crop_centre(x: Array, target: Array) -> Array:
    """Crop `x` around its centre to the height and width of `target`."""
    rows, columns = ((x.shape[axis] - target.shape[axis]) // 2 for axis in (1, 2))
    return x[:, rows : rows + target.shape[1], columns : columns + target.shape[2]]
