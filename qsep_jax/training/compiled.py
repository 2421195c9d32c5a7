"""The functions of a training run, jit-compiled for a mesh of devices."""

from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.sharding import Mesh

from qsep_jax.nn import xla
from qsep_jax.on_device.batches import DrawnBatches
from qsep_jax.systems.base import Batch, BatchSpec, System, Variables
from qsep_jax.training import sharding
from qsep_jax.training.settings import Train
from qsep_jax.training.state import TrainState, create_state, inference_variables, observe, with_variables
from qsep_jax.training.step import make_step


class Compiled:
    """The functions of a run, compiled for a mesh over which batches are split.

    Nothing is placed on the devices before a function or `key` is used, so the mesh may be one of devices that are not
    there (`qsep_jax.training.targets`), for which the functions can be lowered and compiled.

    The state is replicated or split, depending on `train.shard_parameters`.

    Args:
      system: the system to train.
      train: settings of the run.
      mesh: the devices.
      batch: a batch of the run, or its shapes.
      drawn_batches: draws the batches inside the step, from corpora in the devices' memory.

    Attributes:
      abstract_state: Shapes, dtypes and shardings of a state.
      abstract_key: Those of `key`.
      create: Creates the initial state.
      steps: Does one or several steps: (state, inputs, key) → (state, metrics `[K]`). The inputs are a tuple of placed
        batches, or the corpora of `drawn_batches`.
      validate: Computes validation metrics of a batch: (variables, averaged parameters, batch, key) → metrics.
      stage: Returns the stage of training: variables → number.
      preview: Separates a batch: (variables, averaged parameters, batch) → audio by name.
      uses_validation_loss: Whether the state changes with the validation loss, by `observe`.

    Raises:
      ValueError: if XLA does not know an option of `train.xla_flags` or refuses its value.
    """

    def __init__(
        self,
        system: System,
        train: Train,
        mesh: Mesh,
        batch: BatchSpec,
        drawn_batches: DrawnBatches | None = None,
    ):
        replicated = self._replicated = sharding.replicated(mesh)
        self._split = sharding.batch_shardings(system, mesh)
        platform = mesh.devices.flat[0].platform
        # On CPU, gradients of convolutions are many times slower inside a loop.
        unroll = platform == "cpu"
        step = sharding.with_mesh(mesh, make_step(system, train, unroll=unroll))
        create = partial(create_state, system, train, sharding.abstract(batch))
        shapes = jax.eval_shape(create)
        shardings = sharding.state_shardings(shapes, mesh, train.shard_parameters)
        self.abstract_state = sharding.abstract(shapes, shardings)

        def steps(state: TrainState, inputs: Any, key: Array):
            """Do a step for each batch in `inputs`; with `drawn_batches`, `train.steps_per_dispatch` steps."""

            def next_step(state: TrainState, batch: Batch | None):
                return step(state, drawn_batches.draw(inputs, state.step) if drawn_batches else batch, key)

            count = train.steps_per_dispatch if drawn_batches else len(inputs)
            if count == 1:
                state, metrics = next_step(state, None if drawn_batches else inputs[0])
                return state, {name: value[None] for name, value in metrics.items()}
            stacked = None if drawn_batches else jax.tree.map(lambda *leaves: jnp.stack(leaves), *inputs)
            return lax.scan(next_step, state, stacked, length=count, unroll=unroll)

        def with_averages(function):
            function = sharding.with_mesh(mesh, function)
            return lambda variables, ema, *rest: function(inference_variables(variables, ema), *rest)

        # `create` runs once, so it is compiled without optimizations, which is four times as fast.
        unoptimized = {"xla_backend_optimization_level": 0}
        self.create = jax.jit(create, out_shardings=shardings, compiler_options=unoptimized)
        self._make_key = jax.jit(lambda: jax.random.key(train.seed + 1), out_shardings=replicated)
        self.abstract_key = sharding.abstract(jax.eval_shape(self._make_key), replicated)
        defaults, options = xla.options(platform=platform), xla.options(train.xla_flags, platform)
        self.steps = jax.jit(steps, donate_argnums=0, out_shardings=(shardings, replicated), compiler_options=options)
        schedules = {phase.optimizer.schedule for phase in system.phases()}
        self.uses_validation_loss = "plateau" in schedules or type(system).observe is not System.observe
        self._observe = jax.jit(partial(observe, system, train), donate_argnums=0, out_shardings=shardings)
        self._with_variables = jax.jit(with_variables, out_shardings=shardings)
        self.validate = jax.jit(with_averages(system.validate), out_shardings=replicated, compiler_options=defaults)
        self.stage = jax.jit(system.stage, out_shardings=replicated)
        self.preview = jax.jit(with_averages(system.preview), out_shardings=replicated, compiler_options=defaults)

    @cached_property
    def key(self) -> Array:
        """Random key of the run, replicated."""
        return self._make_key()

    def on_host(self, variables: Variables) -> Variables:
        """Copy the complete variables to the host, whether they are replicated or split."""
        return jax.device_get(jax.jit(lambda tree: tree, out_shardings=self._replicated)(variables))

    def with_variables(self, state: TrainState, variables: Variables) -> TrainState:
        """Return the state with its variables replaced by variables from the host."""
        return self._with_variables(state, variables)

    def observe(self, state: TrainState, loss: float) -> TrainState:
        """Return the state after a validation loss."""
        return self._observe(state, jax.device_put(np.float32(loss), self._replicated))

    def place(self, batches: list[dict[str, Any]]) -> tuple[Batch, ...]:
        """Split batches over the devices."""
        return tuple(sharding.place(batch, self._split) for batch in batches)
