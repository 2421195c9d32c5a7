"""Conv-TasNet (Luo, Mesgarani 2019), adapted to music as in Défossez et al. 2019: stereo, ReLU masks, no skip paths."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from qsep_jax.nn.tcn import Block, StoredActivations, channel_layer_norm, product, run, wide


class Separator(nn.Module):
    """Maps the encoded mixture `[B, N, F]` to masks `[B, N, S, F]` by stacks of blocks with doubling dilation."""

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
    """Creates the parameters of the blocks of one repeat, under their names."""

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
    """Separates mixtures `[B, T, C]` of at least one window into sources `[B, S, T, C]`.

    A linear encoder with ReLU analyses windows that overlap by half, masks weigh its outputs, and a linear decoder
    synthesises the sources. There are no biases, and the separator normalises its input, so a scaled mixture gives
    equally scaled sources.

    The parameters are `encoder` `[L·C, F]` and `decoder` `[F, L·C]`, time before channel, and `separator`. As in the
    published code, output samples after the last complete window are 0.

    Attributes:
      sources: Number of sources S.
      filters: Number of filters F of the encoder.
      window: Window length L of the encoder in samples, even.
      bottleneck: Channels between the blocks.
      hidden: Channels inside the blocks.
      kernel: Taps of the depthwise convolutions, odd.
      blocks: Number of blocks in a repeat; the dilation doubles from block to block.
      repeats: Number of repeats.
      keep: Activations of each block that are stored for the backward pass.
      dtype: Compute type; parameters are float32.
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
        # Xavier-normal for a convolution: L samples of each channel are inputs and F · L outputs.
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
