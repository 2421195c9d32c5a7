"""A delta: what adapting a model to a song changed of it. A small file beside the model, which stays as it was."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError, safe_open

from data_pipelines.files import atomic_write
from qsep_jax.inference.adaptation import with_parameters
from qsep_jax.inference.model import Model
from qsep_jax.runs.bundle import SavedModel, identity
from qsep_jax.systems.one_shot import Adaptation

SUFFIX = ".safetensors"


@dataclasses.dataclass(frozen=True)
class Delta:
    """Parameters by path under `params`, as they are after the adaptation.

    Attributes:
      stems: that the model then gives, in order.
      base: the digest of the weights that they are to be put into.
    """

    parameters: dict[str, np.ndarray]
    stems: tuple[str, ...]
    base: str


def write(
    path: Path,
    parameters: dict[str, np.ndarray],
    stems: tuple[str, ...],
    adaptation: Adaptation,
    source: SavedModel,
    model: Model,
) -> None:
    """Write the parameters that an adaptation of `model` changed; the file appears when it is whole."""
    described = {
        "stems": list(stems),
        "base": identity(source, model, None),
        "adaptation": dataclasses.asdict(adaptation),
    }
    metadata = {name: json.dumps(value) for name, value in described.items()}
    with atomic_write(path) as unfinished:
        safetensors.numpy.save_file(parameters, unfinished, metadata)


def read(path: Path) -> Delta:
    """A delta from its file.

    Raises:
      ValueError: if there is none, or it is damaged or something else.
    """
    if not path.is_file():
        raise ValueError(f"there is no delta {path}: python -m qsep_jax.adapt writes one for each song")
    try:
        with safe_open(path, "numpy") as file:
            metadata: dict[str, Any] = file.metadata() or {}
            parameters = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no mapping)
        return Delta(parameters, tuple(json.loads(metadata["stems"])), json.loads(metadata["base"])["weights"])
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise ValueError(f"{path} is no delta that adapt wrote, or is damaged ({error}): adapt again") from None


def put_into(model: Model, source: SavedModel, path: Path) -> tuple[Model, Delta]:
    """A model with a delta in it, and the delta.

    Raises:
      ValueError: if the delta cannot be read, or is of another model.
    """
    delta, here = read(path), identity(source, model, None)["weights"]
    if delta.base != here:
        raise ValueError(
            f"{path} is of a model with the weights {delta.base}, not of {source.path} ({here}): give its own --model"
        )
    return with_parameters(model, delta.parameters), delta
