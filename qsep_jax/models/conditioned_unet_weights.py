"""Conversion of the authors' checkpoints of the conditioned U-Net (Slizovskaia et al. 2021) to our variables.

A checkpoint is a PyTorch state dictionary of github.com/Veleslavia/conditioned-u-net. Unconditioned models and models
with labels have the names of the U-Net alone (`encoder.0.conv.weight`). Models with video have it below `audio.`, and
below `visual.` the ResNet (`model.`), the LSTM and the layer that gives the probabilities of the instruments (`fc.0`).
Layers of the authors' U-Net that no output depends on (`output.`, `classifier.`) are ignored.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from qsep_jax.models import torch_weights
from qsep_jax.models.mask_unet import MaskUNet
from qsep_jax.models.resnet import ResNet
from qsep_jax.models.torch_weights import SPECTROGRAM, Variables, Weights
from qsep_jax.models.visual import InstrumentLogits, VisualContext

AUDIO, VISUAL = "audio.", "visual."
# Layers that the authors' U-Net creates and does not use.
UNUSED = ("output.", "classifier.")
# The gates of PyTorch's LSTM in the order of their rows, by their names in flax.
GATES = "ifgo"


def unet_name(path: tuple[str, ...], levels: int) -> str:
    """Return the authors' name of a module of `MaskUNet`, such as `("decoder", "up_5")`, with this number of levels."""
    if path[0].startswith("decoder"):
        head = path[0].removeprefix("decoder").removeprefix("_") or "0"
        kind, level = path[1].split("_")
        return f"decoder.{levels - 1 - int(level)}.{head}.{ {'up': 0, 'norm': 1}[kind] }"
    kind, _, place = path[0].partition("_")
    if kind == "film":
        return f"encoder.{place}.conditioning.fc.linear" if place.isdigit() else "film.fc.linear"
    if kind == "norm":
        return f"encoder.{place}.bn"
    if kind == "down":
        return f"encoder.{place}.conv" if int(place) < levels - 1 else f"encoder.{place}"
    return path[0]  # the classifier of section 5.4, which differs from that of the authors


def unet(weights: Weights, network: MaskUNet, condition: int) -> Variables:
    """Convert the U-Net of a checkpoint.

    Args:
      weights: the weights of the checkpoint.
      network: our network.
      condition: length of the vector that FiLM is conditioned on; 0 without FiLM.

    Raises:
      ValueError: if the weights do not fit the network.
    """
    levels, pixels = len(network.channels), 2 ** len(network.channels)
    vector = jnp.zeros((1, condition)) if condition else None
    inputs = (jnp.zeros((1, pixels, pixels)), vector, False, jax.random.key(0))
    named = {_current_name(name.removeprefix(AUDIO)): value for name, value in weights.items()}
    shapes = torch_weights.shapes_of(network, *inputs)
    ignored = (VISUAL, *UNUSED)
    converted = torch_weights.convert(named, shapes, lambda path: unet_name(path, levels), ignored, SPECTROGRAM)
    flat: dict[tuple[str, ...], Any] = dict(flatten_dict(converted))
    for path, kernel in flat.items():
        if path[-2].startswith("up_"):
            level = int(path[-2].removeprefix("up_"))
            flat[path] = below_first(kernel, network.channels[level - 1] if level else 1)
    return unflatten_dict(flat)


def below_first(kernel: np.ndarray, skip: int) -> np.ndarray:
    """Reorder the inputs of a kernel `[h, w, in, out]` of the decoder.

    There the `skip` channels of the encoder come before those of the level below, here after them.
    """
    return np.concatenate([kernel[:, :, skip:], kernel[:, :, :skip]], axis=2)


def visual(weights: Weights, network: ResNet | VisualContext | InstrumentLogits) -> Variables:
    """Convert one of the networks that encode video: of a checkpoint, or a ResNet of ImageNet by itself.

    Raises:
      ValueError: if the weights do not fit the network.
    """
    named = {name.removeprefix(VISUAL): value for name, value in weights.items() if name.startswith(VISUAL)}
    if isinstance(network, ResNet):
        of_checkpoint = {
            name.removeprefix("model."): value for name, value in named.items() if name.startswith("model.")
        }
        return torch_weights.resnet(of_checkpoint or weights, network)
    if isinstance(network, InstrumentLogits):
        layer = {name: value for name, value in named.items() if name.startswith("fc.")}
        features = next((value.shape[1] for value in layer.values() if value.ndim == 2), 1)
        shapes = torch_weights.shapes_of(network, jnp.zeros((1, features)))
        return torch_weights.convert(layer, shapes, lambda path: "fc.0", ())
    return _lstm(named, network.hidden)


def _lstm(weights: Weights, hidden: int) -> Variables:
    """Convert PyTorch's LSTM of one layer; its two biases of a gate are summed to the single one of flax."""
    parts = {}
    for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
        name = f"LSTM.{part}_l0"
        if name not in weights:
            raise ValueError(f"the weights lack '{VISUAL}{name}': they are of a model without an LSTM")
        if len(weights[name]) != 4 * hidden:
            raise ValueError(f"the weight '{VISUAL}{name}' has {len(weights[name])} rows, expected {4 * hidden}")
        parts[part] = np.split(np.asarray(weights[name], np.float32), 4)
    cell = {}
    for number, gate in enumerate(GATES):
        cell[f"i{gate}"] = {"kernel": np.ascontiguousarray(parts["weight_ih"][number].T)}
        bias = parts["bias_ih"][number] + parts["bias_hh"][number]
        cell[f"h{gate}"] = {"kernel": np.ascontiguousarray(parts["weight_hh"][number].T), "bias": bias}
    return {"params": {"lstm": cell}}


def _current_name(name: str) -> str:
    """Rename a weight of an early checkpoint, in which the layers of an encoder level have numbers."""
    parts = name.split(".")
    if parts[0] == "encoder" and len(parts) == 4 and parts[2] in ("0", "1"):
        parts[2] = ("conv", "bn")[int(parts[2])]
    return ".".join(parts)
