"""The networks of Sound of Pixels (Zhao et al. 2018): sound and image meet in K channels.

What sounds is drawn as K maps over time and frequency, what is seen becomes K numbers, and their weighted sum over the
channels is the mask of the player that is seen. Sizes and order of layers are those of the published code.
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
_SPREAD = 0.02
_MOST = 8  # times the base width


class SoundNet(nn.Module):
    """A U-Net that halves time and frequency at every level: log magnitudes `[B, N, F]` → maps `[B, N, F, K]`.

    Down: leaky ReLU, 4×4 convolution, batch normalisation; the outermost and innermost convolutions go without
    normalisation. Up: ReLU, bilinear doubling, 3×3 convolution, batch normalisation; the outermost one has a bias
    instead. The input is normalised as one channel; nothing limits the output.

    Attributes:
      levels: 7 or 5 in the papers.
      channels: of the outermost level; doubled from level to level, eight times as many at most.
      outputs: K.
    """

    levels: int = 7
    channels: int = 64
    outputs: int = 32
    dtype: jnp.dtype = jnp.dtype("float32")

    @nn.compact
    def __call__(self, magnitude: Array, train: bool) -> Array:
        widths = [self.channels * min(2**level, _MOST) for level in range(self.levels)]
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
    """A 3×3 convolution to K channels, their maxima over pixels and frames, sigmoid: `[B, n, h, w, D]` → `[B, K]`."""

    outputs: int = 32
    dtype: jnp.dtype = jnp.dtype("float32")

    @nn.compact
    def __call__(self, maps: Array) -> Array:
        batch, frames = maps.shape[:2]
        x = Conv(self.outputs, (3, 3), dtype=self.dtype, name="conv")(maps.reshape(-1, *maps.shape[2:]))
        x = x.reshape(batch, frames, -1, self.outputs).max((1, 2))
        return nn.sigmoid(x.astype(jnp.float32))


class Synthesizer(nn.Module):
    """Logits of masks, `Σ_k w_k · image_k · sound_k + b`."""

    @nn.compact
    def __call__(self, image: Array, sound: Array) -> Array:
        """`image` `[B, S, K]`, one row for each player, `sound` `[B, N, F, K]` → `[B, S, N, F]`."""
        scale = self.param("scale", nn.initializers.ones, (sound.shape[-1],))
        bias = self.param("bias", nn.initializers.zeros, (1,))
        logits = jnp.einsum("bsk,bnfk->bsnf", image * scale[None, None], sound)
        return logits + bias[None, None, None]
