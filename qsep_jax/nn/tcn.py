"""The temporal convolution network of Conv-TasNet: residual blocks of dilated depthwise convolutions.

Luo, Mesgarani 2019. Convolutions with a window of one are computed as matrix products, and depthwise convolutions as
sums of shifted copies. Both remain fast under `vmap` over weights, when every song has its own; XLA's convolutions do
not on CPU.
"""

from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array, lax
from jax.ad_checkpoint import checkpoint_name

EPSILON = 1e-8
# Activations of a block that are stored for the backward pass in addition to its input: all of them; the input of the
# first non-linearity, from which the others are recomputed without repeating the first matrix product; or none.
StoredActivations = Literal["all", "hidden", "none"]


def wide(x: Array) -> Array:
    """Convert to float32, or keep float64: the type for statistics and for sums over many samples."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


@jax.custom_vjp
def prelu_norm(x: Array, slope: Array, scale: Array, bias: Array) -> Array:
    """Compute `γ (p − μ) / √(σ² + ε) + β` of `p = PReLU(x)`, with statistics over all frames and channels.

    The shape is `[B, N, H]` → `[B, N, H]`. Luo, Mesgarani 2019, Eq. 10 to 12 (global layer norm, gLN), with statistics
    in float32. The gradient is written by hand because it then needs only two sums over frames.
    """
    return _prelu_norm_forward(x, slope, scale, bias)[0]


def _prelu_norm_forward(x: Array, slope: Array, scale: Array, bias: Array):
    p = _prelu(x, slope)
    mean = _over_all(p.sum(1), p.size)
    deviation = lax.rsqrt(_over_all(jnp.square(p - mean).sum(1), p.size) + EPSILON)
    factor = scale[None, None] * deviation
    y = (factor * p + (bias[None, None] - factor * mean)).astype(x.dtype)
    return y, (x, slope, scale, mean, deviation)


def _prelu_norm_backward(saved: tuple[Array, ...], cotangent: Array):
    x, slope, scale, mean, deviation = saved
    scale = scale[None, None]
    p, g = _prelu(x, slope), wide(cotangent)
    of_bias, of_scale = _over_frames(g), deviation * _over_frames(g * (p - mean))
    constant, along = _over_all(scale * of_bias, p.size), _over_all(scale * of_scale, p.size)
    back = deviation * (scale * g - constant - deviation * along * (p - mean))
    of_slope = jnp.where(x < 0, x * back, 0.0).sum()
    back = jnp.where(x < 0, slope * back, back).astype(x.dtype)
    return back, of_slope, of_scale.sum((0, 1)), of_bias.sum((0, 1))


def _over_frames(x: Array) -> Array:
    """Sum `[B, N, H]` over frames to `[B, 1, H]` by a matrix product.

    On CPU, XLA's own sum reads one column after the other if its operand contains a `where`.
    """
    return jnp.matmul(jnp.ones((1, 1, x.shape[1]), x.dtype), x, precision=lax.Precision.HIGHEST)


def _over_all(sums: Array, size: int) -> Array:
    """Compute the mean over frames and channels of each example, `[B, 1, 1]`, from sums over frames.

    `size` is the number of elements of the batch.
    """
    batch = sums.shape[0]
    return sums.reshape(batch, 1, -1).sum(-1, keepdims=True) * (batch / size)


prelu_norm.defvjp(_prelu_norm_forward, _prelu_norm_backward)


def _prelu(x: Array, slope: Array) -> Array:
    x = wide(x)
    return jnp.where(x >= 0, x, slope * x)


def channel_layer_norm(x: Array, scale: Array, bias: Array) -> Array:
    """Compute `γ (x − μ) / √(σ² + ε) + β` with statistics over the channels of each frame of `[B, N, F]` (cLN)."""
    centered = wide(x) - wide(x).mean(-1, keepdims=True)
    normal = centered * lax.rsqrt(jnp.square(centered).mean(-1, keepdims=True) + EPSILON)
    return (scale[None, None] * normal + bias[None, None]).astype(x.dtype)


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def depthwise(x: Array, kernel: Array, dilation: Array | int, widest: int) -> Array:
    """Convolve each channel of `[B, N, H]` with its column of a kernel `[P, H]`, zero-padded: `[B, N, H]`.

    Args:
      x: `[B, N, H]`.
      kernel: `[P, H]`, P odd.
      dilation: distance of neighbouring taps in frames; may be traced, so that blocks can be scanned.
      widest: static upper bound of the dilation.
    """
    taps = _shifted(x, kernel.shape[0], dilation, widest)
    total = kernel[0][None, None] * taps[0]
    for weights, tap in zip(kernel[1:], taps[1:], strict=True):
        total += weights[None, None] * tap
    return total


def _shifted(x: Array, count: int, dilation: Array | int, widest: int) -> list[Array]:
    """Shift `x` to the frames that each of `count` taps reads."""
    middle, frames = count // 2, x.shape[1]
    padded = jnp.pad(x, ((0, 0), (middle * widest, middle * widest), (0, 0)))
    starts = [middle * widest + (tap - middle) * dilation for tap in range(count)]
    return [lax.dynamic_slice_in_dim(padded, start, frames, axis=1) for start in starts]


def _depthwise_forward(x: Array, kernel: Array, dilation: Array | int, widest: int):
    return depthwise(x, kernel, dilation, widest), (x, kernel, dilation)


def _depthwise_backward(widest: int, saved: Any, cotangent: Array):
    x, kernel, dilation = saved
    back = depthwise(cotangent, kernel[::-1], dilation, widest)
    taps = _shifted(x, kernel.shape[0], dilation, widest)
    of_kernel = jnp.stack([(tap * cotangent).sum((0, 1)) for tap in taps])
    return back, of_kernel, None


depthwise.defvjp(_depthwise_forward, _depthwise_backward)


def product(x: Array, weights: Array) -> Array:
    """Compute `[…, C] @ [C, D]` with all leading axes flattened into one.

    The gradient of a product that sums over several axes first copies its operand to a channels-first layout, which on
    CPU takes longer than the product.
    """
    return (x.reshape(-1, x.shape[-1]) @ weights).reshape(*x.shape[:-1], weights.shape[-1])


class BlockWeights(NamedTuple):
    """Parameters of one block with B bottleneck and H hidden channels; stacked blocks add a leading axis."""

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
    """Apply 1×1, PReLU, gLN, depthwise, PReLU, gLN, 1×1 and add the input: `[B, N, C]` → `[B, N, C]`."""
    dtype = x.dtype
    hidden = checkpoint_name(product(x, weights.expand.astype(dtype)), "hidden")
    hidden = prelu_norm(hidden, weights.first_slope, weights.first_scale, weights.first_bias)
    hidden = depthwise(hidden, weights.taps.astype(dtype), dilation, widest)
    hidden = prelu_norm(hidden, weights.second_slope, weights.second_scale, weights.second_bias)
    return x + product(hidden, weights.contract.astype(dtype))


def run(x: Array, blocks: list[BlockWeights], dilations: list[int], keep: StoredActivations) -> Array:
    """Apply blocks in sequence, all but the last one in a loop whose body is compiled once.

    The last block is outside of the loop so that the backward pass ends there if no earlier block is trained.
    """
    policies = jax.checkpoint_policies
    policy = {"hidden": policies.save_only_these_names("hidden"), "none": policies.nothing_saveable}
    apply_block = partial(block, widest=max(dilations))
    if keep != "all":
        apply_block = jax.checkpoint(apply_block, policy=policy[keep])
    if len(blocks) > 1:
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *blocks[:-1])
        x, _ = lax.scan(lambda x, inputs: (apply_block(x, *inputs), None), x, (stacked, jnp.array(dilations[:-1])))
    return apply_block(x, blocks[-1], dilations[-1])


class Block(nn.Module):
    """Creates the parameters of a block for `run`: matrices are initialised Xavier-normal, slopes at 0.25.

    Departs from the paper: scales and biases of the norms are initialised to 1 and 0. In the published code these
    parameters have three axes and therefore get the initialisation that is meant for matrices, noise around 0.

    Attributes:
      features: Bottleneck channels.
      hidden: Hidden channels.
      kernel: Taps of the depthwise convolution.
    """

    features: int
    hidden: int
    kernel: int

    @nn.compact
    def __call__(self) -> BlockWeights:
        xavier, ones, zeros = nn.initializers.xavier_normal(), nn.initializers.ones, nn.initializers.zeros
        slope = nn.initializers.constant(0.25)
        # Xavier-normal for a convolution with one input channel per group: P inputs and H · P outputs.
        taps = nn.initializers.normal((2.0 / (self.kernel + self.hidden * self.kernel)) ** 0.5)
        shape = (self.hidden,)
        return BlockWeights(
            self.param("expand", xavier, (self.features, self.hidden)),
            self.param("first_slope", slope, ()),
            self.param("first_scale", ones, shape),
            self.param("first_bias", zeros, shape),
            self.param("taps", taps, (self.kernel, self.hidden)),
            self.param("second_slope", slope, ()),
            self.param("second_scale", ones, shape),
            self.param("second_bias", zeros, shape),
            self.param("contract", xavier, (self.hidden, self.features)),
        )
