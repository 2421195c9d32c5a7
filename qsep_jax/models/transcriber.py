"""The transcriber of Lin et al. 2021 (§3.1, Eq. 9): from the bottleneck of an encoder to a pitch class per frame."""

import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from qsep_jax.nn.blocks import XAVIER, ConvBlock, pool


class Transcriber(nn.Module):
    """Blocks of two convolutions that halve frequency, then a linear layer per frame."""

    channels: tuple[int, ...] = (128, 256)
    classes: int = 89
    pooling: str = "average"
    dtype: jnp.dtype = jnp.dtype("float32")

    @nn.compact
    def __call__(self, bottleneck: Array, train: bool) -> Array:
        """Map the bottleneck `[B, N, F, C]` to logits `[B, N, classes]` float32."""
        x = bottleneck
        for block, channels in enumerate(self.channels):
            x = ConvBlock(channels, layers=2, dtype=self.dtype, name=f"block_{block}")(x, train)
            x = pool(x, (1, 2), self.pooling)
        x = x.reshape(*x.shape[:2], -1)
        logits = nn.Dense(self.classes, dtype=self.dtype, kernel_init=XAVIER, name="classes")(x)
        return logits.astype(jnp.float32)
