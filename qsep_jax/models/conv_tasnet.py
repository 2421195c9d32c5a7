"""Conv-TasNet (Luo, Mesgarani 2019) for music as in Défossez et al. 2019: stereo, a ReLU for a mask, no skip paths."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from qsep_jax.nn.tcn import Block, StoredActivations, channel_layer_norm, product, run, wide


class Separator(nn.Module):
    """Masks `[B, N, S, F]` of what the encoder gives, `[B, N, F]`: repeats of blocks whose dilation doubles."""

    sources: int
    bottleneck: int
    hidden: int
    kernel: int
    blocks: int
    repeats: int
    keep: StoredActivations
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: Array) -> Array:
        filters, xavier = x.shape[-1], nn.initializers.xavier_normal()
        scale = self.param("norm_scale", nn.initializers.ones, (filters,))
        bias = self.param("norm_bias", nn.initializers.zeros, (filters,))
        inward = self.param("bottleneck", xavier, (filters, self.bottleneck))
        x = product(channel_layer_norm(x, scale, bias).astype(self.dtype), inward.astype(self.dtype))
        dilations = [2**number for number in range(self.blocks)]
        for repeat in range(self.repeats):
            weights = Repeat(self.bottleneck, self.hidden, self.kernel, self.blocks, name=f"repeat_{repeat + 1}")()
            x = run(x, weights, dilations, self.keep)
        outward = self.param("mask", xavier, (self.bottleneck, self.sources * filters))
        masks = product(x, outward.astype(self.dtype)).reshape(*x.shape[:2], self.sources, filters)
        return jax.nn.relu(masks)


class Repeat(nn.Module):
    """The parameters of the blocks of one repeat, by name."""

    bottleneck: int
    hidden: int
    kernel: int
    blocks: int

    @nn.compact
    def __call__(self):
        return [
            Block(self.bottleneck, self.hidden, self.kernel, name=f"block_{number + 1}")()
            for number in range(self.blocks)
        ]


class ConvTasNet(nn.Module):
    """Sources `[B, S, T, C]` of mixtures `[B, T, C]`, T any number of samples from one window on.

    An encoder of windows that overlap by half, whose outputs the masks weigh, and a linear decoder. Without biases, and
    with a normalisation before the first matrix, what comes out grows with what goes in: loudness does not matter.

    The parameters are `encoder` `[L·C, F]`, `decoder` `[F, L·C]`, time before channel, and `separator`. Samples after
    the last whole window are 0 in the output, as published.

    Attributes:
      filters, window: F of the encoder and its L samples.
      keep: what the backward pass finds stored of each block.
    """

    sources: int
    filters: int
    window: int
    bottleneck: int
    hidden: int
    kernel: int
    blocks: int
    repeats: int
    keep: StoredActivations = "hidden"
    dtype: jnp.dtype = jnp.dtype("float32")

    @nn.compact
    def __call__(self, mixture: Array) -> Array:
        batch, samples, channels = mixture.shape
        hop, size, xavier = self.window // 2, self.window * channels, nn.initializers.xavier_normal()
        halves = mixture[:, : samples // hop * hop].reshape(batch, samples // hop, hop * channels)
        windows = jnp.concatenate([halves[:, :-1], halves[:, 1:]], axis=-1)
        # Xavier-normal of a convolution: L samples of each channel in, F · L out.
        spread = nn.initializers.normal((2.0 / (size + self.filters * self.window)) ** 0.5)
        encoder = self.param("encoder", spread, (size, self.filters))
        encoded = jax.nn.relu(product(windows.astype(self.dtype), encoder.astype(self.dtype)))
        shape = (self.sources, self.bottleneck, self.hidden, self.kernel, self.blocks, self.repeats)
        masks = Separator(*shape, self.keep, self.dtype, name="separator")(encoded)
        decoder = self.param("decoder", xavier, (self.filters, size))
        parts = product(masks * encoded[:, :, None], decoder.astype(self.dtype))  # [B, N, S, L·C]
        first, second = jnp.split(wide(parts), 2, axis=-1)
        added = jnp.pad(first, ((0, 0), (0, 1), (0, 0), (0, 0))) + jnp.pad(second, ((0, 0), (1, 0), (0, 0), (0, 0)))
        audio = added.swapaxes(1, 2).reshape(batch, self.sources, -1, channels)
        return jnp.pad(audio, ((0, 0), (0, 0), (0, samples - audio.shape[2]), (0, 0)))
