"""Conversion of published PyTorch weights in a local file to the variables of our networks.

Supported are ResNets with the names of torchvision or Hugging Face (`microsoft/resnet-50`), and the three files of
Sound of Pixels; `conditioned_unet_weights` has the checkpoints of the conditioned U-Net. A file must hold exactly the
weights of the network: missing or additional weights and other shapes are refused, except for a classifier's last layer
and PyTorch's batch counters, which are ignored.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict

from qsep_jax.models import torch_files
from qsep_jax.models.resnet import ResNet
from qsep_jax.models.sound_of_pixels import FrameHead, SoundNet, Synthesizer
from qsep_jax.models.tensor_files import read_tensors

# PyTorch's names → arrays.
Weights = dict[str, np.ndarray]
# `{collection: tree}`.
Variables = dict[str, Any]

SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".th")
_LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}
# For each axis of our kernels, its index in PyTorch's kernels. Image kernels are `[h, w, in, out]` here and
# `[out, in, h, w]` there; spectrogram kernels are `[time, frequency, in, out]` here and `[out, in, frequency, time]`
# there.
IMAGE, SPECTROGRAM = (2, 3, 1, 0), (3, 2, 1, 0)


def read(path: Path) -> Weights:
    """Read the weights of a file as float32, without the prefix `module.` that data-parallel training adds to names.

    No code of the file is run, PyTorch is not needed, and memory is at most a few times the size of the file.

    Raises:
      ValueError: if the file does not exist, is damaged or of an unknown kind, or holds values that are not finite.
    """
    if path.suffix not in SUFFIXES:
        raise ValueError(f"{path} is not a file of PyTorch weights: its name must end with {', '.join(SUFFIXES)}")
    if not path.is_file():
        raise ValueError(f"there is no file {path}")
    try:
        weights = read_tensors(path)[0] if path.suffix == ".safetensors" else torch_files.load(path)
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read as weights: {error}") from None
    stripped = all(name.startswith("module.") for name in weights)
    for name, value in weights.items():
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            raise ValueError(f"{path}: the weight '{name[:80]}' holds values that are not finite: the file is damaged")
    return {name.removeprefix("module.") if stripped else name: value for name, value in weights.items()}


@dataclasses.dataclass(frozen=True)
class _Naming:
    """The names that a library gives to the parts of a ResNet, with placeholders for stage, block and layer."""

    stem: str
    stem_norm: str
    block: str
    conv: str
    norm: str
    shortcut: str
    shortcut_norm: str
    first_stage: int
    first_layer: int

    def name_of(self, path: tuple[str, ...]) -> str:
        """Return the name of one of our modules, such as `("stage_0_block_1", "conv_2")`."""
        if path[0] in ("stem", "stem_norm"):
            return getattr(self, path[0])
        _, stage, _, block = path[0].split("_")
        if path[1] in ("shortcut", "shortcut_norm"):
            part = getattr(self, path[1])
        else:
            kind, number = path[1].split("_")
            part = getattr(self, kind).format(int(number) + self.first_layer)
        return f"{self.block.format(int(stage) + self.first_stage, block)}.{part}"


_PARTS = ("conv{}", "bn{}", "downsample.0", "downsample.1")
_TORCHVISION = _Naming("conv1", "bn1", "layer{}.{}", *_PARTS, first_stage=1, first_layer=1)
# Sound of Pixels has torchvision's layers in a list: convolution, normalisation, ReLU, pooling, the stages.
_LISTED = _Naming("features.0", "features.1", "features.{}.{}", *_PARTS, first_stage=4, first_layer=1)
_HUGGING_FACE = _Naming(
    "embedder.embedder.convolution",
    "embedder.embedder.normalization",
    "encoder.stages.{}.layers.{}",
    "layer.{}.convolution",
    "layer.{}.normalization",
    "shortcut.convolution",
    "shortcut.normalization",
    first_stage=0,
    first_layer=0,
)


def resnet(weights: Weights, network: ResNet) -> Variables:
    """Convert a ResNet with the names of torchvision, Hugging Face, or the frame network of Sound of Pixels.

    Raises:
      ValueError: if the weights do not fit the network.
    """
    weights = {name.removeprefix("resnet."): value for name, value in weights.items()}
    naming, last = _TORCHVISION, ("fc.",)
    if any(name.startswith("embedder.") for name in weights):
        naming, last = _HUGGING_FACE, ("classifier.",)
    elif any(name.startswith("features.") for name in weights):
        naming = _LISTED
    shapes = shapes_of(network, jnp.zeros((1, 32, 32, 3)), False)
    return convert(weights, shapes, naming.name_of, last)


def frame_head(weights: Weights, network: FrameHead, features: int) -> Variables:
    """Convert the last layer of Sound of Pixels' frame network, whose input maps have `features` channels."""
    shapes = shapes_of(network, jnp.zeros((1, 1, 1, 1, features)))
    return convert(weights, shapes, lambda path: "fc", ("features.",))


