"""Published PyTorch weights in a local file, put into the trees of our networks by name.

Known are ResNets in the naming of torchvision and of Hugging Face (`microsoft/resnet-50`), and the three files of Sound
of Pixels. A file must hold exactly what the network has: whatever is missing, left over or of another shape is refused,
but for a classifier's last layer and PyTorch's counts of batches.
"""

import dataclasses
import gzip
import io
import pickle
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict

from qsep_jax.models.resnet import ResNet
from qsep_jax.models.sound_of_pixels import FrameHead, SoundNet, Synthesizer

# By PyTorch's names.
Weights = dict[str, np.ndarray]
# `{collection: tree}`
Variables = dict[str, Any]

_CONTAINERS = (("collections", "OrderedDict"),)
# Packages whose pickles hold the class of the model beside its weights.
_MODELS = ("demucs",)
SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".th")
_LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}
# Where the axes of our kernels `[h, w, in, out]` are in PyTorch's: images are `[out, in, h, w]`; spectrograms are
# `[out, in, frequency, time]` there and `[time, frequency, in, out]` here.
_IMAGE, _SPECTROGRAM = (2, 3, 1, 0), (3, 2, 1, 0)


def read(path: Path) -> Weights:
    """The weights in a file, float32, without the `module.` that training on several GPUs puts before the names.

    Raises:
      ValueError: if there is no such file, it is damaged or of an unknown kind, or PyTorch, which it takes, is missing.
    """
    if path.suffix not in SUFFIXES:
        raise ValueError(f"{path} is no file of PyTorch weights: its name must end with {', '.join(SUFFIXES)}")
    if not path.is_file():
        raise ValueError(f"there is no file {path}")
    try:
        found = safetensors.numpy.load_file(path) if path.suffix == ".safetensors" else _unpickled(path)
    except ImportError:
        raise ValueError(
            f"reading {path} needs PyTorch: convert it to .safetensors (float32), or pip install -e '.[twins]'"
        ) from None
    except Exception as error:  # both libraries raise what they like
        raise ValueError(f"{path} cannot be read as weights: {error}") from None
    stripped = all(name.startswith("module.") for name in found)
    return {name.removeprefix("module.") if stripped else name: value for name, value in found.items()}


def _unpickled(path: Path) -> Weights:
    import torch  # pyright: ignore[reportMissingImports]

    opener = gzip.open if path.read_bytes()[:2] == b"\x1f\x8b" else open
    with opener(path, "rb") as file:
        reader: Any = types.ModuleType("only_weights")
        reader.Unpickler, reader.load = _OnlyWeights, lambda file, **options: _OnlyWeights(file, **options).load()
        content = torch.load(io.BytesIO(file.read()), map_location="cpu", pickle_module=reader, weights_only=False)
    if isinstance(content, tuple):  # demucs, version 1: class, arguments, state
        content = content[-1]
    content = content.get("state_dict", content.get("state", content))
    return {name: value.detach().float().numpy() for name, value in content.items()}


class _OnlyWeights(pickle.Unpickler):
    """Reads tensors and plain containers. The class of a model that lies beside them is read as `Unknown`, not run."""

    class Unknown:
        pass

    def find_class(self, module: str, name: str) -> Any:
        tensors = module == "torch._utils" and name in ("_rebuild_tensor_v2", "_rebuild_parameter")
        if tensors or (module == "torch" and name.endswith("Storage")) or (module, name) in _CONTAINERS:
            return super().find_class(module, name)
        if module.split(".")[0] in _MODELS:
            return self.Unknown
        raise pickle.UnpicklingError(f"it holds {module}.{name}, which is no weight")


@dataclasses.dataclass(frozen=True)
class _Naming:
    """How a library names the parts of a ResNet, with places for the numbers of stage, block and layer."""

    stem: str
    stem_norm: str
    block: str
    conv: str
    norm: str
    shortcut: str
    shortcut_norm: str
    first_stage: int
    first_layer: int

    def of(self, path: tuple[str, ...]) -> str:
        """The name of a part of ours: `("stage_0_block_1", "conv_2")`."""
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
# Sound of Pixels keeps torchvision's layers in a list: convolution, normalisation, ReLU, pooling, the stages.
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
    """A ResNet in torchvision's or Hugging Face's naming, or within the frame network of Sound of Pixels.

    Raises:
      ValueError: if the weights are not those of a network of this size.
    """
    weights = {name.removeprefix("resnet."): value for name, value in weights.items()}
    naming, last = _TORCHVISION, ("fc.",)
    if any(name.startswith("embedder.") for name in weights):
        naming, last = _HUGGING_FACE, ("classifier.",)
    elif any(name.startswith("features.") for name in weights):
        naming = _LISTED
    like = _shapes(network, jnp.zeros((1, 32, 32, 3)), False)
    return _converted(weights, like, naming.of, last)


