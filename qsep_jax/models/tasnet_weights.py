"""Conversion of Conv-TasNet weights to and from the published PyTorch names (Kaituo Xu's code, demucs version 1)."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from qsep_jax.models.conv_tasnet import ConvTasNet

# PyTorch's names → arrays.
Weights = dict[str, np.ndarray]

_SEPARATOR = {
    "norm_scale": "separator.network.0.gamma",
    "norm_bias": "separator.network.0.beta",
    "bottleneck": "separator.network.1.weight",
    "mask": "separator.network.3.weight",
}
_BLOCK = {
    "expand": "net.0.weight",
    "first_slope": "net.1.weight",
    "first_scale": "net.2.gamma",
    "first_bias": "net.2.beta",
    "taps": "net.3.net.0.weight",
    "second_slope": "net.3.net.1.weight",
    "second_scale": "net.3.net.2.gamma",
    "second_bias": "net.3.net.2.beta",
    "contract": "net.3.net.3.weight",
}
_ENDS = {"encoder": "encoder.conv1d_U.weight", "decoder": "decoder.basis_signals.weight"}


def to_published(params: dict[str, Any], network: ConvTasNet) -> Weights:
    """Convert our parameters, or their gradients, to the published names and shapes."""
    flat = flatten_dict(params)
    return {_name(path): _to_published(path[-1], np.asarray(leaf), network.window) for path, leaf in flat.items()}


def from_published(weights: Weights, network: ConvTasNet, channels: int, source: str) -> dict[str, Any]:
    """Convert published weights to the tree of the network's parameters, float32.

    Args:
      weights: published names → arrays.
      network: the network that the weights must fit.
      channels: number of audio channels.
      source: name of the file, for error messages.

    Raises:
      ValueError: if names are missing or left over, or if a shape differs; the message names them.
    """
    shapes = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, network.window, channels)))["params"]
    flat: Any = flatten_dict(shapes)
    names = {path: _name(path) for path in flat}
    missing, surplus = set(names.values()) - set(weights), set(weights) - set(names.values())
    if missing or surplus:
        parts = [f"{len(missing)} are missing, such as {min(missing)}"] if missing else []
        parts += [f"{len(surplus)} are left over, such as {min(surplus)}"] if surplus else []
        size = f"{network.repeats} repeats of {network.blocks} blocks"
        raise ValueError(f"{source} is not a Conv-TasNet of {size}: of its weights {' and '.join(parts)}")
    params = {}
    for path, name in names.items():
        expected = _to_published(path[-1], np.empty(flat[path].shape, np.float32), network.window).shape
        if weights[name].shape != expected:
            raise ValueError(f"{source}: {name} has the shape {weights[name].shape}, the network needs {expected}")
        params[path] = _from_published(
            path[-1], np.asarray(weights[name], np.float32), flat[path].shape, network.window
        )
    return unflatten_dict(params)


def _name(path: tuple[str, ...]) -> str:
    if path[0] != "separator":
        return _ENDS[path[0]]
    if len(path) == 2:
        return _SEPARATOR[path[1]]
    repeat, block = (int(part.split("_")[1]) - 1 for part in path[1:3])
    return f"separator.network.2.{repeat}.{block}.{_BLOCK[path[3]]}"


def _to_published(kind: str, leaf: np.ndarray, window: int) -> np.ndarray:
    if kind == "encoder":  # [L · C, F] → [F, C, L]
        return leaf.reshape(window, -1, leaf.shape[-1]).transpose(2, 1, 0)
    if kind == "decoder":  # [F, L · C] → [C · L, F]
        return leaf.reshape(leaf.shape[0], window, -1).transpose(2, 1, 0).reshape(-1, leaf.shape[0])
    if kind == "taps":  # [P, H] → [H, 1, P]
        return leaf.T[:, None]
    if kind.endswith("slope"):
        return leaf.reshape(1)
    return leaf.reshape(1, -1, 1) if leaf.ndim == 1 else leaf.T[..., None]


def _from_published(kind: str, leaf: np.ndarray, shape: tuple[int, ...], window: int) -> np.ndarray:
    if kind == "encoder":
        return leaf.transpose(2, 1, 0).reshape(shape)
    if kind == "decoder":
        return leaf.reshape(-1, window, shape[0]).transpose(2, 1, 0).reshape(shape)
    if kind == "taps":
        return leaf[:, 0].T
    return leaf.reshape(shape) if len(shape) < 2 else leaf[..., 0].T
