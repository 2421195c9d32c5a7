"""Run folders: all files of a run, which include those that the inference commands need.

config.json        the resolved experiment
environment.json   versions, devices and git commit of each start of the run
metrics.jsonl, tensorboard/, checkpoints/
sources/           the config file, if it defines the system or a recipe
conditions.npz     conditions of the training tracks of a query-based model, for class means and retrieval, by the best
                   checkpoint of the finished run; conditions_step_N.npz by the checkpoint of step N
evaluation/        results.json, table.md, audio, figure; step_N/ of a checkpoint that was chosen by its step
"""

import dataclasses
import importlib.metadata
import json
import platform
import shutil
import subprocess
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import jax

from data_pipelines.files import read_json, write_json
from qsep_jax.inference.bank import Bank
from qsep_jax.inference.model import Model, condition_shapes, on_all_devices
from qsep_jax.runs.class_means import encode_training_tracks
from qsep_jax.runs.experiment import Experiment
from qsep_jax.runs.experiment_json import read_config, to_json, write_config
from qsep_jax.systems.shapes import check_tree, variable_shapes
from qsep_jax.training.settings import with_precision
from qsep_jax.training.state import inference_variables

if TYPE_CHECKING:
    from qsep_jax.training.checkpoint import Checkpoints

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")
# Fields that may change between two starts of the same run, because training does not depend on them.
MAY_CHANGE = (
    "data.root",
    "evaluation",
    "sources",  # a changed file of code is reported by a warning
    "train.evaluate",
    "train.keep",
    "train.log_every",
    "train.requires_weights",  # checked before training
    "train.summary_every",
    "train.trace_from",
    "train.trace_steps",
    "train.workers",
)


# Which checkpoint of a run to use: its step, the last one, or the one with the lowest validation loss.
Step = int | Literal["best", "last"]


