"""Networks that do not start from scratch: their weights from a run, a bundle or a published file."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from qsep_jax.runs.bundle import find_model
from qsep_jax.systems.base import System, Variables


def begin_with(system: System, weights: dict[str, str]) -> Callable[[Variables], Variables]:
    """Puts the networks that `weights` names, by what is in their files, into fresh variables.

    What is found is what the run depends on, so it is read at once.

    Raises:
      ValueError: if a file cannot be read or holds no such network.
    """
    found = {network: _read(system, network, Path(place)) for network, place in weights.items()}

    def begin(variables: Variables) -> Variables:
        changed = dict(variables)
        for network, collections in found.items():
            there = [name for name in variables if network in variables[name]]
            if not there:
                raise ValueError(f"train.weights names '{network}'; the networks are {', '.join(variables['params'])}")
            for name in there:
                fitted = _fitted(collections.get(name, {}), variables[name][network], f"{weights[network]}: {network}")
                changed[name] = {**changed[name], network: fitted}
        return changed

    return begin


def _read(system: System, network: str, path: Path) -> Variables:
    if path.is_dir() or not path.exists():
        model = find_model(str(path)).load()[1]
        variables = jax.device_get(model.variables)
        found = {name: networks[network] for name, networks in variables.items() if network in networks}
        if not found:
            raise ValueError(f"{path} has no network '{network}'; it has {', '.join(variables['params'])}")
        return found
    return system.from_file(network, path)


def _fitted(found: Any, wanted: Any, where: str) -> Any:
    """The arrays of `found` in the places of `wanted`."""
    flat: dict[str, Any] = dict(flatten_dict(found, sep="/"))
    expected: dict[str, Any] = dict(flatten_dict(wanted, sep="/"))
    if missing := sorted(set(flat) ^ set(expected)):
        raise ValueError(f"{where} is of another form: '{missing[0]}' is in only one of file and model")
    for path, leaf in expected.items():
        if np.shape(flat[path]) != leaf.shape:
            raise ValueError(f"{where}/{path} has shape {np.shape(flat[path])}, this model expects {leaf.shape}")
    return unflatten_dict({path: np.asarray(flat[path], leaf.dtype) for path, leaf in expected.items()}, sep="/")