def sound_net(weights: Weights, network: SoundNet) -> Variables:
    """Convert Sound of Pixels' U-Net, in which each level is nested among the layers of the outer level."""
    innermost = network.levels - 1

    def name_of(path: tuple[str, ...]) -> str:
        if path[0] == "input_norm":
            return "bn0"
        kind, level = path[0].rsplit("_", 1)
        depth = int(level)
        prefix = "unet_block." + "".join(f"model.{1 if outer == 0 else 3}." for outer in range(depth))
        if depth == 0:
            index = {"down": 0, "up": 4}[kind]
        elif depth == innermost:
            index = {"down": 1, "up": 4, "up_norm": 5}[kind]
        else:
            index = {"down": 1, "down_norm": 2, "up": 6, "up_norm": 7}[kind]
        return f"{prefix}model.{index}"

    pixels = 2**network.levels
    shapes = shapes_of(network, jnp.zeros((1, pixels, pixels)), False)
    return convert(weights, shapes, name_of, (), SPECTROGRAM)


def synthesizer(weights: Weights, outputs: int) -> Variables:
    """Convert Sound of Pixels' weighted sum over `outputs` channels."""
    shapes = shapes_of(Synthesizer(), jnp.zeros((1, 1, outputs)), jnp.zeros((1, 1, 1, outputs)))
    # The parameters belong to no submodule and have the same names as here.
    return convert(weights, shapes, lambda path: "", (), leaves={"scale": "scale", "bias": "bias"})


def shapes_of(network: nn.Module, *inputs: Any) -> Variables:
    """Return the shapes of the variables of a network for these inputs."""
    return jax.eval_shape(lambda: network.init(jax.random.key(0), *inputs))  # pyright: ignore[reportReturnType]


def convert(
    weights: Weights,
    shapes: Variables,
    name_of: Callable[[tuple[str, ...]], str],
    ignored: tuple[str, ...],
    axes: tuple[int, ...] = IMAGE,
    leaves: dict[str, str] = _LEAVES,
) -> Variables:
    """Convert weights to a tree like `shapes`.

    Args:
      weights: the weights by PyTorch's names.
      shapes: shapes of the variables, by collection.
      name_of: maps the path of one of our modules to PyTorch's name of it.
      ignored: beginnings of the names of weights that the network does not have.
      axes: order of the axes of kernels of convolutions, `IMAGE` or `SPECTROGRAM`.
      leaves: PyTorch's names of the parameters and statistics of a module, by our names.

    Raises:
      ValueError: if a weight is missing, superfluous or of another shape.
    """
    remaining = {
        name: value
        for name, value in weights.items()
        if not name.endswith("num_batches_tracked") and not name.startswith(ignored)
    }
    inverse = [axes.index(axis) for axis in range(4)]
    converted: dict[tuple[str, ...], np.ndarray] = {}
    missing: dict[str, list[int]] = {}
    for path, leaf in sorted(flatten_dict(shapes).items(), reverse=True):  # parameters before statistics
        name = f"{name_of(path[1:-1])}.{leaves[path[-1]]}".removeprefix(".")
        orders = {4: (inverse, axes), 2: ((1, 0), (1, 0))}
        there, here = orders.get(leaf.ndim, (range(leaf.ndim), range(leaf.ndim)))
        expected = [leaf.shape[axis] for axis in there]
        if name not in remaining:
            missing[name] = expected
            continue
        value = np.asarray(remaining.pop(name), np.float32)
        if list(value.shape) != expected:
            raise ValueError(f"the weight '{name}' has shape {list(value.shape)}, expected {expected}")
        converted[path] = np.ascontiguousarray(value.transpose(here))
    if missing:
        name, expected = min(missing.items())
        others = ", ".join(f"'{other}'" for other in list(weights)[:3]) or "none"
        raise ValueError(f"the weights lack '{name}', expected with shape {expected}; their first names are {others}")
    if remaining:
        name, value = next(iter(remaining.items()))
        raise ValueError(
            f"the weights contain '{name}' with shape {list(value.shape)}, which the network does not have "
            f"({len(remaining)} such weights in all): the network is of another kind or size"
        )
    return unflatten_dict(converted)
