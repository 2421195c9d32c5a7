"""The functions of a training run, jit-compiled for a mesh of devices."""

from functools import partial
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
    """The functions of a run, compiled for a mesh: batches are split over the devices, the state as `train` says.

    Attributes:
      abstract_state: shapes, dtypes and shardings of a state.
      key: the random key of the run, replicated.

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
        create = partial(create_state, system, train, sharding.abstract(batch))
        shapes = jax.eval_shape(create)
        laid_out = sharding.state_shardings(shapes, mesh, train.shard_parameters)
        self.abstract_state = sharding.abstract(shapes, laid_out)

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
