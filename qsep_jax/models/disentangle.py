"""Networks that disentangle pitch and timbre and combine them again (Lin et al. 2021, §3.3)."""

from collections.abc import Sequence

import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from qsep_jax.nn.blocks import XAVIER, ConvBlock


class TimbreFilter(nn.Module):
    """A 3×3 convolution at every level, which learns to extract timbre (Eq. 11).

    Attributes:
      normalise: Whether batch normalisation and ReLU follow, as in the published code; the paper has neither.
      dtype: Compute type; parameters are float32.
    """

    normalise: bool = True
    dtype: jnp.dtype = jnp.dtype("float32")

    @nn.compact
    def __call__(self, features: Sequence[Array], train: bool) -> list[Array]:
        """Filter the maps `[B, N, F, C]` of all levels; the shapes do not change."""
        return [
            ConvBlock(x.shape[-1], plain=not self.normalise, dtype=self.dtype, name=f"level_{level}")(x, train)
            for level, x in enumerate(features)
        ]


class PitchExtractor(nn.Module):
    """A codebook per level that maps each pitch class to a scale and a bias for every bin and channel (Eq. 10)."""

    dtype: jnp.dtype = jnp.dtype("float32")

    @nn.compact
    def __call__(self, roll: Array, timbre: Sequence[Array]) -> list[Array]:
        """Compute `γ ⊙ t + β` (Eq. 12) for all levels, with the shapes of `timbre`.

        Args:
          roll: probabilities of the pitch classes, or a one-hot score, `[B, N, K]`.
          timbre: maps `[B, N, F, C]` of all levels.
        """
        entangled = []
        for level, x in enumerate(timbre):
            size = x.shape[2] * x.shape[3]
            codebook = nn.Dense(2 * size, use_bias=False, dtype=self.dtype, kernel_init=XAVIER, name=f"level_{level}")
            scale, bias = jnp.split(codebook(roll.astype(self.dtype)), 2, axis=-1)
            entangled.append(scale.reshape(x.shape) * x + bias.reshape(x.shape))
        return entangled
