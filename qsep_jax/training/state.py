"""The training state: everything that a step changes, as one tree."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array

from qsep_jax.systems.base import BatchSpec, System, Variables
from qsep_jax.training import optimizers
from qsep_jax.training.partition import Flat, replace, select
from qsep_jax.training.settings import Train


class TrainState(struct.PyTreeNode):
    """The state of a training run.

    Attributes:
      step: Number of finished steps.
      variables: Variables of the system.
      optimizer: Optimizer state of each phase.
      ema: Averaged trainable parameters by path; empty without averaging.
      skipped: Number of updates that were skipped because loss or gradient was not finite.
    """

    step: Array
    variables: Variables
    optimizer: dict[str, Any]
    ema: Flat
    skipped: Array


def create_state(system: System, train: Train, spec: BatchSpec) -> TrainState:
    """Create the initial state from `train.seed`; a pure function, which the caller jits with the state's shardings."""
    variables = system.init(jax.random.key(train.seed), spec)
    params = variables["params"]
    optimizer_states, ema = {}, {}
    for phase in system.phases():
        part = select(params, phase.trainable)
        optimizer_states[phase.name] = optimizers.build(phase.optimizer, train.steps * phase.repeats).init(part)
        ema |= part if train.ema_decay else {}
    ema = {path: jnp.array(leaf) for path, leaf in ema.items()}  # copies, because a donated buffer must not occur twice
    return TrainState(jnp.zeros((), jnp.int32), variables, optimizer_states, ema, jnp.zeros((), jnp.int32))


def observe(system: System, train: Train, state: TrainState, loss: Array) -> TrainState:
    """Return the state after a validation loss, `train.validate_every` steps after the previous one."""
    steps = jnp.float32(train.validate_every)
    variables = system.observe(state.variables, loss, steps)
    begins_stage = system.stage(variables) != system.stage(state.variables)
    optimizer_states = {
        phase.name: optimizers.observe(
            state.optimizer[phase.name], phase.optimizer, loss, steps * phase.repeats, begins_stage
        )
        for phase in system.phases()
    }
    return state.replace(variables=variables, optimizer=optimizer_states)


def with_variables(state: TrainState, variables: Variables) -> TrainState:
    """Return the state with other variables; the average restarts from their parameters."""
    ema = {path: jnp.array(leaf) for path, leaf in select(variables["params"], tuple(state.ema)).items()}
    return state.replace(variables=variables, ema=ema)


def inference_variables(variables: Variables, ema: Flat) -> Variables:
    """Return the variables for inference, with averaged parameters if there are any."""
    return {**variables, "params": replace(variables["params"], ema)} if ema else variables
