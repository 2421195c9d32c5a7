"""The U-Net of Slizovskaia et al. 2021, section 3.1, which maps a mixture to one map for each of K sources.

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

FiLMPosition = Literal["none", "bottleneck", "encoder", "final"]


class Decoder(nn.Module):
    """Upsamples the bottleneck, then at each level convolves it with the skip connection and upsamples again.

    Attributes:
      channels: Channels of the encoder's levels, outermost first; the decoder mirrors them.
      features: Number of output maps.
      dropout: Dropout rate after each level.
      dtype: Compute type.
    """

    channels: tuple[int, ...]
    features: int
    dropout: float
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, bottleneck: Array, skips: list[Array], train: bool, key: Array) -> Array:
        """Decode `[B, N / 2^L, F / 2^L, C]` to maps `[B, N, F, features]`, 0 or more.

        `skips` holds the skip connections, outermost first, beginning with the input of the encoder.
        """
        x = double(bottleneck)
        for level, skip in reversed(list(enumerate(skips))):
            features = self.channels[level - 1] if level else self.features
            layer = Conv(features, (3, 3), use_bias=False, dtype=self.dtype, name=f"up_{level}")
            # The input has one channel: 17 concatenated channels would cost three times as much as 16 and 1.
            x = layer(jnp.concatenate([x, skip], axis=-1)) if level else layer(x, extra=skip)
            x = nn.relu(batch_norm(train, self.dtype, f"norm_{level}")(x))
            if train and self.dropout:
                x = dropout(x, jax.random.fold_in(key, level), self.dropout)
            x = double(x) if level else x
        return x


class MaskUNet(nn.Module):
    """A strided encoder, with one decoder for all sources or one for each source.

    Attributes:
      sources: Number of sources K.
      channels: Channels of the encoder's levels, outermost first; each level halves both axes.
      heads: Whether each source has a separate decoder (Multi-Head U-Net).
      film: Where a `ChannelFiLM` applies the condition: at the bottleneck before it is upsampled, at all normalised
        encoder levels, or at the K output maps.
      film_offset: Constant that `ChannelFiLM` adds to γ.
      classes: Number of outputs of a further dense layer on the mean of the bottleneck (section 5.4; 0: no such layer).
      dropout: Dropout rate of the decoders.
      dtype: Compute type; parameters are float32.
    """

    sources: int = 13
    channels: tuple[int, ...] = (16, 32, 64, 128, 256, 512)
    heads: bool = False
    film: FiLMPosition = "none"
    film_offset: float = 1.0
    classes: int = 0
    dropout: float = 0.2
    dtype: jnp.dtype = jnp.dtype("float32")

    @nn.compact
    def __call__(
        self, spectrogram: Array, condition: Array | None, train: bool, key: Array
    ) -> tuple[Array, Array | None]:
        """Compute maps `[B, K, N, F]` float32, before any mask, and logits `[B, classes]` or None.

        Args:
          spectrogram: `[B, N, F]`.
          condition: `[B, Z]`, or None for a network without condition.
          train: whether to apply dropout, and whether batch norm uses and tracks the statistics of the batch.
          key: random key of the dropout; only used with `train`.
        """

        def film(x: Array, name: str) -> Array:
            layer = ChannelFiLM(self.film_offset, self.dtype, name=name)
            return x if condition is None else layer(x, condition)

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
