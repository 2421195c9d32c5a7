"""Residual networks over images (He et al. 2016) in torchvision's variant "v1.5".

In this variant the 3×3 convolution of a bottleneck has the stride, not the 1×1 convolution before it. Every convolution
pads all sides equally by `(window − 1) / 2`, whereas `qsep_jax.nn.conv.same_padding` puts an odd pixel at the end.
"""

import dataclasses
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jax import Array, lax

from qsep_jax.nn.conv_ops import NARROW, conv
from qsep_jax.nn.norms import batch_norm

EXPANSION = 4


@dataclasses.dataclass(frozen=True)
class ResNetSize:
    """The size of a residual network. The default is ResNet-50; ResNet-18 is `(2, 2, 2, 2)` without bottlenecks.

    Attributes:
      blocks: Number of blocks in each stage.
      width: Channels of the stem and of the 3×3 convolutions in the first stage; every further stage doubles them.
      bottleneck: Whether a block is 1×1, 3×3, 1×1 with four times the output channels, or 3×3, 3×3.
    """

    # Bounds as `qsep_jax.systems.bounds` reads them.
    blocks: tuple[int, ...] = dataclasses.field(default=(3, 4, 6, 3), metadata={"most": 256, "longest": 8})
    width: int = 64
    bottleneck: bool = True

    def __post_init__(self):
        if not self.blocks or min(self.blocks) < 1 or self.width < 1:
            raise ValueError(
                f"every stage needs a block and every layer a channel, not blocks {self.blocks} and width {self.width}"
            )

    @property
    def features(self) -> int:
        """Output channels of the last stage."""
        return self.width * 2 ** (len(self.blocks) - 1) * (EXPANSION if self.bottleneck else 1)

    def network(self, dtype: str = "float32", *, dilated: bool = False) -> "ResNet":
        """Create a network of this size."""
        return ResNet(self.blocks, self.width, self.bottleneck, dilated, jnp.dtype(dtype))


class ResNet(nn.Module):
    """Stem, stages of residual blocks, and the mean over the pixels: `[B, H, W, 3]` → `[B, D]` float32.

    The stem reduces height and width to a quarter, and every stage except the first one halves them.

    Attributes:
      blocks: Number of blocks in each stage.
      width: Channels of the stem, as in `ResNetSize`.
      bottleneck: Whether blocks are bottlenecks, as in `ResNetSize`.
      dilated: Whether to use the form of Sound of Pixels (Zhao et al. 2018): the last stage has dilated convolutions
        instead of a stride, and the output are its maps, `[B, H / 16, W / 16, D]` for four stages, without the mean.
      dtype: Compute type; parameters are float32.
    """

    blocks: tuple[int, ...] = (3, 4, 6, 3)
    width: int = 64
    bottleneck: bool = True
    dilated: bool = False
    dtype: jnp.dtype = jnp.dtype("float32")

    @nn.compact
    def __call__(self, images: Array, train: bool, present: Array | None = None) -> Array:
        """Compute features of images.

        Args:
          images: `[B, H, W, 3]`, values from 0 to 1 or normalised as the weights require.
          train: whether to normalise with the statistics of the batch and to update the running statistics.
          present: `[B]`, whether an image counts in those statistics; by default all images do.
        """
        x = ImageConv(self.width, 7, 2, dtype=self.dtype, name="stem")(images)
        mask = None if present is None else present.reshape(-1, 1, 1, 1).astype(bool)
        x = _max_pool(nn.relu(batch_norm(train, self.dtype, "stem_norm")(x, mask=mask)))
        for stage, count in enumerate(self.blocks):
            dilated = self.dilated and stage == len(self.blocks) - 1
            for number in range(count):
                stride = 2 if stage > 0 and number == 0 else 1
                block = Block(self.width * 2**stage, stride, dilated, self.bottleneck, self.dtype)
                x = block.copy(name=f"stage_{stage}_block_{number}")(x, train, mask)
        x = x.astype(jnp.float32)
        return x if self.dilated else x.mean((1, 2))


def apply_to_frames(
    network: ResNet,
    variables: dict[str, Any],
    frames: Array,
    present: Array,
    train: bool,
    mean: tuple[float, ...] = (0.0, 0.0, 0.0),
    deviation: tuple[float, ...] = (1.0, 1.0, 1.0),
) -> tuple[Array, dict[str, Any]]:
    """Apply a network to each video frame.

    Args:
      network: the network.
      variables: variables of a system, in which the network has the name `resnet`.
      frames: uint8, or float32 from 0 to 255, `[B, S, n, H, W, 3]`.
      present: `[B, S]`, whether a slot has a player; frames of empty slots do not count in the statistics.
      train: whether to use and update the batch norm statistics.
      mean: mean of red, green and blue, on a scale from 0 to 1, by which images are normalised.
      deviation: standard deviation of red, green and blue, by which images are normalised.

    Returns:
      The outputs `[B · S · n, …]`, and with `train` the updated `{"resnet": statistics}`, otherwise `{}`.
    """
    images = frames.reshape(-1, *frames.shape[3:]).astype(jnp.float32) / 255.0
    images = (images - jnp.asarray(mean)[None, None, None]) / jnp.asarray(deviation)[None, None, None]
    collections = {name: variables[name]["resnet"] for name in ("params", "batch_stats")}
    if not train:
        return network.apply(collections, images, False), {}  # pyright: ignore[reportReturnType]
    counted = jnp.repeat(present, frames.shape[2], axis=1).reshape(-1)
    result: Any = network.apply(collections, images, True, counted, mutable=["batch_stats"])
    outputs, changed = result
    return outputs, {"resnet": changed["batch_stats"]}