@dataclasses.dataclass(frozen=True)
class RunFolder:
    """Paths within a run folder.

    Attributes:
      path: The folder.
      step: Step of the checkpoint that is used; None for the best one.
    """

    path: Path
    step: int | None = None

    @property
    def config(self) -> Path:
        return self.path / "config.json"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def conditions(self) -> Path:
        return self.path / ("conditions.npz" if self.step is None else f"conditions_step_{self.step}.npz")

    @property
    def evaluation(self) -> Path:
        folder = self.path / "evaluation"
        return folder if self.step is None else folder / f"step_{self.step}"

    def at(self, step: Step) -> "RunFolder":
        """Return the same run with another checkpoint.

        Raises:
          ValueError: if there is no checkpoint of this step; the message lists those that exist.
        """
        if step == "best":
            return RunFolder(self.path)
        steps = self.steps()
        if not steps:
            raise ValueError(f"{self.path} holds no complete checkpoint yet: train it first")
        chosen = steps[-1] if step == "last" else step
        if chosen not in steps:
            raise ValueError(
                f"{self.path} has no checkpoint of step {chosen}; it has {', '.join(map(str, steps))} "
                "(train.keep says how many of the latest are kept)"
            )
        return RunFolder(self.path, chosen)

    def create_or_check(self, experiment: Experiment) -> None:
        """Create the folder for an experiment, or check that an existing one belongs to the same experiment.

        Raises:
          ValueError: if the folder belongs to another experiment (the message names the first field that differs), or
            holds other files.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        if self.config.exists():
            before, now = json.loads(to_json(self.experiment())), json.loads(to_json(experiment))
            schedules = {phase.optimizer.schedule for phase in experiment.system.phases()}
            free = MAY_CHANGE if "cosine" in schedules else (*MAY_CHANGE, "train.steps")
            different = [field for field in _differences(before, now) if not _is_one_of(field[0], free)]
            if different:
                name, old, new = different[0]
                raise ValueError(
                    f"{self.path} holds a run with {name} = {old}, not {new}: give another --workdir, or the same value"
                )
            if before.get("sources") != now.get("sources"):
                message = f"{self.path} continues with a config file that has changed since the run was started"
                warnings.warn(message, stacklevel=2)
        elif any(self.path.iterdir()):
            raise ValueError(f"{self.path} is not empty and holds no run (no config.json): give another --workdir")
        path, remedy = self.path / "environment.json", "remove it, and this start is recorded in a new file"
        starts = read_json(path, remedy) if path.exists() else []
        if not isinstance(starts, list):
            raise ValueError(f"{path} is no list of the starts of a run: {remedy}")
        write_config(self.config, experiment)
        write_json(path, [*starts, environment()])

    def remove_unused(self) -> None:
        """Remove the folder of a run that was refused before its first step, so that nothing was computed in it."""
        if self.path.joinpath("metrics.jsonl").exists() and self.path.joinpath("metrics.jsonl").stat().st_size:
            return
        known = {"config.json", "environment.json", "metrics.jsonl", "sources", "tensorboard", "checkpoints"}
        names = {path.name for path in self.path.iterdir()}
        if names <= known and not (self.checkpoints.is_dir() and any(self.checkpoints.glob("step_*[0-9]"))):
            shutil.rmtree(self.path)

    def experiment(self) -> Experiment:
        """The experiment of the run.

        Raises:
          ValueError: if the folder is no run folder, or its config is damaged or of another version.
        """
        if not self.config.is_file():
            raise ValueError(f"{self.path} is no run folder: it has no config.json")
        return read_config(self.config)

    def load(self) -> tuple[Experiment, Model]:
        """The experiment and the model of the checkpoint, on all local devices.

        Raises:
          ValueError: if the folder is no run folder or has no complete checkpoint, or the checkpoint is damaged or of
            another system.
        """
        experiment, step = self.experiment(), self.used_step()
        shapes = variable_shapes(experiment.system)
        with self.open_checkpoints() as checkpoints:
            variables = inference_variables(*checkpoints.restore_variables(step))
        check_tree(variables, shapes, f"{self.checkpoints}: step {step}")
        return experiment, on_all_devices(with_precision(experiment.system, experiment.train.precision), variables)

    def steps(self) -> list[int]:
        """The steps of all complete checkpoints, in ascending order."""
        if not self.checkpoints.is_dir():
            return []
        with self.open_checkpoints() as checkpoints:
            return checkpoints.steps()

    def used_step(self) -> int:
        """The step of the checkpoint that is used.

        Raises:
          ValueError: if there is no complete checkpoint.
        """
        return self.best_step() if self.step is None else self.step

    def best_step(self) -> int:
        """The step of the best checkpoint.

        Raises:
          ValueError: if there is no complete checkpoint.
        """
        if not self.checkpoints.is_dir():
            raise ValueError(f"{self.path} holds no checkpoint yet: train it first")
        with self.open_checkpoints() as checkpoints:
            step = checkpoints.best()
        if step is None:
            raise ValueError(f"{self.path} holds no complete checkpoint yet: train it first")
        return step

    def open_checkpoints(self) -> "Checkpoints":
        """Open the checkpoints for reading; leave the `with` block of the result soon."""
        from qsep_jax.training.checkpoint import Checkpoints  # orbax takes a quarter of a second to import

        return Checkpoints(self.checkpoints, self.experiment().train.keep, independent=True)

    def bank(self, model: Model, root: str = "") -> Bank:
        """The conditions of the training tracks.

        A finished run has those of its best checkpoint. Those of another checkpoint, or of an unfinished run, are
        encoded when they are first needed, and kept in a file of that step.

        Args:
          model: The model of the checkpoint.
          root: Folder of the prepared corpora; by default that of the run.

        Raises:
          ValueError: if a file is damaged, or the training corpus is needed and not prepared.
        """
        finished = RunFolder(self.path).conditions
        if finished.exists() and self.step in (None, self.best_step()):
            return bank_of(finished, model, _TRAIN_AGAIN)
        run = RunFolder(self.path, self.used_step())
        if not run.has_bank(model):
            experiment, model_of_step = run.load()
            data = dataclasses.replace(experiment.data, root=root or experiment.data.root)
            encode_training_tracks(dataclasses.replace(experiment, data=data), model_of_step).save(run.conditions)
        return bank_of(run.conditions, model, _TRAIN_AGAIN)

    def has_bank(self, model: Model) -> bool:
        """Whether `conditions` exists and can be read; warns of a damaged file, which the caller writes anew."""
        if not self.conditions.exists():
            return False
        try:
            bank_of(self.conditions, model, "it is written anew")
        except ValueError as error:
            warnings.warn(str(error), stacklevel=2)
            return False
        return True

    def keep_bank(self, model: Model) -> None:
        """Write `conditions` of a query-based model, if its checkpoint was chosen by its step, and check the file.

        Raises:
          ValueError: if the training corpus is needed and not prepared, or the file of a finished run is damaged.
        """
        if "query" not in model.system.cues:
            return
        if self.step is not None and not self.has_bank(model):
            self.bank(model).save(self.conditions)
        if self.conditions.exists():
            bank_of(self.conditions, model, _TRAIN_AGAIN)


# What to do about a damaged file of conditions.
_TRAIN_AGAIN = "start the same `qsep train` again, which writes the file anew"


def bank_of(path: Path, model: Model, remedy: str) -> Bank:
    """The conditions of the training tracks in a file, with the structure of the model's conditions.

    Args:
      remedy: What the user can do about a file that is damaged.

    Raises:
      ValueError: if the file is missing or damaged.
    """
    return Bank.load(path, condition_shapes(model), remedy)


def commit() -> str | None:
    """The git commit of this code, followed by `-dirty` if files have changed; None outside of a repository."""
    described = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=40"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return described.stdout.strip() or None


def environment() -> dict[str, object]:
    """Versions, platform, devices and git commit of this process."""
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "python": platform.python_version(),
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
        "platform": platform.platform(),
        "devices": [device.device_kind for device in jax.devices()],
        "processes": jax.process_count(),
        "commit": commit(),
    }


def _is_one_of(field: str, names: tuple[str, ...]) -> bool:
    return any(field == name or field.startswith(f"{name}.") for name in names)


def _differences(before: object, now: object, name: str = "") -> list[tuple[str, object, object]]:
    """The fields that differ, by their dotted names, with both values."""
    if isinstance(before, dict) and isinstance(now, dict):
        keys = dict.fromkeys([*before, *now])
        return [
            difference
            for key in keys
            for difference in _differences(before.get(key), now.get(key), f"{name}.{key}" if name else str(key))
        ]
    return [] if before == now else [(name, before, now)]
