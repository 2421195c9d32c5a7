"""The convolution block of the networks of Lin et al. 2021: convolution, batch normalisation, ReLU."""

import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from qsep_jax.nn.conv import Conv
from qsep_jax.nn.norms import batch_norm

XAVIER = nn.initializers.xavier_uniform()
# Decay of the running statistics of batch norm: the paper's code sets PyTorch's momentum to 0.01.
DECAY = 0.99


class ConvBlock(nn.Module):
    """A stack of 3×3 convolution without bias, batch normalisation and ReLU: `[B, N, F, C]` → `[B, N, F, features]`.

    Attributes:
      features: Output channels of every convolution.
      layers: Number of convolutions.
      plain: Whether to leave out normalisation and ReLU.
      dtype: Compute type.
    """

    features: int
    layers: int = 1
    plain: bool = False
    dtype: jnp.dtype = jnp.dtype("float32")

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        for layer in range(self.layers):
            conv = Conv(self.features, (3, 3), use_bias=False, dtype=self.dtype, kernel_init=XAVIER)
            x = conv.copy(name=f"conv_{layer}")(x)
            if not self.plain:
                x = nn.relu(batch_norm(train, self.dtype, f"norm_{layer}", decay=DECAY)(x))
        return x


def pool(x: Array, window: tuple[int, int], kind: str) -> Array:
    """Pool `[B, N, F, C]` by the average or maximum (`kind`) of windows, whose size must divide the image."""
    batch, frames, bins, channels = x.shape
    cut = x.reshape(batch, frames // window[0], window[0], bins // window[1], window[1], channels)
    return cut.max((2, 4)) if kind == "max" else cut.mean((2, 4))
