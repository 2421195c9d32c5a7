"""The temporal convolution network of Conv-TasNet: residual blocks of dilated depthwise convolutions (Luo, Mesgarani
2019).

Convolutions over one dimension with a window of one are matrix products, and depthwise ones sums of shifted copies.
Both stay fast where every song has weights of its own (`vmap`), which no convolution of XLA does on CPU.
"""

from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array, lax
from jax.ad_checkpoint import checkpoint_name

EPSILON = 1e-8
# What the backward pass finds stored of a block, besides its input: everything, what enters the first non-linearity
# (the rest is computed again, without another matrix product for it), or nothing.
Kept = Literal["all", "hidden", "none"]


def wide(x: Array) -> Array:
    """In float32, or in float64 if it is in that: what statistics and sums of many samples are taken in."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


@jax.custom_vjp
def prelu_norm(x: Array, slope: Array, scale: Array, bias: Array) -> Array:
    """`γ (p − μ) / √(σ² + ε) + β` of `p = PReLU(x)`, with the statistics of all frames and channels: `[B, N, H]`.

    Luo, Mesgarani 2019, Eq. 10 to 12 (gLN); statistics in float32. The gradient is written out: it needs no more than
    two sums over frames.
    """
    return _prelu_norm_forward(x, slope, scale, bias)[0]


def _prelu_norm_forward(x: Array, slope: Array, scale: Array, bias: Array):
    p = _prelu(x, slope)
    mean = _over_all(p.sum(1), p.size)
    deviation = lax.rsqrt(_over_all(jnp.square(p - mean).sum(1), p.size) + EPSILON)
    factor = scale[None, None] * deviation
    y = (factor * p + (bias[None, None] - factor * mean)).astype(x.dtype)
    return y, (x, slope, scale, mean, deviation)


def _prelu_norm_backward(kept: tuple[Array, ...], cotangent: Array):
    x, slope, scale, mean, deviation = kept
    scale = scale[None, None]
    p, g = _prelu(x, slope), wide(cotangent)
    of_bias, of_scale = _over_frames(g), deviation * _over_frames(g * (p - mean))
    constant, along = _over_all(scale * of_bias, p.size), _over_all(scale * of_scale, p.size)
    back = deviation * (scale * g - constant - deviation * along * (p - mean))
    of_slope = jnp.where(x < 0, x * back, 0.0).sum()
    back = jnp.where(x < 0, slope * back, back).astype(x.dtype)
    return back, of_slope, of_scale.sum((0, 1)), of_bias.sum((0, 1))


def _over_frames(x: Array) -> Array:
    """Sums `[B, 1, H]` of `[B, N, H]`, as a product: where there is a choice in what is summed, XLA's own sum on CPU
    goes down one column after the other.
    """
    return jnp.matmul(jnp.ones((1, 1, x.shape[1]), x.dtype), x, precision=lax.Precision.HIGHEST)


def _over_all(sums: Array, size: int) -> Array:
    """The mean of all frames and channels of each example, `[B, 1, 1]`, of sums over frames; `size` counts all."""
    batch = sums.shape[0]
    return sums.reshape(batch, 1, -1).sum(-1, keepdims=True) * (batch / size)


prelu_norm.defvjp(_prelu_norm_forward, _prelu_norm_backward)


def _prelu(x: Array, slope: Array) -> Array:
    x = wide(x)
    return jnp.where(x >= 0, x, slope * x)


def channel_layer_norm(x: Array, scale: Array, bias: Array) -> Array:
    """`γ (x − μ) / √(σ² + ε) + β` with the statistics of the channels of each frame: `[B, N, F]` (cLN)."""
    centered = wide(x) - wide(x).mean(-1, keepdims=True)
    normal = centered * lax.rsqrt(jnp.square(centered).mean(-1, keepdims=True) + EPSILON)
    return (scale[None, None] * normal + bias[None, None]).astype(x.dtype)


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def depthwise(x: Array, kernel: Array, dilation: Array | int, widest: int) -> Array:
    """Each channel of `[B, N, H]` with its own column of a kernel `[P, H]`, P odd, zeros around: `[B, N, H]`.

    Args:
      dilation: frames from tap to tap; may be traced, so that blocks can be scanned.
      widest: a number that no dilation exceeds.
    """
    taps = _shifted(x, kernel.shape[0], dilation, widest)
    found = kernel[0][None, None] * taps[0]
    for weights, tap in zip(kernel[1:], taps[1:], strict=True):
        found += weights[None, None] * tap
    return found


def _shifted(x: Array, count: int, dilation: Array | int, widest: int) -> list[Array]:
    """What each of `count` taps sees of `x`."""
    middle, frames = count // 2, x.shape[1]
    padded = jnp.pad(x, ((0, 0), (middle * widest, middle * widest), (0, 0)))
    starts = [middle * widest + (tap - middle) * dilation for tap in range(count)]
    return [lax.dynamic_slice_in_dim(padded, start, frames, axis=1) for start in starts]


def _depthwise_forward(x: Array, kernel: Array, dilation: Array | int, widest: int):
    return depthwise(x, kernel, dilation, widest), (x, kernel, dilation)


def _depthwise_backward(widest: int, kept: Any, cotangent: Array):
    x, kernel, dilation = kept
    back = depthwise(cotangent, kernel[::-1], dilation, widest)
    taps = _shifted(x, kernel.shape[0], dilation, widest)
    of_kernel = jnp.stack([(tap * cotangent).sum((0, 1)) for tap in taps])
    return back, of_kernel, None


depthwise.defvjp(_depthwise_forward, _depthwise_backward)


def product(x: Array, weights: Array) -> Array:
    """`[…, C] @ [C, D]`, all in one row: a gradient that sums over several axes first copies what it is taken of to
    channels first, which on CPU takes longer than the product.
    """
    return (x.reshape(-1, x.shape[-1]) @ weights).reshape(*x.shape[:-1], weights.shape[-1])


class BlockWeights(NamedTuple):
    """The parameters of one block of B channels outside and H inside; the first axis is the blocks' where stacked."""

    expand: Array  # [B, H]
    first_slope: Array  # []
    first_scale: Array  # [H]
    first_bias: Array  # [H]
    taps: Array  # [P, H]
    second_slope: Array  # []
    second_scale: Array  # [H]
    second_bias: Array  # [H]
    contract: Array  # [H, B]


