"""Checkpoints of a run, written by orbax asynchronously and atomically; the latest few and the best one are kept.

A checkpoint has two array items, `variables` (variables and averaged parameters, which is all that inference needs) and
`training` (optimizer state and counters), and a JSON item `position` with the number of batches consumed, which is the
complete state of the input pipeline.
"""

import contextlib
import errno
import functools
import json
import os
import re
import sys
import textwrap
from functools import partial
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as managers

from data_pipelines.files import FREE_SPACE
from qsep_jax.training.sharding import abstract
from qsep_jax.training.state import TrainState


class Checkpoints:
    """The checkpoints of one run folder. Close it, or leave its `with` block, before the process ends.

    Args:
      folder: folder of the checkpoints.
      keep: number of latest checkpoints to keep in addition to the best one, which has the lowest validation loss of
        the last stage of training.
      independent: whether this process reads them without waiting for the other processes of a distributed run.

    Raises:
      ValueError: if the validation loss of a checkpoint cannot be read; the message names the checkpoint.
      OSError: if the folder cannot be written.
    """

    def __init__(self, folder: Path, keep: int = 2, *, independent: bool = False):
        self.folder = Path(folder)
        self._check_losses()
        _ignore_pending_operations()
        latest = managers.LatestN(keep)
        rank: Any = _rank  # a tuple instead of a number, which suffices for sorting
        best = managers.BestN(get_metric_fn=rank, reverse=True, n=1, keep_checkpoints_without_metrics=False)
        options = ocp.CheckpointManagerOptions(
            preservation_policy=managers.AnyPreservationPolicy([latest, best]),
            # Without `best_fn`, `best_step` would return the latest step.
            best_fn=rank,
            best_mode="min",
            # A reader must not delete what a training process is writing.
            cleanup_tmp_directories=not independent,
            step_prefix="step",
            **(_independent() if independent else {}),
        )
        # Handlers are registered here so that the shapes of an item are known before it is saved or restored.
        arrays = partial(ocp.StandardCheckpointHandler, multiprocessing_options=options.multiprocessing_options)
        handlers = {"variables": arrays(), "training": arrays(), "position": ocp.JsonCheckpointHandler()}
        with self._explain_write_errors():
            self._manager = ocp.CheckpointManager(self.folder.absolute(), options=options, item_handlers=handlers)

    def latest(self) -> int | None:
        """Return the step of the latest complete checkpoint, None if there is none."""
        return self._manager.latest_step()

    def steps(self) -> list[int]:
        """Return the steps of all complete checkpoints in order."""
        return sorted(self._manager.all_steps())

    def best(self) -> int | None:
        """Return the step with the lowest validation loss of the last stage; without validation the latest step.

        Of equal losses the first counts.
        """
        return self._manager.best_step() or self.latest()

    def steps_without_improvement(self) -> int:
        """Return the steps from the best to the latest validated checkpoint; 0 without validation."""
        self.wait()
        all_metrics = {step: self._manager.metrics(step) for step in self.steps()}
        ranks = {step: _rank(metrics) for step, metrics in all_metrics.items() if metrics}
        return max(ranks) - min(ranks, key=lambda step: (ranks[step], step)) if ranks else 0

    def save(self, step: int, state: TrainState, loss: float | None, stage: float = 0.0) -> None:
        """Start saving a state; its arrays are copied before this returns, so it may be donated immediately.

        Args:
          step: number of finished steps.
          state: the state.
          loss: its validation loss, None if it was not validated.
          stage: stage of training in which the loss was measured.

        Raises:
          OSError: if this or an earlier checkpoint cannot be written.
        """
        items = ocp.args.Composite(
            variables=ocp.args.StandardSave(_variables_of(state)),
            training=ocp.args.StandardSave(_training_of(state)),
            position=ocp.args.JsonSave({"batches": step}),
        )
        metrics = None if loss is None else {"loss": loss, "step": step, "stage": stage}
        with self._explain_write_errors():
            self._manager.save(step, args=items, metrics=metrics, force=True)

    def restore(self, step: int, abstract_state: TrainState) -> tuple[TrainState, int]:
        """Restore the state at `step` and the number of batches consumed.

        Args:
          step: step of the checkpoint.
          abstract_state: shapes, dtypes and shardings of the state.

        Raises:
          ValueError: if the checkpoint is damaged, or if it is of another system or other settings.
        """
        with self._explain_errors(step):
            items = ocp.args.Composite(
                variables=ocp.args.StandardRestore(_variables_of(abstract_state)),
                training=ocp.args.StandardRestore(_training_of(abstract_state)),
                position=ocp.args.JsonRestore(),
            )
            restored = self._manager.restore(step, args=items)
        return abstract_state.replace(**restored["variables"], **restored["training"]), restored["position"]["batches"]

    def restore_variables(self, step: int) -> tuple[dict[str, Any], dict[str, Any]]:
        """Restore only the variables and the averaged parameters, on one local device."""
        restored = self._restore_locally(step, "variables")
        return restored["variables"], restored["ema"]

    def restore_training(self, step: int) -> dict[str, Any]:
        """Restore counters and optimizer state as plain dicts on one local device, for inspection."""
        return self._restore_locally(step, "training")

    def _restore_locally(self, step: int, item: str) -> dict[str, Any]:
        device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        with self._explain_errors(step):
            metadata = self._manager.item_metadata(step)[item]
            items = ocp.args.Composite(**{item: ocp.args.StandardRestore(abstract(metadata, device))})
            return self._manager.restore(step, args=items)[item]

    def _check_losses(self) -> None:
        """Raise ValueError for the first checkpoint whose validation loss, by which the best is chosen, is damaged."""
        for path in sorted(self.folder.glob("step_*/metrics/metrics")):
            try:
                if (metrics := json.loads(path.read_text(encoding="utf-8"))) is not None:
                    _rank(metrics)
            except FileNotFoundError:  # a training deletes it meanwhile
                continue
            except (OSError, ValueError, RecursionError, TypeError, AttributeError, KeyError):
                step = int(path.parents[1].name.removeprefix("step_"))
                raise ValueError(self._damaged(step, f"{path} is no validation loss")) from None

    @contextlib.contextmanager
    def _explain_errors(self, step: int):
        """Turn every error of a read into a ValueError with a remedy."""
        try:
            yield
        except Exception as error:  # orbax and tensorstore raise exceptions of many types
            raise ValueError(self._damaged(step, _reason(error))) from error

    def _damaged(self, step: int, reason: str) -> str:
        """The message for a checkpoint that cannot be read, with what deleting it leads to."""
        folder, others = self.folder / f"step_{step}", [int(path.name[5:]) for path in self.folder.glob("step_*[0-9]")]
        before = [other for other in others if other < step]
        remedy = f"go on from step {max(before)}" if before else "start again, since there is no earlier one"
        return (
            f"the checkpoint of step {step} in {self.folder} cannot be read: it is damaged or of another system "
            f"({reason}). Delete {folder} to {remedy}"
        )

    @contextlib.contextmanager
    def _explain_write_errors(self):
        """Turn an error of a write, which can be that of an earlier checkpoint, into an OSError with a remedy."""
        try:
            yield
        except Exception as error:  # orbax and tensorstore raise exceptions of many types
            if isinstance(error, TypeError | AttributeError):
                raise
            is_full = "No space left" in str(error) or "Disk quota" in str(error)
            number = getattr(error, "errno", None) or (errno.ENOSPC if is_full else errno.EIO)
            why = os.strerror(number) if is_full or isinstance(error, OSError) else _reason(error)
            reason = f"the checkpoint cannot be written ({why}): {FREE_SPACE}, and the same command continues"
            raise OSError(number, f"{reason} from the last complete checkpoint", str(self.folder)) from error

    def wait(self) -> None:
        """Wait until all checkpoints are completely written.

        Raises:
          OSError: if one cannot be written.
        """
        with self._explain_write_errors():
            self._manager.wait_until_finished()

    def close(self) -> None:
        """Finish writing and release all resources.

        Raises:
          OSError: if a checkpoint cannot be written.
        """
        with self._explain_write_errors():
            self._manager.close()

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with contextlib.suppress(OSError) if kind else contextlib.nullcontext():  # the first error is raised
            self.close()


