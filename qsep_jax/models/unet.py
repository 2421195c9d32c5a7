"""The separator of Lee et al. 2019: a U-Net over magnitudes, conditioned on a latent (§3.1 and §4.2)."""

import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from qsep_jax.nn.conv import Conv, ConvTranspose
from qsep_jax.nn.film import AdaIN
from qsep_jax.nn.norms import instance_norm


class QueryUNet(nn.Module):
    """Strided-convolution encoder, AdaIN decoder, sigmoid mask.

    The latent enters twice: as constant input channels, and through AdaIN before every decoder activation. Every
    encoder layer halves frequency, and every one except the first halves time; the decoder mirrors this.

    Attributes:
      channels: Output channels of the encoder layers, outermost first; the decoder mirrors them.
      mask_adain: Whether the last layer, before the sigmoid, is also conditioned. The paper says "every layer of
        decoder part", which leaves this open; the default is off because AdaIN would normalise the logits of the mask
        per example.
      dtype: Compute type; parameters are float32.
    """

    channels: tuple[int, ...] = (64, 128, 256, 512, 512, 512, 512, 512, 512)
    mask_adain: bool = False
    dtype: jnp.dtype = jnp.dtype("float32")

    @nn.compact
    def __call__(self, magnitude: Array, latent: Array) -> Array:
        """Compute the mask in (0, 1), `[B, N, F]` float32, of `magnitude` `[B, N, F]` and `latent` `[B, Z]`."""
        levels = len(self.channels)
        strides = [(1 if level == 0 else 2, 2) for level in range(levels)]
        x, skips = magnitude[..., None], []
        for level, features in enumerate(self.channels):
            outermost, innermost = level == 0, level == levels - 1
            plain = outermost or innermost  # instance norm would turn the innermost 1×1 map into zeros
            layer = Conv(features, (4, 4), strides[level], use_bias=plain, dtype=self.dtype, name=f"down_{level}")
            x = layer(x, latent) if outermost else layer(x)
            x = nn.leaky_relu(x if plain else instance_norm(x), 0.2)
            skips.append(x)
        skips.pop()
        for level in reversed(range(levels)):
            last = level == 0
            features = 1 if last else self.channels[level - 1]
            conditioned = not last or self.mask_adain
            x = ConvTranspose(
                features, (4, 4), strides[level], use_bias=not conditioned, dtype=self.dtype, name=f"up_{level}"
            )(x)
            if conditioned:
                x = AdaIN(dtype=self.dtype, name=f"adain_{level}")(x, latent)
            if not last:
                x = jnp.concatenate([nn.relu(x), skips.pop()], axis=-1)
        return nn.sigmoid(x[..., 0].astype(jnp.float32))