def block(x: Array, weights: BlockWeights, dilation: Array | int, widest: int) -> Array:
    """1×1, PReLU, gLN, depthwise, PReLU, gLN, 1×1, and what came in: `[B, N, C]` → the same."""
    dtype = x.dtype
    hidden = checkpoint_name(product(x, weights.expand.astype(dtype)), "hidden")
    hidden = prelu_norm(hidden, weights.first_slope, weights.first_scale, weights.first_bias)
    hidden = depthwise(hidden, weights.taps.astype(dtype), dilation, widest)
    hidden = prelu_norm(hidden, weights.second_slope, weights.second_scale, weights.second_bias)
    return x + product(hidden, weights.contract.astype(dtype))


def run(x: Array, blocks: list[BlockWeights], dilations: list[int], keep: Kept) -> Array:
    """Blocks one after the other, all but the last in a loop whose body is compiled once.

    The last stands alone: where nothing before it is trained, the backward pass then ends there.
    """
    policies = jax.checkpoint_policies
    policy = {"hidden": policies.save_only_these_names("hidden"), "none": policies.nothing_saveable}
    one = partial(block, widest=max(dilations))
    if keep != "all":
        one = jax.checkpoint(one, policy=policy[keep])
    if len(blocks) > 1:
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *blocks[:-1])
        x, _ = lax.scan(lambda x, each: (one(x, *each), None), x, (stacked, jnp.array(dilations[:-1])))
    return one(x, blocks[-1], dilations[-1])


class Block(nn.Module):
    """The parameters of a block, for `run`. Matrices begin Xavier-normal, slopes at 0.25.

    # Departs from the paper: scales and biases of the norms begin at 1 and 0. In the published code they have three
    # axes and so get what is meant for matrices, noise around 0.
    """

    features: int
    hidden: int
    kernel: int

    @nn.compact
    def __call__(self) -> BlockWeights:
        xavier, ones, zeros = nn.initializers.xavier_normal(), nn.initializers.ones, nn.initializers.zeros
        slope = nn.initializers.constant(0.25)
        # As of a convolution with one input channel per group: P taps in, H · P out.
        taps = nn.initializers.normal((2.0 / (self.kernel + self.hidden * self.kernel)) ** 0.5)
        inside = (self.hidden,)
        return BlockWeights(
            self.param("expand", xavier, (self.features, self.hidden)),
            self.param("first_slope", slope, ()),
            self.param("first_scale", ones, inside),
            self.param("first_bias", zeros, inside),
            self.param("taps", taps, (self.kernel, self.hidden)),
            self.param("second_slope", slope, ()),
            self.param("second_scale", ones, inside),
            self.param("second_bias", zeros, inside),
            self.param("contract", xavier, (self.hidden, self.features)),
        )