def frame_head(weights: Weights, network: FrameHead, features: int) -> Variables:
    """The last layer of Sound of Pixels' frame network, over maps of so many `features`."""
    like = _shapes(network, jnp.zeros((1, 1, 1, 1, features)))
    return _converted(weights, like, lambda path: "fc", ("features.",))


def sound_net(weights: Weights, network: SoundNet) -> Variables:
    """Sound of Pixels' U-Net, whose levels are nested there, each among the layers of the one around it."""
    innermost = network.levels - 1

    def named(path: tuple[str, ...]) -> str:
        if path[0] == "input_norm":
            return "bn0"
        kind, level = path[0].rsplit("_", 1)
        depth = int(level)
        around = "unet_block." + "".join(f"model.{1 if outer == 0 else 3}." for outer in range(depth))
        if depth == 0:
            place = {"down": 0, "up": 4}[kind]
        elif depth == innermost:
            place = {"down": 1, "up": 4, "up_norm": 5}[kind]
        else:
            place = {"down": 1, "down_norm": 2, "up": 6, "up_norm": 7}[kind]
        return f"{around}model.{place}"

    pixels = 2**network.levels
    like = _shapes(network, jnp.zeros((1, pixels, pixels)), False)
    return _converted(weights, like, named, (), _SPECTROGRAM)


def synthesizer(weights: Weights, outputs: int) -> Variables:
    """Sound of Pixels' weighted sum over `outputs` channels."""
    like = _shapes(Synthesizer(), jnp.zeros((1, 1, outputs)), jnp.zeros((1, 1, 1, outputs)))
    # Its own parameters have no module around them, and the names that they have here.
    return _converted(weights, like, lambda path: "", (), leaves={"scale": "scale", "bias": "bias"})


def _shapes(network: nn.Module, *inputs: Any) -> Variables:
    return jax.eval_shape(lambda: network.init(jax.random.key(0), *inputs))  # pyright: ignore[reportReturnType]


def _converted(
    weights: Weights,
    like: Variables,
    named: Callable[[tuple[str, ...]], str],
    ignored: tuple[str, ...],
    axes: tuple[int, ...] = _IMAGE,
    leaves: dict[str, str] = _LEAVES,
) -> Variables:
    """The weights in the tree `like`; `named` gives PyTorch's name of a module by our path to it."""
    rest = {
        name: value
        for name, value in weights.items()
        if not name.endswith("num_batches_tracked") and not name.startswith(ignored)
    }
    back = [axes.index(axis) for axis in range(4)]
    found: dict[tuple[str, ...], np.ndarray] = {}
    missing: dict[str, list[int]] = {}
    for path, leaf in sorted(flatten_dict(like).items(), reverse=True):  # parameters before statistics
        name = f"{named(path[1:-1])}.{leaves[path[-1]]}".removeprefix(".")
        expected = [leaf.shape[axis] for axis in back] if leaf.ndim == 4 else list(leaf.shape)
        if name not in rest:
            missing[name] = expected
            continue
        value = np.asarray(rest.pop(name), np.float32)
        if list(value.shape) != expected:
            raise ValueError(f"the weight '{name}' has shape {list(value.shape)}, expected {expected}")
        found[path] = np.ascontiguousarray(value.transpose(axes) if leaf.ndim == 4 else value)
    if missing:
        name, expected = min(missing.items())
        others = ", ".join(f"'{other}'" for other in list(weights)[:3]) or "nothing"
        raise ValueError(f"the weights lack '{name}', expected with shape {expected}; they begin with {others}")
    if rest:
        name, value = next(iter(rest.items()))
        raise ValueError(
            f"the weights hold '{name}' with shape {list(value.shape)}, for which the network has no place "
            f"({len(rest)} such in all): it is of another kind or size"
        )
    return unflatten_dict(found)
