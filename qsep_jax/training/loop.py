"""The training loop: validate, save, take a batch, step, log. This order makes a run resumable.

The batch of the next step is taken after saving, so a checkpoint at step t has consumed t batches; a batch that is
drawn inside the step depends only on the step. The loop never waits for a value from the device: metrics of log steps
are fetched when the next step is already running.
"""

from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager, suppress
from itertools import repeat
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from data_pipelines.files import atomic_write
from data_pipelines.pipeline import Pipeline
from qsep_jax.on_device.batches import DrawnBatches
from qsep_jax.systems.base import System, Variables
from qsep_jax.training import sharding
from qsep_jax.training.checkpoint import Checkpoints
from qsep_jax.training.compiled import Compiled
from qsep_jax.training.log import Diverged, Log, Reporter
from qsep_jax.training.pauses import Pauses
from qsep_jax.training.settings import Train
from qsep_jax.training.state import TrainState
from qsep_jax.training.trace import Trace
from qsep_jax.training.writer import Writer


def fit(
    system: System,
    train: Train,
    pipeline: Pipeline,
    validation: Pipeline | None,
    checkpoints: Checkpoints,
    folder: Path,
    *,
    reporter: Callable[[int], Reporter],
    mesh: Mesh | None = None,
    load_weights: Callable[[Variables], Variables] | None = None,
    drawn_batches: DrawnBatches | None = None,
    should_stop: Callable[[int], bool] = lambda step: False,
) -> TrainState:
    """Train `system` from its latest checkpoint up to step `train.steps`; return the final state, which is also saved.

    With `train.patience` the run may end earlier. Checkpoints keep their validation losses, so a run that ended for
    this reason does not continue when it is started again. The run also saves and ends where `should_stop` returns
    true; started again, it continues from there.

    Args:
      system: the system to train.
      train: settings of the run.
      pipeline: training batches.
      validation: batches for validation and previews; None disables both.
      checkpoints: checkpoints of the run.
      folder: run folder; the first process writes metrics to it, and every process the batch at which it diverged.
      reporter: creates the progress display, given the step from which the run starts.
      mesh: devices; by default all of them.
      load_weights: replaces the variables of a new run, on the host, before its first step.
      drawn_batches: batches that are drawn inside the step, instead of those of `pipeline`.
      should_stop: whether to save and end at a step; it is called at every step in all processes of a run and must
        return the same result in all of them.

    Raises:
      ValueError: if the devices do not divide the batch, or if an interval is not a multiple of `steps_per_dispatch`.
      Diverged: if a phase skips `train.most_skipped` consecutive updates.
      OSError: if the run folder cannot be written, or a worker process is killed.
    """
    mesh = mesh or sharding.make_mesh()
    sharding.check_batch_size(train.batch_size, mesh)
    check_intervals(train)
    compiled = Compiled(system, train, mesh, drawn_batches.spec if drawn_batches else pipeline.batch(0), drawn_batches)
    is_new = checkpoints.latest() is None
    state, start = _initial_state(compiled, checkpoints, load_weights)
    writer = Writer(folder, start) if jax.process_index() == 0 else None
    log = Log(train, writer, reporter(start))
    pauses = Pauses(system, compiled, train, validation, checkpoints, writer)
    try:
        # The guard allows only explicit transfers between host and device.
        with (
            _completing(checkpoints, writer),
            closing(_inputs(compiled, train, start, pipeline, drawn_batches)) as inputs,
            Trace(folder / "trace", train) as trace,
            jax.transfer_guard("disallow"),
        ):
            step = start
            while True:
                if step >= train.steps:
                    log.flush()
                if step > start or (is_new and not train.steps):
                    with log.pause():
                        state = pauses.at(step, state)
                if step >= train.steps or pauses.out_of_patience(step):
                    break
                if step > start and should_stop(step):
                    pauses.save_early(step, state)
                    break
                trace.at(step, state)
                with jax.profiler.StepTraceAnnotation("train", step_num=step):
                    state, metrics = compiled.steps(state, next(inputs), compiled.key)
                step += train.steps_per_dispatch
                log.add(step, metrics)
            log.flush()
    except Diverged as error:
        path = _save_batch((drawn_batches or pipeline).batch(error.step), folder, error.step)
        raise Diverged(error.phase, error.step, error.count, f"; its batch is saved in {path}") from None
    return state


@contextmanager
def _completing(checkpoints: Checkpoints, writer: Writer | None) -> Iterator[None]:
    """At the end of the `with` block, complete everything that is being written.

    Raises:
      OSError: if it cannot be written; after an error in the block, that error is raised.
    """
    try:
        yield
    except BaseException:
        with suppress(OSError):
            _complete(checkpoints, writer)
        raise
    _complete(checkpoints, writer)


def _complete(checkpoints: Checkpoints, writer: Writer | None) -> None:
    try:
        checkpoints.wait()
    finally:
        if writer:
            writer.close()


def _inputs(
    compiled: Compiled, train: Train, start: int, pipeline: Pipeline, drawn_batches: DrawnBatches | None
) -> Generator[Any]:
    """Yield the inputs of each call of `compiled.steps`."""
    if drawn_batches:
        yield from repeat(drawn_batches.corpora)
    else:
        with closing(pipeline.batches(start, train.workers)) as batches:
            while True:
                yield compiled.place([next(batches) for _ in range(train.steps_per_dispatch)])


def _initial_state(
    compiled: Compiled,
    checkpoints: Checkpoints,
    load_weights: Callable[[Variables], Variables] | None,
) -> tuple[TrainState, int]:
    """Restore the latest checkpoint or create a new state; return also the number of batches consumed."""
    latest = checkpoints.latest()
    if latest is not None:
        return checkpoints.restore(latest, compiled.abstract_state)
    state = compiled.create()
    if load_weights:
        state = compiled.with_variables(state, load_weights(compiled.on_host(state.variables)))
    return state, 0


def _save_batch(batch: dict[str, Any], folder: Path, step: int) -> Path:
    path = folder / f"diverged_step{step}_process{jax.process_index()}.npz"
    arrays = {f"{stream}/{name}": leaf for stream, tree in batch.items() for name, leaf in tree.items()}
    with atomic_write(path) as unfinished, unfinished.open("wb") as file:
        np.savez(file, **arrays)
    return path


def check_intervals(train: Train) -> None:
    """Raise ValueError if an interval is not a multiple of `steps_per_dispatch`."""
    for name in ("steps", "log_every", "save_every", "validate_every", "summary_every"):
        if getattr(train, name) % train.steps_per_dispatch:
            raise ValueError(
                f"train.{name} = {getattr(train, name)} is not a multiple of train.steps_per_dispatch = "
                f"{train.steps_per_dispatch}"
            )
