"""Checkpoints of a run: orbax, asynchronous, atomic; the latest few and the best are kept.

Each has two array items, `variables` (variables and averaged parameters: all that inference needs) and `training`
(optimizer state and counters), and a JSON item `position`: how many batches are consumed, which is all the state that
the input pipeline has.
"""

import contextlib
import sys
import textwrap
from functools import partial
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as managers

from qsep_jax.training.sharding import abstract
from qsep_jax.training.state import TrainState


class Checkpoints:
    """The checkpoints of one run folder. Close it, or leave its `with` block, before the process ends.

    Args:
      keep: how many of the latest to keep besides the best, the one with the lowest validation loss.
      alone: whether this process reads them by itself, where it is one of several.
    """

    def __init__(self, folder: Path, keep: int = 2, *, alone: bool = False):
        self.folder = Path(folder)
        latest = managers.LatestN(keep)
        rank: Any = _rank  # not one number, but they are only sorted by it
        best = managers.BestN(get_metric_fn=rank, reverse=True, n=1, keep_checkpoints_without_metrics=False)
        options = ocp.CheckpointManagerOptions(
            preservation_policy=managers.AnyPreservationPolicy([latest, best]),
            # Without `best_fn` as well, `best_step` would answer with the latest.
            best_fn=rank,
            best_mode="min",
            cleanup_tmp_directories=True,
            step_prefix="step",
            **(_alone() if alone else {}),
        )
        # Given here, so that the shapes of an item can be asked for before it was ever saved or restored.
        arrays = partial(ocp.StandardCheckpointHandler, multiprocessing_options=options.multiprocessing_options)
        handlers = {"variables": arrays(), "training": arrays(), "position": ocp.JsonCheckpointHandler()}
        self._manager = ocp.CheckpointManager(self.folder.absolute(), options=options, item_handlers=handlers)

    def latest(self) -> int | None:
        """The step of the newest whole checkpoint, None if there is none."""
        return self._manager.latest_step()

    def steps(self) -> list[int]:
        """The steps of all whole checkpoints, in order."""
        return sorted(self._manager.all_steps())

    def best(self) -> int | None:
        """The step with the lowest validation loss, the first of equal ones; the newest if none was validated."""
        return self._manager.best_step() or self.latest()

    def without_progress(self) -> int:
        """Steps since the lowest validation loss of the checkpoints that there are; 0 if none was validated."""
        self.wait()
        losses = {step: self._manager.metrics(step) for step in self.steps()}
        validated = [(found["loss"], step) for step, found in losses.items() if found]
        return max(step for _, step in validated) - min(validated)[1] if validated else 0

    def save(self, step: int, state: TrainState, loss: float | None) -> None:
        """Begin to save; the arrays are copied before this returns, so the state may be donated at once."""
        items = ocp.args.Composite(
            variables=ocp.args.StandardSave(_variables_of(state)),
            training=ocp.args.StandardSave(_training_of(state)),
            position=ocp.args.JsonSave({"batches": step}),
        )
        metrics = None if loss is None else {"loss": loss, "step": step}
        self._manager.save(step, args=items, metrics=metrics, force=True)

    def restore(self, step: int, like: TrainState) -> tuple[TrainState, int]:
        """The state at `step`, in the shapes and shardings of `like`, and the number of batches consumed.

        Raises:
          ValueError: if the checkpoint is damaged, or is of another system or settings.
        """
        with self._explained(step):
            items = ocp.args.Composite(
                variables=ocp.args.StandardRestore(_variables_of(like)),
                training=ocp.args.StandardRestore(_training_of(like)),
                position=ocp.args.JsonRestore(),
            )
            restored = self._manager.restore(step, args=items)
        return like.replace(**restored["variables"], **restored["training"]), restored["position"]["batches"]

    def restore_variables(self, step: int) -> tuple[dict[str, Any], dict[str, Any]]:
        """Variables and averaged parameters alone, on one local device."""
        restored = self._restore_here(step, "variables")
        return restored["variables"], restored["ema"]

    def restore_training(self, step: int) -> dict[str, Any]:
        """Counters and optimizer state as plain dicts, on one local device; for looking at them."""
        return self._restore_here(step, "training")

    def _restore_here(self, step: int, item: str) -> dict[str, Any]:
        device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        with self._explained(step):
            metadata = self._manager.item_metadata(step)[item]
            items = ocp.args.Composite(**{item: ocp.args.StandardRestore(abstract(metadata, device))})
            return self._manager.restore(step, args=items)[item]

    @contextlib.contextmanager
    def _explained(self, step: int):
        try:
            yield
        except Exception as error:  # orbax and tensorstore raise whatever suits them
            _ignore_reads_under_way()
            reason = textwrap.shorten(str(error).split(" [tensorstore_spec=")[0] or type(error).__name__, 200)
            raise ValueError(
                f"the checkpoint of step {step} in {self.folder} cannot be read: it is damaged or of another system "
                f"({reason}). Delete {self.folder / f'step_{step}'} to use the one before"
            ) from error

    def wait(self) -> None:
        """Until what is being saved lies on disk whole."""
        self._manager.wait_until_finished()

    def close(self) -> None:
        self._manager.close()

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _ignore_reads_under_way() -> None:
    """After a failed read, let the others end in silence: they would complain of orbax's event loop, closed by then."""
    usual = sys.unraisablehook

    def hook(unraisable: "sys.UnraisableHookArgs") -> None:
        if str(unraisable.exc_value) != "Event loop is closed":
            usual(unraisable)

    sys.unraisablehook = hook


def _alone() -> dict[str, Any]:
    """Options by which orbax waits for no other process."""
    this = jax.process_index()
    only = ocp.options.MultiprocessingOptions(
        primary_host=this, active_processes={this}, barrier_sync_key_prefix=f"alone{this}"
    )
    return {"multiprocessing_options": only, "create": False}


def _rank(metrics: dict[str, float]) -> tuple[float, float]:
    """The lower the better: of equal losses the first one is the best."""
    return metrics["loss"], metrics.get("step", 0)


def _variables_of(state: TrainState) -> dict[str, Any]:
    return {"variables": state.variables, "ema": state.ema}


def _training_of(state: TrainState) -> dict[str, Any]:
    return {"step": state.step, "optimizer": state.optimizer, "skipped": state.skipped}