def _reason(error: Exception) -> str:
    """What an error of orbax or tensorstore says, without the details of their own state."""
    text = re.split(r" \[tensorstore_spec=|\. See full TensorStore", str(error))[0]
    return textwrap.shorten(text or type(error).__name__, 200)


@functools.cache
def _ignore_pending_operations() -> None:
    """Silence the other reads and writes after one has failed; they would report that orbax's event loop is closed."""
    original = sys.unraisablehook

    def hook(unraisable: "sys.UnraisableHookArgs") -> None:
        if str(unraisable.exc_value) != "Event loop is closed":
            original(unraisable)

    sys.unraisablehook = hook


def _independent() -> dict[str, Any]:
    """Options with which orbax does not wait for other processes."""
    this = jax.process_index()
    only = ocp.options.MultiprocessingOptions(
        primary_host=this, active_processes={this}, barrier_sync_key_prefix=f"independent{this}"
    )
    return {"multiprocessing_options": only, "create": False}


def _rank(metrics: dict[str, float]) -> tuple[float, float, float]:
    """Rank of a checkpoint, lower is better: a later stage, then a lower loss, then an earlier step.

    Checkpoints of earlier versions have no stage.
    """
    return -metrics.get("stage", 0.0), metrics["loss"], metrics.get("step", 0)


def _variables_of(state: TrainState) -> dict[str, Any]:
    return {"variables": state.variables, "ema": state.ema}


def _training_of(state: TrainState) -> dict[str, Any]:
    return {"step": state.step, "optimizer": state.optimizer, "skipped": state.skipped}
