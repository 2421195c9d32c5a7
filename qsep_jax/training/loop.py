"""The training loop: validate, save, take a batch, step, log. In this order: it is what makes a run resumable.

The batch of the next step is taken after saving, so a checkpoint at step t has consumed t batches; one that is drawn
within the step follows from its number. Nothing in the loop waits for a number from the device: metrics are fetched at
log steps, when the next step is already under way.
"""

from collections.abc import Callable, Generator
from contextlib import closing
from itertools import repeat
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

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
    begin_with: Callable[[Variables], Variables] | None = None,
    drawn: DrawnBatches | None = None,
    stop: Callable[[int], bool] = lambda step: False,
) -> TrainState:
    """Train `system` from its latest checkpoint up to step `train.steps`; the final state, which is saved too.

    The run ends earlier where `train.patience` says so; the checkpoints keep their losses, so it does not go on when it
    is started again. It also ends, once saved, where `stop` asks for it, and continues from there.

    Args:
      validation: batches to validate on and to preview; None leaves both out.
      folder: of the run; the first process writes metrics there, and every process the batch that made it diverge.
      reporter: makes the progress display, given the step that the run starts from.
      begin_with: changes the variables of a fresh run, on the host, before its first step.
      drawn: batches that are drawn within the step, instead of those of `pipeline`.
      stop: called with each step, in all processes of a run and with the same result: whether to save and end.

    Raises:
      ValueError: if the devices do not divide the batch, or an interval is not a multiple of `steps_per_dispatch`.
      Diverged: if a phase skips `train.most_skipped` updates in a row; names phase and step.
    """
    mesh = mesh or sharding.make_mesh()
    sharding.check_batch_size(train.batch_size, mesh)
    _check_intervals(train)
    compiled = Compiled(system, train, mesh, drawn.spec if drawn else pipeline.batch(0), drawn)
    fresh = checkpoints.latest() is None
    state, start = _beginning(compiled, checkpoints, begin_with)
    writer = Writer(folder, start) if jax.process_index() == 0 else None
    log = Log(train, writer, reporter(start))
    pauses = Pauses(compiled, train, validation, checkpoints, writer, system.sample_rate)
    try:
        # Under the guard only what is placed or fetched on purpose passes between host and device.
        with (
            closing(_inputs(compiled, train, start, pipeline, drawn)) as inputs,
            Trace(folder / "trace", train) as trace,
            jax.transfer_guard("disallow"),
        ):
            step = start
            while True:
                if step >= train.steps:
                    log.flush()
                if step > start or (fresh and not train.steps):
                    with log.pause():
                        state = pauses.at(step, state)
                if step >= train.steps or pauses.out_of_patience(step):
                    break
                if step > start and stop(step):
                    pauses.save_early(step, state)
                    break
                trace.at(step, state)
                with jax.profiler.StepTraceAnnotation("train", step_num=step):
                    state, metrics = compiled.steps(state, next(inputs), compiled.key)
                step += train.steps_per_dispatch
                log.add(step, metrics)
            log.flush()
    except Diverged as error:
        kept = _keep((drawn or pipeline).batch(error.step), folder, error.step)
        raise Diverged(error.phase, error.step, error.count, f"; the batch is kept in {kept}") from None
    finally:
        checkpoints.wait()
        if writer:
            writer.close()
    return state


def _inputs(
    compiled: Compiled, train: Train, start: int, pipeline: Pipeline, drawn: DrawnBatches | None
) -> Generator[Any]:
    """The input of each call of `compiled.steps`."""
    if drawn:
        yield from repeat(drawn.corpora)
    else:
        with closing(pipeline.batches(start, train.workers)) as batches:
            while True:
                yield compiled.place([next(batches) for _ in range(train.steps_per_dispatch)])


def _beginning(
    compiled: Compiled,
    checkpoints: Checkpoints,
    begin_with: Callable[[Variables], Variables] | None,
) -> tuple[TrainState, int]:
    """The state of the latest checkpoint, or a fresh one, and how many batches it has consumed."""
    latest = checkpoints.latest()
    if latest is not None:
        return checkpoints.restore(latest, compiled.abstract_state)
    state = compiled.create()
    if begin_with:
        state = compiled.with_variables(state, begin_with(compiled.on_host(state.variables)))
    return state, 0


def _keep(batch: dict[str, Any], folder: Path, step: int) -> Path:
    path = folder / f"diverged_step{step}_process{jax.process_index()}.npz"
    np.savez(path, **{f"{stream}/{name}": leaf for stream, tree in batch.items() for name, leaf in tree.items()})
    return path


def _check_intervals(train: Train) -> None:
    for name in ("steps", "log_every", "save_every", "validate_every", "summary_every"):
        if getattr(train, name) % train.steps_per_dispatch:
            raise ValueError(
                f"train.{name} = {getattr(train, name)} is not a multiple of train.steps_per_dispatch = "
                f"{train.steps_per_dispatch}"
            )
