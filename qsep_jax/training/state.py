"""Everything that a step changes, as one tree."""

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
    """`optimizer` has one entry per phase; `ema` the averaged trainable parameters by path, empty without averaging.

    `step` counts steps begun and finished, `skipped` the updates that were not made because something was not finite.
    """

    step: Array
    variables: Variables
    optimizer: dict[str, Any]
    ema: Flat
    skipped: Array


def create_state(system: System, train: Train, spec: BatchSpec) -> TrainState:
    """A fresh state, from `train.seed` alone; a pure function to be jitted with the shardings that it should have."""
    variables = system.init(jax.random.key(train.seed), spec)
    params = variables["params"]
    opts, ema = {}, {}
    for phase in system.phases():
        part = select(params, phase.trainable)
        opts[phase.name] = optimizers.build(phase.optimizer, train.steps * phase.repeats).init(part)
        ema |= part if train.ema_decay else {}
    ema = {path: jnp.array(leaf) for path, leaf in ema.items()}  # copies: a donated buffer may not appear twice
    return TrainState(jnp.zeros((), jnp.int32), variables, opts, ema, jnp.zeros((), jnp.int32))


def observe(system: System, train: Train, state: TrainState, loss: Array) -> TrainState:
    """The state after a validation, `train.validate_every` steps after the one before."""
    steps = jnp.float32(train.validate_every)
    opts = {
        phase.name: optimizers.observe(state.optimizer[phase.name], phase.optimizer, loss, steps * phase.repeats)
        for phase in system.phases()
    }
    return state.replace(variables=system.observe(state.variables, loss, steps), optimizer=opts)


def with_variables(state: TrainState, variables: Variables) -> TrainState:
    """The state with other variables, whose parameters the average starts from, too."""
    ema = {path: jnp.array(leaf) for path, leaf in select(variables["params"], tuple(state.ema)).items()}
    return state.replace(variables=variables, ema=ema)


def inference_variables(variables: Variables, ema: Flat) -> Variables:
    """The variables to separate with: averaged parameters where there are any."""
    return {**variables, "params": replace(variables["params"], ema)} if ema else variables
