"""The U-Net of Slizovskaia et al. 2021, section 3.1: a mixture in, a map for each of K sources out.

Sizes and order of operations follow the published code: a decoder block convolves first and upsamples last, and the
last skip connection is the input spectrogram itself.
"""

from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from qsep_jax.nn.conv import Conv
from qsep_jax.nn.dropout import dropout
from qsep_jax.nn.film import ChannelFiLM
from qsep_jax.nn.norms import batch_norm
from qsep_jax.nn.upsample import double

Place = Literal["none", "bottleneck", "encoder", "final"]


class Decoder(nn.Module):
    """From the bottleneck to maps: upsampled, then for each level a convolution beside the skip, upsampled again.

    Attributes:
      channels: of the encoder's levels, outermost first; the decoder halves them on the way out.
      features: maps that come out.
    """

    channels: tuple[int, ...]
    features: int
    dropout: float
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, bottleneck: Array, skips: list[Array], train: bool, key: Array) -> Array:
        """`[B, N / 2^L, F / 2^L, C]`, skips outermost first, the input among them → `[B, N, F, features]`, ≥ 0."""
        x = double(bottleneck)
        for level, skip in reversed(list(enumerate(skips))):
            features = self.channels[level - 1] if level else self.features
            layer = Conv(features, (3, 3), use_bias=False, dtype=self.dtype, name=f"up_{level}")
            # The input itself has one channel: 17 side by side would cost three times as much as 16 and 1.
            x = layer(jnp.concatenate([x, skip], axis=-1)) if level else layer(x, extra=skip)
            x = nn.relu(batch_norm(train, self.dtype, f"norm_{level}")(x))
            if train and self.dropout:
                x = dropout(x, jax.random.fold_in(key, level), self.dropout)
            x = double(x) if level else x
        return x


class MaskUNet(nn.Module):
    """A strided encoder and one decoder for all sources, or one for each.

    Attributes:
      sources: K.
      channels: of the encoder's levels; each halves both axes.
      heads: whether each source has a decoder of its own (Multi-Head U-Net).
      film: where a condition enters, as a `ChannelFiLM`: at the bottleneck before it is upsampled, at all normalised
        encoder levels, or at the K maps.
      classes: further outputs of one layer on the mean of the bottleneck (the paper's section 5.4; 0: none).
    """

    sources: int = 13
    channels: tuple[int, ...] = (16, 32, 64, 128, 256, 512)
    heads: bool = False
    film: Place = "none"
    classes: int = 0
    dropout: float = 0.2
    dtype: jnp.dtype = jnp.dtype("float32")

    @nn.compact
    def __call__(
        self, spectrogram: Array, condition: Array | None, train: bool, key: Array
    ) -> tuple[Array, Array | None]:
        """`[B, N, F]` and `[B, Z]` → maps `[B, K, N, F]` float32 before any mask, and `[B, classes]` logits or None.

        Args:
          key: of the dropout, used where `train`.
        """

        def film(x: Array, name: str) -> Array:
            return x if condition is None else ChannelFiLM(dtype=self.dtype, name=name)(x, condition)

        x = spectrogram[..., None].astype(self.dtype)
        skips = []
        for level, features in enumerate(self.channels):
            skips.append(x)
            x = Conv(features, (4, 4), (2, 2), use_bias=False, dtype=self.dtype, name=f"down_{level}")(x)
            if level < len(self.channels) - 1:
                x = batch_norm(train, self.dtype, f"norm_{level}")(x)
                x = film(x, f"film_{level}") if self.film == "encoder" else x
                x = nn.leaky_relu(x, 0.2)
        x = film(x, "film_bottleneck") if self.film == "bottleneck" else x
        logits = nn.Dense(self.classes, name="classes")(x.astype(jnp.float32).mean((1, 2))) if self.classes else None
        count, features = (self.sources, 1) if self.heads else (1, self.sources)
        decoders = [
            Decoder(
                self.channels, features, self.dropout, self.dtype, name=f"decoder_{head}" if count > 1 else "decoder"
            )
            for head in range(count)
        ]
        maps = [decoder(x, skips, train, jax.random.fold_in(key, head)) for head, decoder in enumerate(decoders)]
        x = jnp.concatenate(maps, axis=-1)
        x = film(x, "film_final") if self.film == "final" else x
        return jnp.moveaxis(x.astype(jnp.float32), -1, 1), logits
