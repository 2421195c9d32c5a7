"""A bundle: a trained model to share. Plain files that any tool can read, no pickle anywhere.

config.json            the resolved experiment
variables.safetensors  the variables for inference, by path
conditions.npz         conditions of the training tracks of a query-based model, for class means and retrieval
SHA256SUMS             digests of variables.safetensors and conditions.npz, which are checked when these are read
README.md              the model card
sources/               the config file, if it defines the system or a recipe (never executed by opening the bundle)
"""

import dataclasses
import hashlib
import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np
import safetensors.numpy
from flax import traverse_util

from data_pipelines.files import unfinished_folder
from data_pipelines.streams import Data
from qsep_jax.inference.bank import Bank
from qsep_jax.inference.model import Model, on_all_devices
from qsep_jax.models.tensor_files import read_tensors
from qsep_jax.runs.digests import check_sum, write_sums
from qsep_jax.runs.experiment import Experiment
from qsep_jax.runs.experiment_json import read_config, write_config
from qsep_jax.runs.folder import RunFolder, Step, bank_of
from qsep_jax.systems.base import Variables
from qsep_jax.systems.shapes import check_tree, variable_shapes
from qsep_jax.training.settings import with_precision

# What the cues are called in messages.
CUE_WORDS = {"query": "queries", "frames": "video", "score": "scores"}
# The bundled models of the package.
BUNDLED = Path(__file__).parents[1] / "weights"


@dataclasses.dataclass(frozen=True)
class Bundle:
    """Paths within a bundle, with the same methods for inference as a run folder."""

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
        """Where evaluations of the bundle go: the bundle itself does not change."""
        return Path("evaluation") / self.path.name

    def experiment(self) -> Experiment:
        """The experiment of the run that the bundle was made of.

        Raises:
          ValueError: if it is damaged or of another version.
        """
        return read_config(self.config)

    def load(self) -> tuple[Experiment, Model]:
        """The experiment and the model, on all local devices.

        Raises:
          ValueError: if the bundle is damaged or of another version, or its weights are not those of its config.
        """
        experiment = self.experiment()
        shapes = variable_shapes(experiment.system)
        try:
            flat, _ = read_tensors(self.variables)
        except (OSError, ValueError) as error:
            raise ValueError(f"{self.variables} cannot be read ({error}): copy the bundle again") from None
        check_sum(self.variables)
        check_tree(flat, shapes, str(self.variables))
        variables: dict[str, Any] = traverse_util.unflatten_dict(flat, sep="/")
        return experiment, on_all_devices(with_precision(experiment.system, experiment.train.precision), variables)

    def bank(self, model: Model, root: str = "") -> Bank:
        """The conditions of the training tracks; `root` is for run folders, which can encode them.

        Raises:
          ValueError: if the bundle has none, or they are damaged.
        """
        if self.conditions.is_file():
            check_sum(self.conditions)
        return bank_of(self.conditions, model, "copy the bundle again")


def write_bundle(out: Path, experiment: Experiment, variables: Variables, conditions: Path, card: str) -> Bundle:
    """Write a bundle; it appears when it is complete.

    The folder of the corpora, which belongs to the machine that trained the model, is left out of its config.

    Args:
      conditions: The conditions of the training tracks, if the file exists.
      card: The model card, Markdown.

    Raises:
      ValueError: if `out` exists.
      OSError: if it cannot be written.
    """
    if out.exists():
        raise ValueError(f"{out} exists already: give another --out, or remove it")
    out.parent.mkdir(parents=True, exist_ok=True)
    with unfinished_folder(out.parent, out.name) as folder:
        bundle = Bundle(folder / out.name)
        bundle.path.mkdir()
        shared = dataclasses.replace(experiment, data=dataclasses.replace(experiment.data, root=Data().root))
        write_config(bundle.config, shared)
        flat = traverse_util.flatten_dict(jax.device_get(variables), sep="/")
        packed = safetensors.numpy.save({path: np.asarray(leaf, order="C") for path, leaf in flat.items()})
        bundle.variables.write_bytes(packed)
        if conditions.exists():
            shutil.copy(conditions, bundle.conditions)
        write_sums(bundle.path, [path.name for path in (bundle.variables, bundle.conditions) if path.exists()])
        bundle.card.write_text(card)
        bundle.path.rename(out)
    return Bundle(out)


SavedModel = RunFolder | Bundle


def bundled_models() -> dict[str, Bundle]:
    """The bundled models of the package, by name."""
    return {path.name: Bundle(path) for path in sorted(BUNDLED.iterdir()) if (path / "config.json").is_file()}


def find_model(model: str, cue: str = "query", step: Step = "best") -> SavedModel:
    """The run folder, the bundle or the bundled model of this name.

    Args:
      model: A path, or the name of a bundled model; if empty, the first bundled model that is conditioned on `cue`.
      step: Checkpoint of a run folder.

    Raises:
      ValueError: if there is none, the message names the bundled models; if a run has no checkpoint of this step, the
        message lists those that it has; or if `step` is given for a bundle, which has a single checkpoint.
    """
    saved = _find(model, cue)
    if step == "best":
        return saved
    if isinstance(saved, Bundle):
        raise ValueError(f"{saved.path} is a bundle, which has one checkpoint: leave out the step ({step})")
    return saved.at(step)


def _find(model: str, cue: str) -> SavedModel:
    known = bundled_models()
    if not model:
        fitting = [bundle for bundle in known.values() if cue in bundle.experiment().system.cues]
        if not fitting:
            raise ValueError(f"no bundled model is conditioned on {CUE_WORDS.get(cue, cue)}: give --model RUN")
        return fitting[0]
    path = Path(model)
    if (path / "variables.safetensors").is_file():
        return Bundle(path)
    if not path.exists() and model in known:
        return known[model]
    if not (path / "config.json").is_file():
        fault = "it has no config.json" if path.exists() else "no such file or folder"
        raise ValueError(
            f"{model} is no run folder and no bundle: {fault}; bundled models are {', '.join(known) or 'none'}"
        )
    return RunFolder(path)


def describe(source: SavedModel) -> dict[str, Any]:
    """Which model it is, for manifests and tables."""
    if isinstance(source, Bundle):
        return {"bundle": source.path.resolve().name, "path": str(source.path)}
    return {"run": source.path.resolve().name, "path": str(source.path), "step": source.used_step()}


def identity(source: SavedModel, model: Model, bank: Bank | None) -> dict[str, Any]:
    """Which model it is, wherever it lies, with a digest of all that an estimate depends on.

    The digest tells two models of one name apart.
    """
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves((model.variables, bank.tracks if bank else ())):
        digest.update(np.asarray(leaf).tobytes())
    facts = {key: value for key, value in describe(source).items() if key != "path"}
    return {**facts, "weights": digest.hexdigest()[:16]}
