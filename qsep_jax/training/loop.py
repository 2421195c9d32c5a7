"""The training loop: validate, save, take a batch, step, log. In this order: it is what makes a run resumable.

The batch of the next step is taken after saving, so a checkpoint at step t has consumed t batches; one that is drawn
within the step follows from its number. Nothing in the loop waits for a number from the device: metrics are fetched at
log steps, when the next step is already under way.
"""

from collections.abc import Callable, Generator
from contextlib import closing
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.sharding import Mesh

from data_pipelines.pipeline import Pipeline
from qsep_jax.nn import xla
from qsep_jax.on_device.batches import DrawnBatches
from qsep_jax.systems.base import Batch, BatchSpec, System, Variables
from qsep_jax.training import sharding
from qsep_jax.training.checkpoint import Checkpoints
from qsep_jax.training.log import Diverged, Log, Reporter
from qsep_jax.training.settings import Train
from qsep_jax.training.state import TrainState, create_state, inference_variables, observe, with_variables
from qsep_jax.training.step import make_step
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
    """Train `system` up to step `train.steps`, from its latest checkpoint on; the final state, which is saved too.

    It ends earlier where `train.patience` says so. As the checkpoints know their losses, it then stays ended. And it
    ends, once saved, where it is asked to `stop`; then it continues from there.

    Args:
      validation: batches to validate on and to preview; None leaves both out.
      folder: of the run; the first process writes metrics there, and every process the batch that made it diverge.
      reporter: makes the progress display, given the step that the run starts from.
      begin_with: changes the variables of a fresh run, on the host, before its first step.
      drawn: batches that are drawn within the step, instead of those of `pipeline`.
      stop: told the step after each, the same in all processes of a run: whether to save and end.

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

    def pause(step: int) -> None:
        """Validate, preview and save, as far as it is time for each."""

        def due(every: int) -> bool:
            return bool(every) and (step == train.steps or step % every == 0)

        nonlocal state
        loss = None
        if validation and due(train.validate_every):
            means = _validate(compiled, state, validation, train.validation_batches)
            loss = means["loss"]
            # Not at an odd end: a run that goes on beyond it shall see the same validations as an unbroken one.
            if compiled.watches and step % train.validate_every == 0:
                state = compiled.observe(state, loss)
            if writer:
                writer.scalars(step, {f"validation/{name}": value for name, value in means.items()})
        if validation and due(train.summary_every):
            _preview(compiled, state, validation.batch(0), writer, step, system.sample_rate)
        if due(train.save_every):
            checkpoints.save(step, state, loss)

    try:
        # Under the guard only what is placed or fetched on purpose passes between host and device.
        with (
            closing(_fed(compiled, train, start, pipeline, drawn)) as fed,
            Trace(folder / "trace", train) as trace,
            jax.transfer_guard("disallow"),
        ):
            for step in range(start, train.steps, train.steps_per_dispatch):
                if step > start:
                    with log.pause():
                        pause(step)
                if _exhausted(train, checkpoints, step):
                    break
                if step > start and stop(step):
                    if step % train.save_every:
                        checkpoints.save(step, state, None)
                    break
                trace.at(step, state)
                with jax.profiler.StepTraceAnnotation("train", step_num=step):
                    state, metrics = compiled.steps(state, next(fed), compiled.key)
                log.add(step + train.steps_per_dispatch, metrics)
            else:
                log.flush()
                if start < train.steps or fresh:
                    pause(train.steps)
            log.flush()
    except Diverged as error:
        kept = _keep((drawn or pipeline).batch(error.step), folder, error.step)
        raise Diverged(error.phase, error.step, error.count, f"; the batch is kept in {kept}") from None
    finally:
        checkpoints.wait()
        if writer:
            writer.close()
    return state


class Compiled:
    """The functions of a run, compiled for a mesh: batches split over the devices, the state as `train` says.

    Args:
      batch: one of the run's, for its shapes.
      drawn: draws the batches of the steps, from its corpora instead of batches.

    Raises:
      ValueError: if XLA does not know an option of `train.xla_flags`, or not its value.
    """

    def __init__(self, system: System, train: Train, mesh: Mesh, batch: BatchSpec, drawn: DrawnBatches | None = None):
        everywhere = self._everywhere = sharding.replicated(mesh)
        self._split = sharding.batch_shardings(system, mesh)
        # Convolution gradients within a loop are many times slower on CPU.
        unroll = mesh.devices.flat[0].platform == "cpu"
        step = sharding.under(mesh, make_step(system, train, unroll=unroll))
        spec = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), batch)
        create = partial(create_state, system, train, spec)
        shapes = jax.eval_shape(create)
        laid_out = sharding.state_shardings(shapes, mesh, train.shard_parameters)
        # The shapes and shardings of a state.
        self.like = jax.tree.map(
            lambda leaf, where: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where), shapes, laid_out
        )

        def steps(state: TrainState, fed: Any, key: Array):
            """Of as many batches as are fed; or of `train.steps_per_dispatch` that are drawn from the corpora fed."""

            def following(state: TrainState, batch: Batch | None):
                return step(state, drawn.draw(fed, state.step) if drawn else batch, key)

            count = train.steps_per_dispatch if drawn else len(fed)
            if count == 1:
                state, metrics = following(state, None if drawn else fed[0])
                return state, {name: value[None] for name, value in metrics.items()}
            stacked = None if drawn else jax.tree.map(lambda *leaves: jnp.stack(leaves), *fed)
            return lax.scan(following, state, stacked, length=count, unroll=unroll)

        def averaged(function):
            function = sharding.under(mesh, function)
            return lambda variables, ema, *rest: function(inference_variables(variables, ema), *rest)

        # Run once, so made to compile quickly: four times as fast as with all of XLA's optimizations.
        quickly = {"xla_backend_optimization_level": 0}
        self.create = jax.jit(create, out_shardings=laid_out, compiler_options=quickly)
        self.key = jax.jit(lambda: jax.random.key(train.seed + 1), out_shardings=everywhere)()
        usual, options = xla.options(), xla.options(train.xla_flags)
        self.steps = jax.jit(steps, donate_argnums=0, out_shardings=(laid_out, everywhere), compiler_options=options)
        schedules = {phase.optimizer.schedule for phase in system.phases()}
        self.watches = "plateau" in schedules or type(system).observe is not System.observe
        self._observe = jax.jit(partial(observe, system, train), donate_argnums=0, out_shardings=laid_out)
        self._with_variables = jax.jit(with_variables, out_shardings=laid_out)
        self.validate = jax.jit(averaged(system.validate), out_shardings=everywhere, compiler_options=usual)
        self.preview = jax.jit(averaged(system.preview), out_shardings=everywhere, compiler_options=usual)

    def on_host(self, variables: Variables) -> Variables:
        """The whole variables, however they lie on the devices."""
        return jax.device_get(jax.jit(lambda tree: tree, out_shardings=self._everywhere)(variables))

    def with_variables(self, state: TrainState, variables: Variables) -> TrainState:
        """The state with variables from the host."""
        return self._with_variables(state, variables)

    def observe(self, state: TrainState, loss: float) -> TrainState:
        """The state after a validation loss."""
        return self._observe(state, jax.device_put(np.float32(loss), self._everywhere))

    def place(self, batches: list[dict[str, Any]]) -> tuple[Batch, ...]:
        return tuple(sharding.place(batch, self._split) for batch in batches)


def _fed(
    compiled: Compiled, train: Train, start: int, pipeline: Pipeline, drawn: DrawnBatches | None
) -> Generator[Any]:
    """What each call of `compiled.steps` is fed."""
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
        return checkpoints.restore(latest, compiled.like)
    state = compiled.create()
    if begin_with:
        state = compiled.with_variables(state, begin_with(compiled.on_host(state.variables)))
    return state, 0


def _exhausted(train: Train, checkpoints: Checkpoints, step: int) -> bool:
    """Whether so many validations in a row as `train.patience` were no better than the best before them."""
    if not train.patience or not step or step % train.validate_every:
        return False
    return checkpoints.without_progress() >= train.patience * train.validate_every


def _validate(compiled: Compiled, state: TrainState, pipeline: Pipeline, count: int) -> dict[str, float]:
    """Means over the first `count` batches, the same each time."""
    said = []
    for number in range(count):
        (batch,) = compiled.place([pipeline.batch(number)])
        said.append(compiled.validate(state.variables, state.ema, batch, compiled.key))
    fetched = jax.device_get(said)
    return {name: float(np.mean([values[name] for values in fetched])) for name in fetched[0]}


def _preview(compiled: Compiled, state: TrainState, batch, writer: Writer | None, step: int, rate: int) -> None:
    (placed,) = compiled.place([batch])
    sounds = compiled.preview(state.variables, state.ema, placed)
    if writer:
        local = jax.device_get({name: audio.addressable_data(0) for name, audio in sounds.items()})
        for name, audio in local.items():
            writer.sound(step, f"preview/{name}", audio[0], rate)


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
