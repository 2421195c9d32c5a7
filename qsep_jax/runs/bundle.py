"""A bundle: what a run becomes when it is handed on. Plain files that any tool can read, no pickle anywhere.

config.json            the resolved experiment
variables.safetensors  the variables to separate with, by path
conditions.npz         conditions of the training tracks, for class means and retrieval, where queries ask
README.md              the model card
"""

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import jax
import numpy as np
import safetensors.numpy
from flax import traverse_util
from safetensors import SafetensorError

from qsep_jax.inference.bank import Bank
from qsep_jax.inference.model import Model, on_all_devices
from qsep_jax.runs.experiment import Experiment, from_json
from qsep_jax.runs.folder import RunFolder, bank_of
from qsep_jax.training.settings import with_precision

# Bundles that the package carries.
BUNDLED = Path(__file__).parents[1] / "weights"


@dataclasses.dataclass(frozen=True)
class Bundle:
    """Paths within a bundle. Inference asks it what it asks a run folder."""

    path: Path

    @property
    def config(self) -> Path:
        return self.path / "config.json"

    @property
    def variables(self) -> Path:
        return self.path / "variables.safetensors"

    @property
    def conditions(self) -> Path:
        return self.path / "conditions.npz"

    @property
    def card(self) -> Path:
        return self.path / "README.md"

    @property
    def evaluation(self) -> Path:
        """Not within the bundle, which is finished, but here."""
        return Path("evaluation") / self.path.name

    def experiment(self) -> Experiment:
        """The experiment of the run that it was made of.

        Raises:
          ValueError: if it is damaged or of another version.
        """
        return from_json(self.config.read_text(), str(self.config))

    def load(self) -> tuple[Experiment, Model]:
        """The experiment and the model, on all local devices.

        Raises:
          ValueError: if the bundle is damaged or of another version.
        """
        experiment = self.experiment()
        try:
            flat = safetensors.numpy.load_file(self.variables)
        except (OSError, SafetensorError, ValueError) as error:
            raise ValueError(f"{self.variables} cannot be read ({error}): copy the bundle again") from None
        variables: dict[str, Any] = traverse_util.unflatten_dict(flat, sep="/")
        return experiment, on_all_devices(with_precision(experiment.system, experiment.train.precision), variables)

    def bank(self, model: Model) -> Bank:
        """The conditions of the training tracks.

        Raises:
          ValueError: if the bundle has none.
        """
        return bank_of(self.conditions, model)


SavedModel = RunFolder | Bundle


def bundled_models() -> dict[str, Bundle]:
    """The bundles that the package carries, by name."""
    return {path.name: Bundle(path) for path in sorted(BUNDLED.iterdir()) if (path / "config.json").is_file()}


def find_model(model: str, cue: str = "query") -> SavedModel:
    """The run folder, the bundle, or the carried bundle of this name; if empty, the carried one that accepts `cue`.

    Raises:
      ValueError: if there is none; names those that are carried.
    """
    known = bundled_models()
    if not model:
        fitting = [bundle for bundle in known.values() if cue in bundle.experiment().system.cues]
        if not fitting:
            raise ValueError(f"the package carries no model that is told by {cue}: give --model RUN")
        return fitting[0]
    path = Path(model)
    if (path / "variables.safetensors").is_file():
        return Bundle(path)
    if not path.exists() and model in known:
        return known[model]
    if not (path / "config.json").is_file():
        raise ValueError(
            f"{model} is no run folder and no bundle: it has no config.json; "
            f"carried models are {', '.join(known) or 'none'}"
        )
    return RunFolder(path)


def describe(source: SavedModel) -> dict[str, Any]:
    """Which model it is, for manifests and tables."""
    if isinstance(source, Bundle):
        return {"bundle": source.path.resolve().name, "path": str(source.path)}
    return {"run": source.path.resolve().name, "path": str(source.path), "step": source.best_step()}


def identity(source: SavedModel, model: Model, bank: Bank | None) -> dict[str, Any]:
    """Which model it is, wherever it lies, with a digest of all that an estimate depends on.

    Two models of one name are so never taken for one another.
    """
    found = hashlib.sha256()
    for leaf in jax.tree.leaves((model.variables, bank.tracks if bank else ())):
        found.update(np.asarray(leaf).tobytes())
    facts = {key: value for key, value in describe(source).items() if key != "path"}
    return {**facts, "weights": found.hexdigest()[:16]}
