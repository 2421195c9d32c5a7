"""Residual networks over images (He et al. 2016), in the form that torchvision gives them: "v1.5".

There the 3×3 convolution of a bottleneck has the stride, not the 1×1 before it, and every convolution pads all sides
alike, `(window − 1) / 2`, where padding that just fits a stride of 2 would put the odd pixel at the end.
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
    """How large a residual network is. The default is ResNet-50; ResNet-18 is `(2, 2, 2, 2)` without bottlenecks.

    Attributes:
      blocks: in each stage.
      width: channels of the stem and of the first stage's 3×3 convolutions; every stage doubles them.
      bottleneck: whether a block is 1×1, 3×3, 1×1 with four times the channels behind it, or 3×3 twice.
    """

    blocks: tuple[int, ...] = (3, 4, 6, 3)
    width: int = 64
    bottleneck: bool = True

    def __post_init__(self):
        if not self.blocks or min(self.blocks) < 1 or self.width < 1:
            raise ValueError(f"every stage has a block and every layer a channel: not {self.blocks}, {self.width}")

    @property
    def features(self) -> int:
        """Channels of the last stage."""
        return self.width * 2 ** (len(self.blocks) - 1) * (EXPANSION if self.bottleneck else 1)

    def network(self, dtype: str = "float32", *, dilated: bool = False) -> "ResNet":
        return ResNet(self.blocks, self.width, self.bottleneck, dilated, jnp.dtype(dtype))


class ResNet(nn.Module):
    """Stem, stages of residual blocks, and the mean over the pixels: `[B, H, W, 3]` → `[B, D]` float32.

    Every stage but the first halves the image, the stem quarters it.

    Attributes:
      blocks, width, bottleneck: as in `ResNetSize`.
      dilated: the form of Sound of Pixels (Zhao et al. 2018): the last stage keeps the size that it is given and
        spreads its taps instead, and the maps come out as they are, `[B, H / 16, W / 16, D]` for four stages.
    """

    blocks: tuple[int, ...] = (3, 4, 6, 3)
    width: int = 64
    bottleneck: bool = True
    dilated: bool = False
    dtype: jnp.dtype = jnp.dtype("float32")

    @nn.compact
    def __call__(self, images: Array, train: bool, present: Array | None = None) -> Array:
        """Images as numbers from 0 to 1, or normalised as the weights want them.

        Args:
          train: normalise with the statistics of the batch, and move the running ones.
          present: `[B]`, images that count in those statistics; by default all.
        """
        x = ImageConv(self.width, 7, 2, dtype=self.dtype, name="stem")(images)
        mask = None if present is None else present.reshape(-1, 1, 1, 1).astype(bool)
        x = _max_pool(nn.relu(batch_norm(train, self.dtype, "stem_norm")(x, mask=mask)))
        for stage, count in enumerate(self.blocks):
            spread = self.dilated and stage == len(self.blocks) - 1
            for number in range(count):
                stride = 2 if stage > 0 and number == 0 else 1
                block = Block(self.width * 2**stage, stride, spread, self.bottleneck, self.dtype)
                x = block.copy(name=f"stage_{stage}_block_{number}")(x, train, mask)
        x = x.astype(jnp.float32)
        return x if self.dilated else x.mean((1, 2))


def over_frames(
    network: ResNet,
    variables: dict[str, Any],
    frames: Array,
    present: Array,
    train: bool,
    mean: tuple[float, ...] = (0.0, 0.0, 0.0),
    deviation: tuple[float, ...] = (1.0, 1.0, 1.0),
) -> tuple[Array, dict[str, Any]]:
    """What a network makes of each video frame, `[B · S · n, …]`, and with `train` its new `{"resnet": statistics}`.

    Args:
      variables: of a system, whose network is called `resnet`.
      frames: uint8 `[B, S, n, H, W, 3]`.
      present: `[B, S]`; the frames of others do not count in the statistics.
      mean, deviation: of red, green and blue, which are numbers from 0 to 1; by default left as they are.
    """
    images = frames.reshape(-1, *frames.shape[3:]).astype(jnp.float32) / 255.0
    images = (images - jnp.asarray(mean)[None, None, None]) / jnp.asarray(deviation)[None, None, None]
    collections = {name: variables[name]["resnet"] for name in ("params", "batch_stats")}
    if not train:
        return network.apply(collections, images, False), {}  # pyright: ignore[reportReturnType]
    counted = jnp.repeat(present, frames.shape[2], axis=1).reshape(-1)
    result: Any = network.apply(collections, images, True, counted, mutable=["batch_stats"])
    found, changed = result
    return found, {"resnet": changed["batch_stats"]}


class Block(nn.Module):
    """Convolutions and a shortcut around them, a 1×1 convolution where they change the shape.

    Attributes:
      width: channels of the 3×3 convolutions.
      spread: no stride but taps two pixels apart, in all 3×3 convolutions but the one that would have had the stride.
    """

    width: int
    stride: int
    spread: bool
    bottleneck: bool
    dtype: jnp.dtype = jnp.dtype("float32")

    @nn.compact
    def __call__(self, x: Array, train: bool, mask: Array | None = None) -> Array:
        """`[B, H, W, C]` → `[B, H / stride, W / stride, width or 4 · width]`."""
        stride = 1 if self.spread else self.stride
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
                2 if self.spread and window == 3 and not once_strided else 1,
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

    Each size in the form that was measured to be fastest on CPU, forward and backward: 1×1 as a matrix product (twice
    as fast), few channels as XLA has it (the form of `conv` for them took 50 times as long on the 7×7 stem).
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
        layout, spread = ("NHWC", "HWIO", "NHWC"), (self.dilation, self.dilation)
        return lax.conv_general_dilated(x, kernel, strides, padding, rhs_dilation=spread, dimension_numbers=layout)


def _max_pool(x: Array) -> Array:
    """Maxima of 3×3 pixels, two apart, of maps that are nowhere negative: `[B, H, W, C]` → `[B, ⌈H/2⌉, ⌈W/2⌉, C]`.

    Three shifted copies along each axis: on CPU two to three times as fast, both ways, as XLA's windows.
    """
    for axis in (1, 2):
        count = (x.shape[axis] + 1) // 2
        x = jnp.pad(x, [(1, 1) if other == axis else (0, 0) for other in range(4)])
        shifted = [lax.slice_in_dim(x, tap, tap + 2 * count - 1, 2, axis) for tap in range(3)]
        x = jnp.maximum(jnp.maximum(shifted[0], shifted[1]), shifted[2])
    return x
