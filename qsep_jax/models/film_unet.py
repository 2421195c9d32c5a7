"""A U-Net over magnitudes whose encoder is conditioned on a vector at every level (Lin et al. 2021, Fig. 3).

Each level halves frequency and keeps time, so that transcription has the resolution of the frames. The decoder predicts
the spectrogram directly, with neither a mask nor an output non-linearity.
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
      channels: Channels of the levels, outermost first.
      pooling: `average` (the published code) or `max` (the paper's figure).
      dtype: Compute type; parameters are float32.
    """

    channels: tuple[int, ...] = (2, 4, 8, 16, 32, 64)
    pooling: str = "average"
    dtype: jnp.dtype = jnp.dtype("float32")

    @nn.compact
    def __call__(self, magnitude: Array, condition: Array, train: bool) -> list[Array]:
        """Return the conditioned maps of all levels, `[B · R, N, F / 2^level, C]`; the last one is the bottleneck.

        Args:
          magnitude: `[B, N, F]`.
          condition: R conditions for each spectrogram, `[B, R, Z]`; layers before the first FiLM are computed once.
          train: whether batch norm uses and tracks the statistics of the batch.
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
    """At each level a transposed convolution, concatenation of the skip connection, and a convolution."""

    dtype: jnp.dtype = jnp.dtype("float32")

    @nn.compact
    def __call__(self, features: Sequence[Array], train: bool) -> Array:
        """Decode maps of all levels `[B, N, F / 2^level, C]`, outermost first, to magnitudes `[B, N, F]` float32.

        The output may be negative.
        """
        x = features[-1]
        for level in reversed(range(len(features) - 1)):
            skip = features[level]
            up = ConvTranspose(skip.shape[-1], (3, 3), (1, 2), use_bias=False, dtype=self.dtype, name=f"up_{level}")
            x = nn.relu(batch_norm(train, self.dtype, f"norm_{level}", decay=DECAY)(up(x)))
            x = jnp.concatenate([x, skip], axis=-1)
            x = ConvBlock(skip.shape[-1], dtype=self.dtype, name=f"level_{level}")(x, train)
        x = Conv(1, (1, 1), dtype=self.dtype, kernel_init=XAVIER, name="output")(x)
        return x[..., 0].astype(jnp.float32)
