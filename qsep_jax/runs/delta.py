"""Deltas: files of the parameters that an adaptation to a song changed. The model itself is not modified."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from flax.traverse_util import flatten_dict

from data_pipelines.files import atomic_write, first_line
from data_pipelines.schema import check_name
from qsep_jax.inference.adaptation import with_parameters
from qsep_jax.inference.model import Model, condition_shapes
from qsep_jax.models.tensor_files import read_tensors
from qsep_jax.runs.bundle import SavedModel, identity
from qsep_jax.systems.one_shot import CONDITION, Adaptation
from qsep_jax.systems.shapes import check_finite

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
        parameters, metadata = read_tensors(path)
        return Delta(parameters, _stems(json.loads(metadata["stems"])), str(json.loads(metadata["base"])["weights"]))
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(
            f"{path} is damaged or is no delta of `qsep adapt` ({first_line(error)}): adapt the model to the song again"
        ) from None


def _stems(names: Any) -> tuple[str, ...]:
    """The names of stems in the metadata of a delta, which become names of files."""
    if not isinstance(names, list) or not names or len({str(name) for name in names}) < len(names):
        raise ValueError("its stems are no list of different names")
    for name in names:
        check_name(name, "the name of a stem")
    return tuple(names)


def apply(model: Model, saved: SavedModel, path: Path) -> tuple[Model, Delta]:
    """Apply the delta in the file `path` to a model: the adapted model and the delta.

    Raises:
      ValueError: if the delta cannot be read, belongs to a model with other weights, or holds parameters that do not
        fit it.
    """
    delta, weights = read(path), identity(saved, model, None)["weights"]
    if delta.base != weights:
        raise ValueError(
            f"{path} belongs to a model with the weights {delta.base}, but those of {saved.path} are {weights}: "
            "give the --model that was adapted"
        )
    _check_parameters(model, delta, path)
    return with_parameters(model, delta.parameters), delta


def _check_parameters(model: Model, delta: Delta, path: Path) -> None:
    """Check that the parameters of a delta have names, shapes and dtypes of the model's, and are finite.

    Raises:
      ValueError: if not; names the parameter.
    """
    flat: dict[str, Any] = dict(flatten_dict(model.variables["params"], sep="/"))
    expected = {name: (leaf.shape, leaf.dtype) for name, leaf in flat.items()}
    if "query" in model.system.cues:
        conditions: dict[str, Any] = dict(flatten_dict({CONDITION: condition_shapes(model)}, sep="/"))
        for name, leaf in conditions.items():
            expected[name] = ((len(delta.stems), *leaf.shape[1:]), leaf.dtype)
    elif delta.stems != model.system.stems:
        raise ValueError(f"{path} is for the stems {', '.join(delta.stems)}, not {', '.join(model.system.stems)}")
    for name, array in delta.parameters.items():
        if name not in expected:
            networks = ", ".join(model.variables["params"])
            raise ValueError(f"{path} changes '{name[:80]}', which is no parameter of the model's networks: {networks}")
        if (array.shape, array.dtype) != expected[name]:
            shape, dtype = expected[name]
            raise ValueError(
                f"{path}: '{name}' is {array.dtype} {list(array.shape)}, the model has {dtype} {list(shape)}"
            )
    if "query" in model.system.cues and not any(name.split("/")[0] == CONDITION for name in delta.parameters):
        raise ValueError(f"{path} lacks the conditions of its stems: adapt the model to the song again")
    check_finite(delta.parameters, str(path))