class Block(nn.Module):
    """Convolutions and a shortcut, which is a 1×1 convolution if the convolutions change the shape.

    Attributes:
      width: Channels of the 3×3 convolutions.
      stride: Stride of the block.
      dilated: Whether to replace the stride by a dilation of 2 in all 3×3 convolutions except the one that would have
        had the stride.
      bottleneck: Whether the block is a bottleneck, as in `ResNetSize`.
      dtype: Compute type; parameters are float32.
    """

    width: int
    stride: int
    dilated: bool
    bottleneck: bool
    dtype: jnp.dtype = jnp.dtype("float32")

    @nn.compact
    def __call__(self, x: Array, train: bool, mask: Array | None = None) -> Array:
        """Map `[B, H, W, C]` to `[B, H / stride, W / stride, width or 4 · width]`.

        `mask` selects the images that count in the batch norm statistics.
        """
        stride = 1 if self.dilated else self.stride
        outputs = self.width * (EXPANSION if self.bottleneck else 1)
        layers = [(self.width, 1), (self.width, 3), (outputs, 1)] if self.bottleneck else [(self.width, 3)] * 2
        strided = 1 if self.bottleneck else 0
        y = x
        for number, (features, window) in enumerate(layers):
            once_strided = self.stride > 1 and number == strided
            conv = ImageConv(
                features,
                window,
                stride if number == strided else 1,
                2 if self.dilated and window == 3 and not once_strided else 1,
                self.dtype,
                name=f"conv_{number}",
            )
            y = batch_norm(train, self.dtype, f"norm_{number}")(conv(y), mask=mask)
            if number < len(layers) - 1:
                y = nn.relu(y)
        if self.stride > 1 or x.shape[-1] != outputs:
            x = ImageConv(outputs, 1, stride, dtype=self.dtype, name="shortcut")(x)
            x = batch_norm(train, self.dtype, "shortcut_norm")(x, mask=mask)
        return nn.relu(x + y)


class ImageConv(nn.Module):
    """Convolution without bias, padded by `dilation · (window − 1) / 2` on all sides; `window` is odd.

    Each size uses the form that was fastest on CPU, forward and backward: 1×1 a matrix product (twice as fast), few
    channels XLA's convolution (the form of `conv` took 50 times as long on the 7×7 stem).
    """

    features: int
    window: int
    stride: int = 1
    dilation: int = 1
    dtype: jnp.dtype = jnp.dtype("float32")

    @nn.compact
    def __call__(self, x: Array) -> Array:
        shape = (self.window, self.window, x.shape[-1], self.features)
        he = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
        kernel, x = self.param("kernel", he, shape).astype(self.dtype), x.astype(self.dtype)
        if self.window == 1:
            return x[:, :: self.stride, :: self.stride] @ kernel[0, 0]
        strides, edge = (self.stride, self.stride), self.dilation * (self.window // 2)
        padding = ((edge, edge), (edge, edge))
        if self.dilation == 1 and x.shape[-1] > NARROW:
            return conv(x, kernel, strides, padding)
        layout, dilation = ("NHWC", "HWIO", "NHWC"), (self.dilation, self.dilation)
        return lax.conv_general_dilated(x, kernel, strides, padding, rhs_dilation=dilation, dimension_numbers=layout)


def _max_pool(x: Array) -> Array:
    """Pool maps without negative values by the maximum of 3×3 windows with stride 2.

    The shapes are `[B, H, W, C]` → `[B, ⌈H/2⌉, ⌈W/2⌉, C]`. Three shifted copies along each axis are two to three times
    as fast on CPU as XLA's pooling, forward and backward.
    """
    for axis in (1, 2):
        count = (x.shape[axis] + 1) // 2
        x = jnp.pad(x, [(1, 1) if other == axis else (0, 0) for other in range(4)])
        shifted = [lax.slice_in_dim(x, tap, tap + 2 * count - 1, 2, axis) for tap in range(3)]
        x = jnp.maximum(jnp.maximum(shifted[0], shifted[1]), shifted[2])
    return x
