"""Convolution layers over images `[B, H, W, C]`, computed by `conv_ops`."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jax import Array
from jax.ad_checkpoint import checkpoint_name

from qsep_jax.nn.conv_ops import CONV, Pair, conv, conv_of_constant, conv_transpose


def same_padding(taps: int, stride: int) -> Pair:
    """Compute the padding that maps `n · stride` inputs to `n` outputs; an odd pixel goes to the end."""
    total = taps - stride
    return total // 2, total - total // 2


class Conv(nn.Module):
    """Convolution `[B, H, W, C]` → `[B, H/s, W/s, features]`, padded so that the stride divides the size exactly.

    Attributes:
      features: Output channels.
      window: Size of the kernel (height, width).
      strides: Strides (vertical, horizontal).
      use_bias: Whether to add a bias to every output channel.
      dtype: Compute type; parameters are float32.
      kernel_init: Initialiser of the kernel.
      valid: Whether to convolve without padding; a window of h then gives `[B, (H − h) / s + 1, …]`.
    """

    features: int
    window: Pair
    strides: Pair = (1, 1)
    use_bias: bool = True
    dtype: jnp.dtype = jnp.dtype("float32")
    kernel_init: Callable = nn.initializers.lecun_normal()
    valid: bool = False

    @nn.compact
    def __call__(self, x: Array, tiled: Array | None = None, extra: Array | None = None) -> Array:
        """Convolve `x` together with further input channels.

        Args:
          x: `[B, H, W, C]`.
          tiled: `[B, Z]`, used as Z further input channels that are constant over the image.
          extra: `[B, H, W, C']` with few channels C', used as further input channels without a concatenation.
        """
        channels = x.shape[-1]
        inputs = channels + sum(further.shape[-1] for further in (tiled, extra) if further is not None)
        kernel = self.param("kernel", self.kernel_init, (*self.window, inputs, self.features)).astype(self.dtype)
        padding = (same_padding(self.window[0], self.strides[0]), same_padding(self.window[1], self.strides[1]))
        padding = ((0, 0), (0, 0)) if self.valid else padding
        x = x.astype(self.dtype)
        y: Any = conv(x, kernel[:, :, :channels], self.strides, padding)
        if tiled is not None:
            size = (x.shape[1], x.shape[2])
            constant = kernel[:, :, channels : channels + tiled.shape[-1]]
            y = y + conv_of_constant(tiled.astype(self.dtype), constant, size, self.strides, padding)
        if extra is not None:
            y = y + conv(extra.astype(self.dtype), kernel[:, :, -extra.shape[-1] :], self.strides, padding)
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros, (self.features,)).astype(self.dtype)
            y = y + bias[None, None, None]
        return checkpoint_name(y, CONV)


class ConvTranspose(nn.Module):
    """Transposed convolution `[B, H, W, C]` → `[B, H·s, W·s, features]`: the adjoint of a `Conv` with the same strides.

    The kernel has the layout of that convolution's kernel: `[h, w, features, C]`. The attributes are those of `Conv`.
    """

    features: int
    window: Pair
    strides: Pair = (1, 1)
    use_bias: bool = True
    dtype: jnp.dtype = jnp.dtype("float32")
    kernel_init: Callable = nn.initializers.lecun_normal(in_axis=-1, out_axis=-2)

    @nn.compact
    def __call__(self, x: Array) -> Array:
        kernel = self.param("kernel", self.kernel_init, (*self.window, self.features, x.shape[-1])).astype(self.dtype)
        padding = (same_padding(self.window[0], self.strides[0]), same_padding(self.window[1], self.strides[1]))
        size = (x.shape[1] * self.strides[0], x.shape[2] * self.strides[1])
        y: Any = conv_transpose(x.astype(self.dtype), kernel, self.strides, padding, size)
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros, (self.features,)).astype(self.dtype)
            y = y + bias[None, None, None]
        return checkpoint_name(y, CONV)
