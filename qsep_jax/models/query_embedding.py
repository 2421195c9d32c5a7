"""QueryNet of Lin et al. 2021 (§3.2, Eq. 5), which embeds an audio example as a latent in the cube [−1, 1]^Z."""

import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from qsep_jax.nn.blocks import DECAY, XAVIER, ConvBlock, pool
from qsep_jax.nn.norms import batch_norm


class QueryEmbedding(nn.Module):
    """Convolution blocks that halve time and frequency, a linear layer and tanh per frame, and the mean over time.

    Attributes:
      channels: Channels of the blocks.
      layers: Convolutions in a block: one in the published code, two in the paper.
      latent_size: Size Z of the latent.
      pooling: `average` (the published code) or `max` (the paper).
      dtype: Compute type; parameters are float32.
    """

    channels: tuple[int, ...] = (2, 4)
    layers: int = 1
    latent_size: int = 6
    pooling: str = "average"
    dtype: jnp.dtype = jnp.dtype("float32")

    @nn.compact
    def __call__(self, magnitude: Array, train: bool) -> Array:
        """Embed magnitudes `[B, N, F]`: `[B, Z]` float32 in −1…1.

        Frames after the last complete pooling window are ignored.
        """
        frames = magnitude.shape[1] - magnitude.shape[1] % 2 ** len(self.channels)
        x = batch_norm(train, self.dtype, "input_norm", decay=DECAY)(magnitude[:, :frames, :, None].astype(self.dtype))
        for block, channels in enumerate(self.channels):
            x = ConvBlock(channels, self.layers, dtype=self.dtype, name=f"block_{block}")(x, train)
            x = pool(x, (2, 2), self.pooling)
        x = x.reshape(*x.shape[:2], -1)
        x = nn.Dense(self.latent_size, dtype=self.dtype, kernel_init=XAVIER, name="latent")(x)
        return jnp.tanh(x.astype(jnp.float32)).mean(axis=1)
