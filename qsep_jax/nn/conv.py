"""Convolution layers over images `[B, H, W, C]`; `conv_ops` computes them."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jax import Array
from jax.ad_checkpoint import checkpoint_name

from qsep_jax.nn.conv_ops import CONV, Pair, conv, conv_of_constant, conv_transpose


def same_padding(taps: int, stride: int) -> Pair:
    """Padding that turns `n · stride` inputs into `n` outputs; an odd pixel goes to the end."""
    total = taps - stride
    return total // 2, total - total // 2


class Conv(nn.Module):
    """Convolution `[B, H, W, C]` → `[B, H/s, W/s, features]`, padded so that the stride divides the size exactly.

    With `valid` nothing is padded: `[B, (H − h) / s + 1, …]` of a window of h.
    With `tiled`, the vector `[B, Z]` is taken as Z further input channels that are constant over the image; with
    `beside`, an image of few channels as so many more, without laying the two side by side.
    """

    features: int
    window: Pair
    strides: Pair = (1, 1)
    use_bias: bool = True
    dtype: jnp.dtype = jnp.dtype("float32")
    kernel_init: Callable = nn.initializers.lecun_normal()
    valid: bool = False

    @nn.compact
    def __call__(self, x: Array, tiled: Array | None = None, beside: Array | None = None) -> Array:
        channels = x.shape[-1]
        inputs = channels + sum(more.shape[-1] for more in (tiled, beside) if more is not None)
        kernel = self.param("kernel", self.kernel_init, (*self.window, inputs, self.features)).astype(self.dtype)
        padding = (same_padding(self.window[0], self.strides[0]), same_padding(self.window[1], self.strides[1]))
        padding = ((0, 0), (0, 0)) if self.valid else padding
        x = x.astype(self.dtype)
        y: Any = conv(x, kernel[:, :, :channels], self.strides, padding)
        if tiled is not None:
            size = (x.shape[1], x.shape[2])
            constant = kernel[:, :, channels : channels + tiled.shape[-1]]
            y = y + conv_of_constant(tiled.astype(self.dtype), constant, size, self.strides, padding)
        if beside is not None:
            y = y + conv(beside.astype(self.dtype), kernel[:, :, -beside.shape[-1] :], self.strides, padding)
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros, (self.features,)).astype(self.dtype)
            y = y + bias[None, None, None]
        return checkpoint_name(y, CONV)


class ConvTranspose(nn.Module):
    """Transposed convolution `[B, H, W, C]` → `[B, H·s, W·s, features]`, the adjoint of a `Conv` of the same strides.

    The kernel is stored as that convolution's: `[h, w, features, C]`.
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
