"""A U-Net over magnitudes whose encoder is steered by a vector at every level (Lin et al. 2021, Fig. 3).

Frequency is halved from level to level, time never: what is written down keeps the resolution of the frames. The
decoder has neither a mask nor an output non-linearity; it draws the spectrogram itself.
"""

from collections.abc import Sequence

import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from qsep_jax.nn.blocks import DECAY, XAVIER, ConvBlock, pool
from qsep_jax.nn.conv import Conv, ConvTranspose
from qsep_jax.nn.film import FiLM
from qsep_jax.nn.norms import batch_norm


class FiLMEncoder(nn.Module):
    """Two 3×3 convolutions per level, then FiLM, then pooling of two bins.

    Attributes:
      channels: of the levels, outermost first.
      pooling: `average` (the code) or `max` (the paper's figure).
    """

    channels: tuple[int, ...] = (2, 4, 8, 16, 32, 64)
    pooling: str = "average"
    dtype: jnp.dtype = jnp.dtype("float32")

    @nn.compact
    def __call__(self, magnitude: Array, condition: Array, train: bool) -> list[Array]:
        """The modulated maps of all levels, `[B · R, N, F / 2^level, C]`, the last one being the bottleneck.

        Args:
          magnitude: `[B, N, F]`.
          condition: `[B, R, Z]`: each spectrogram is asked R times; what comes before the first FiLM is done once.
        """
        x = batch_norm(train, self.dtype, "input_norm", decay=DECAY)(magnitude[..., None].astype(self.dtype))
        flat, features = condition.reshape(-1, condition.shape[-1]), []
        for level, channels in enumerate(self.channels):
            x = ConvBlock(channels, layers=2, dtype=self.dtype, name=f"level_{level}")(x, train)
            if level == 0 and condition.shape[1] > 1:
                x = jnp.repeat(x, condition.shape[1], axis=0)
            x = FiLM(dtype=self.dtype, name=f"film_{level}")(x, flat)
            features.append(x)
            if level < len(self.channels) - 1:
                x = pool(x, (1, 2), self.pooling)
        return features


class Decoder(nn.Module):
    """Back from the bottleneck: a transposed convolution, the skip tensor beside it, a convolution, level by level."""

    dtype: jnp.dtype = jnp.dtype("float32")

    @nn.compact
    def __call__(self, features: Sequence[Array], train: bool) -> Array:
        """Maps of all levels `[B, N, F / 2^level, C]`, outermost first → magnitudes `[B, N, F]` float32, any sign."""
        x = features[-1]
        for level in reversed(range(len(features) - 1)):
            skip = features[level]
            up = ConvTranspose(skip.shape[-1], (3, 3), (1, 2), use_bias=False, dtype=self.dtype, name=f"up_{level}")
            x = nn.relu(batch_norm(train, self.dtype, f"norm_{level}", decay=DECAY)(up(x)))
            x = jnp.concatenate([x, skip], axis=-1)
            x = ConvBlock(skip.shape[-1], dtype=self.dtype, name=f"level_{level}")(x, train)
        x = Conv(1, (1, 1), dtype=self.dtype, kernel_init=XAVIER, name="output")(x)
        return x[..., 0].astype(jnp.float32)
