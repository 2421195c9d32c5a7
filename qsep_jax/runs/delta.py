"""Deltas: files of the parameters that an adaptation to a song changed. The model itself is not modified."""

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
    """The changes of an adaptation.

    Attributes:
      parameters: The changed parameters after the adaptation, by path under `params`.
      stems: The stems of the adapted model, in the order of its estimates.
      base: Digest of the weights of the model that was adapted.
    """

    parameters: dict[str, np.ndarray]
    stems: tuple[str, ...]
    base: str


def write(
    path: Path,
    parameters: dict[str, np.ndarray],
    stems: tuple[str, ...],
    adaptation: Adaptation,
    saved: SavedModel,
    model: Model,
) -> None:
    """Write a delta; the file appears when it is complete.

    Args:
      parameters: The changed parameters, by path under `params`.
      stems: The stems of the adapted model.
      adaptation: The settings of the adaptation, for the record.
      saved: Where the model that was adapted is stored.
      model: The model that was adapted.
    """
    facts = {
        "stems": list(stems),
        "base": identity(saved, model, None),
        "adaptation": dataclasses.asdict(adaptation),
    }
    metadata = {name: json.dumps(value) for name, value in facts.items()}
    with atomic_write(path) as unfinished:
        safetensors.numpy.save_file(parameters, unfinished, metadata)


def read(path: Path) -> Delta:
    """Read a delta.

    Raises:
      ValueError: if the file is missing, damaged or no delta.
    """
    if not path.is_file():
        raise ValueError(f"there is no delta {path}: `qsep adapt` writes one for each song")
    try:
        with safe_open(path, "numpy") as file:
            metadata: dict[str, Any] = file.metadata() or {}
            parameters = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (the file is no mapping)
        return Delta(parameters, tuple(json.loads(metadata["stems"])), json.loads(metadata["base"])["weights"])
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise ValueError(
            f"{path} is damaged or is no delta of `qsep adapt` ({error}): adapt the model to the song again"
        ) from None


def apply(model: Model, saved: SavedModel, path: Path) -> tuple[Model, Delta]:
    """Apply the delta in the file `path` to a model: the adapted model and the delta.

    Raises:
      ValueError: if the delta cannot be read, or belongs to a model with other weights.
    """
    delta, weights = read(path), identity(saved, model, None)["weights"]
    if delta.base != weights:
        raise ValueError(
            f"{path} belongs to a model with the weights {delta.base}, but those of {saved.path} are {weights}: "
            "give the --model that was adapted"
        )
    return with_parameters(model, delta.parameters), delta
