"""The networks of Sound of Pixels (Zhao et al. 2018), which combine audio and video in K channels.

One network maps the mixture to K maps over time and frequency, another maps video frames of a player to K weights. The
weighted sum of the maps gives the mask of that player. Sizes and order of layers are those of the published code.
"""

import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from qsep_jax.models.resnet import ResNetSize
from qsep_jax.nn.conv import Conv
from qsep_jax.nn.norms import batch_norm
from qsep_jax.nn.upsample import double

RESNET_18 = ResNetSize((2, 2, 2, 2), 64, bottleneck=False)

_SMALL = nn.initializers.normal(0.001)
# Standard deviation of the initial scales of batch norm.
_SPREAD = 0.02
# Largest number of channels of a level, as a multiple of `SoundNet.channels`.
_MAX_WIDENING = 8


class SoundNet(nn.Module):
    """A U-Net that halves time and frequency at every level: log magnitudes `[B, N, F]` → maps `[B, N, F, K]`.

    The encoder has leaky ReLU, 4×4 convolution and batch normalisation; the outermost and innermost convolutions have
    no normalisation. The decoder has ReLU, bilinear doubling, 3×3 convolution and batch normalisation; the outermost
    convolution has a bias instead of the normalisation. The input is normalised as one channel; the output is linear.

    Attributes:
      levels: Number of levels, 7 or 5 in the papers.
      channels: Channels of the outermost level; each level doubles them up to eight times as many.
      outputs: Number of maps K.
      dtype: Compute type; parameters are float32.
    """

    levels: int = 7
    channels: int = 64
    outputs: int = 32
    dtype: jnp.dtype = jnp.dtype("float32")

    @nn.compact
    def __call__(self, magnitude: Array, train: bool) -> Array:
        widths = [self.channels * min(2**level, _MAX_WIDENING) for level in range(self.levels)]
        x = batch_norm(train, self.dtype, "input_norm", spread=_SPREAD)(magnitude[..., None].astype(self.dtype))
        skips: list[Array] = []
        for level, features in enumerate(widths):
            if level > 0:
                x = nn.leaky_relu(x, 0.2)
            down = Conv(features, (4, 4), (2, 2), use_bias=False, dtype=self.dtype, kernel_init=_SMALL)
            x = down.copy(name=f"down_{level}")(x)
            if 0 < level < self.levels - 1:
                x = batch_norm(train, self.dtype, f"down_norm_{level}", spread=_SPREAD)(x)
            skips.append(x)
        skips.pop()
        for level in reversed(range(self.levels)):
            features = widths[level - 1] if level else self.outputs
            up = Conv(features, (3, 3), use_bias=level == 0, dtype=self.dtype, kernel_init=_SMALL, name=f"up_{level}")
            x = up(double(nn.relu(x)))
            if level > 0:
                x = batch_norm(train, self.dtype, f"up_norm_{level}", spread=_SPREAD)(x)
                x = jnp.concatenate([skips.pop(), x], axis=-1)
        return x.astype(jnp.float32)


class FrameHead(nn.Module):
    """A 3×3 convolution to K channels, the maximum over pixels and frames, sigmoid: `[B, n, h, w, D]` → `[B, K]`."""

    outputs: int = 32
    dtype: jnp.dtype = jnp.dtype("float32")

    @nn.compact
    def __call__(self, maps: Array) -> Array:
        batch, frames = maps.shape[:2]
        x = Conv(self.outputs, (3, 3), dtype=self.dtype, name="conv")(maps.reshape(-1, *maps.shape[2:]))
        x = x.reshape(batch, frames, -1, self.outputs).max((1, 2))
        return nn.sigmoid(x.astype(jnp.float32))


class Synthesizer(nn.Module):
    """The logits of masks: `Σ_k w_k · image_k · sound_k + b`."""

    @nn.compact
    def __call__(self, image: Array, sound: Array) -> Array:
        """Combine `image` `[B, S, K]`, one row for each player, with `sound` `[B, N, F, K]`: `[B, S, N, F]`."""
        scale = self.param("scale", nn.initializers.ones, (sound.shape[-1],))
        bias = self.param("bias", nn.initializers.zeros, (1,))
        logits = jnp.einsum("bsk,bnfk->bsnf", image * scale[None, None], sound)
        return logits + bias[None, None, None]
