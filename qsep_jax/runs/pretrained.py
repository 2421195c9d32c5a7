"""Pretrained networks: initial weights from a run folder, a bundle or a file of published weights."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from qsep_jax.runs.bundle import find_model
from qsep_jax.systems.base import System, Variables
from qsep_jax.systems.shapes import check_finite, check_names_and_shapes, variable_shapes
from qsep_jax.training.settings import Train


def begin_with(system: System, weights: dict[str, str]) -> Callable[[Variables], Variables]:
    """Return a function that replaces networks of freshly initialised variables by pretrained ones.

    The files are read by this call, so that errors occur before training starts.

    Args:
      weights: Path of a run folder, a bundle or a file of published weights, by name of the network.

    Raises:
      ValueError: if a path cannot be read or does not have the network; the returned function raises it if the arrays
        do not match those of the system.
    """
    pretrained = {network: _read(system, network, Path(path)) for network, path in weights.items()}

    def load_weights(variables: Variables) -> Variables:
        replaced = dict(variables)
        for network, collections in pretrained.items():
            names = [name for name in variables if network in variables[name]]
            if not names:
                raise ValueError(f"train.weights names '{network}'; the networks are {', '.join(variables['params'])}")
            for name in names:
                where = f"{weights[network]}: {network}"
                arrays = _matched(collections.get(name, {}), variables[name][network], where)
                replaced[name] = {**replaced[name], network: arrays}
        return replaced

    return load_weights


def published_variables(system: System, weights: dict[str, str]) -> Variables:
    """Return the variables of a system of which all networks have existing weights, as numpy arrays.

    Args:
      weights: Path of a run folder, a bundle or a file of published weights, by name of the network.

    Raises:
      ValueError: if a network has no weights, or a path cannot be read or does not fit.
    """
    shapes = variable_shapes(system)
    missing = sorted({network for networks in shapes.values() for network in networks} - set(weights))
    if missing:
        networks = " ".join(f"{network} FILE" for network in (*weights, *missing))
        raise ValueError(f"there are no weights for {', '.join(missing)}: give --weights {networks}")
    return begin_with(system, weights)(shapes)


def check_required(train: Train) -> None:
    """Check that existing weights are given for all networks that must not start from random values.

    Raises:
      ValueError: if `train.weights` lacks a network of `train.requires_weights`.
    """
    missing = [network for network in train.requires_weights if not train.weights.get(network)]
    if missing:
        options = " ".join(f"--train.weights.{network} FILE" for network in missing)
        raise ValueError(f"this experiment starts from existing weights, not from random ones: give {options}")


def _read(system: System, network: str, path: Path) -> Variables:
    """The variables `{collection: tree}` of a network."""
    if path.is_dir() or not path.exists():
        model = find_model(str(path)).load()[1]
        variables = jax.device_get(model.variables)
        collections = {name: networks[network] for name, networks in variables.items() if network in networks}
        if not collections:
            raise ValueError(f"{path} has no network '{network}'; it has {', '.join(variables['params'])}")
        return collections
    return system.from_file(network, path)


def _matched(arrays: Any, like: Any, where: str) -> Any:
    """The tree `arrays` with the dtypes of the tree `like`.

    Raises:
      ValueError: if their paths or shapes differ; the message begins with `where`.
    """
    check_names_and_shapes(arrays, like, where)
    flat: dict[str, Any] = dict(flatten_dict(arrays, sep="/"))
    expected: dict[str, Any] = dict(flatten_dict(like, sep="/"))
    check_finite(flat, where)
    return unflatten_dict({path: np.asarray(flat[path], leaf.dtype) for path, leaf in expected.items()}, sep="/")
