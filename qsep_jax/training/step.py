"""One training step: every phase of a system in order, each on the part of the parameters that it trains."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array, lax

from qsep_jax.nn.conv_ops import CONV
from qsep_jax.systems.base import Aux, Batch, BatchSpec, Phase, System, Variables
from qsep_jax.training import optimizers
from qsep_jax.training.partition import Flat, replace, select
from qsep_jax.training.settings import Remat, Train
from qsep_jax.training.state import TrainState

Metrics = dict[str, Array]
Step = Callable[[TrainState, Batch, Array], tuple[TrainState, Metrics]]


def make_step(system: System, train: Train, *, unroll: bool = True) -> Step:
    """The step of a system's phases: `step_of`."""
    return step_of(system.phases(), train, unroll=unroll)


def step_of(phases: tuple[Phase, ...], train: Train, *, unroll: bool = True) -> Step:
    """`step(state, batch, key) → (state, {"phase/metric": scalar})`, pure; the caller jits it and donates the state.

    The randomness of a step is `key` folded with the step and the phase, so it needs no state of its own. An update
    whose loss or gradient is not finite is not made: parameters, optimizer and collections stay as they were, and
    `skipped` grows by one.

    Args:
      unroll: write the repeats of a phase out instead of looping over them. On CPU the gradient of a convolution
        within a loop is many times slower.
    """
    rules = {phase.name: optimizers.build(phase.optimizer, train.steps * phase.repeats) for phase in phases}

    def step(state: TrainState, batch: Batch, key: Array) -> tuple[TrainState, Metrics]:
        step_key = jax.random.fold_in(key, state.step)
        skipped_before, metrics = state.skipped, {}
        for number, phase in enumerate(phases):
            phase_key = jax.random.fold_in(step_key, number)
            update = _make_update(phase, rules[phase.name], train.remat)
            if phase.repeats == 1:
                state, said = update(state, (phase.take(batch), phase_key))
            else:
                keys = jax.random.split(phase_key, phase.repeats)
                state, said = lax.scan(update, state, (phase.take(batch), keys), unroll=unroll)
                skips = said.pop("skipped").sum()
                said = {**jax.tree.map(lambda x: x.mean(0), said), "skipped": skips}
            metrics |= {f"{phase.name}/{name}": value for name, value in said.items()}
        ema = _average(state, train.ema_decay, state.skipped == skipped_before) if train.ema_decay else state.ema
        return state.replace(step=state.step + 1, ema=ema), metrics

    return step


def stored(phase: Phase, variables: Variables, batch: BatchSpec, remat: Remat) -> int:
    """Bytes that the backward pass of an update finds stored of its loss, from shapes alone.

    That is what the policy keeps and what the gradients multiply by, parameters included. A compiled program may hold
    less of it where it fuses, and holds more at times: what a layer computes with.
    """

    def kept(variables: Variables, batch: Any, key: Array) -> Any:
        part = select(variables["params"], phase.trainable)
        return jax.vjp(_loss(phase, variables, batch, key, remat), part, has_aux=True)[1]

    key = jax.eval_shape(lambda: jax.random.key(0))
    leaves = jax.tree.leaves(jax.eval_shape(kept, variables, phase.spec(batch), key))
    return sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)


def _loss(phase: Phase, variables: Variables, batch: Any, key: Array, remat: Remat) -> Callable:
    """The loss of an update as a function of what it trains."""

    def loss_of(part: Flat) -> tuple[Array, Aux]:
        return phase.loss({**variables, "params": replace(variables["params"], part)}, batch, key)

    return rematerialised(loss_of, remat)


def _make_update(phase: Phase, rule: optax.GradientTransformation, remat: Remat):
    """One update of a phase, `(state, (batch, key)) → (state, metrics)`."""

    def update(state: TrainState, inputs: tuple[Any, Array]) -> tuple[TrainState, Metrics]:
        batch, key = inputs
        params = state.variables["params"]
        part = select(params, phase.trainable)
        loss_of = _loss(phase, state.variables, batch, key, remat)
        (loss, aux), gradients = jax.value_and_grad(loss_of, has_aux=True)(part)
        norm = optax.tree.norm(gradients)
        finite = jnp.isfinite(loss) & jnp.isfinite(norm)
        changes, opt_state = rule.update(gradients, state.optimizer[phase.name], part)
        part = _choose(finite, optax.apply_updates(part, changes), part)
        opt_state = _choose(finite, opt_state, state.optimizer[phase.name])
        variables = {**state.variables, "params": replace(params, part)}
        for collection, networks in aux.updates.items():
            kept = {name: _choose(finite, tree, variables[collection][name]) for name, tree in networks.items()}
            variables[collection] = {**variables[collection], **kept}
        skipped = jnp.where(finite, 0, 1)
        state = state.replace(
            variables=variables,
            optimizer={**state.optimizer, phase.name: opt_state},
            skipped=state.skipped + skipped,
        )
        return state, {"loss": loss, "gradient_norm": norm, "skipped": skipped, **aux.metrics}

    return update


def rematerialised(function: Callable, remat: Remat) -> Callable:
    """The function, whose gradient stores only what the policy keeps; its value is unchanged.

    Activations fill the memory of an accelerator. Of a layer of convolution, norm and non-linearity, a backward pass
    stores three images by default: the inputs of the norm, of the non-linearity and of the next convolution. The last
    two follow from the first by one pass over it, so `between_convs` stores the results of convolutions alone.
    """
    return function if remat == "nothing" else jax.checkpoint(function, policy=_convs_and_sums)


def _convs_and_sums(primitive: Any, *inputs: Any, **parameters: Any) -> bool:
    """Sums are kept, too: they are small, and computing them again would repeat communication between devices."""
    if primitive.name == "reduce_sum":
        return jnp.issubdtype(inputs[0].dtype, jnp.floating)  # JAX keeps no complex ones
    return primitive.name == "name" and parameters["name"] == CONV


def _choose(condition: Array, yes: Any, no: Any) -> Any:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), yes, no)


def _average(state: TrainState, decay: float, changed: Array) -> dict[str, Array]:
    """The running average of the trainable parameters; left alone by a step in which an update was skipped."""
    part = select(state.variables["params"], tuple(state.ema))
    moved = {path: decay * state.ema[path] + (1.0 - decay) * part[path] for path in state.ema}
    return _choose(changed, moved, state.ema)
