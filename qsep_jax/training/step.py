"""One training step: all phases of a system in order, each of which updates the parameters that it trains."""

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
    """Build the step of a system's phases, as `step_of` does."""
    return step_of(system.phases(), train, unroll=unroll)


def step_of(phases: tuple[Phase, ...], train: Train, *, unroll: bool = True) -> Step:
    """Build the pure function `step(state, batch, key) → (state, {"phase/metric": scalar})`.

    The caller jits it and donates the state. The random key of a phase is `key` folded with the step and the phase, so
    the state holds no key. An update whose loss or gradient is not finite is skipped: parameters, optimizer and
    collections do not change, and `skipped` increases by one.

    Args:
      phases: the phases of a step, in order.
      train: settings of the run.
      unroll: whether to unroll the repeats of a phase instead of looping over them. On CPU, the gradient of a
        convolution is many times slower inside a loop.
    """
    rules = {phase.name: optimizers.build(phase.optimizer, train.steps * phase.repeats) for phase in phases}

    def step(state: TrainState, batch: Batch, key: Array) -> tuple[TrainState, Metrics]:
        step_key = jax.random.fold_in(key, state.step)
        skipped_before, metrics = state.skipped, {}
        for number, phase in enumerate(phases):
            phase_key = jax.random.fold_in(step_key, number)
            update = _make_update(phase, rules[phase.name], train.remat)
            if phase.repeats == 1:
                state, phase_metrics = update(state, (phase.take(batch), phase_key))
            else:
                keys = jax.random.split(phase_key, phase.repeats)
                state, phase_metrics = lax.scan(update, state, (phase.take(batch), keys), unroll=unroll)
                skips = phase_metrics.pop("skipped").sum()
                phase_metrics = {**jax.tree.map(lambda x: x.mean(0), phase_metrics), "skipped": skips}
            metrics |= {f"{phase.name}/{name}": value for name, value in phase_metrics.items()}
        ema = _average(state, train.ema_decay, state.skipped == skipped_before) if train.ema_decay else state.ema
        return state.replace(step=state.step + 1, ema=ema), metrics

    return step


def bytes_stored_for_backward(phase: Phase, variables: Variables, batch: BatchSpec, remat: Remat) -> int:
    """Count the bytes that the loss of an update stores for its backward pass, from shapes.

    These are the arrays that the rematerialisation policy keeps and those that gradients are multiplied by, including
    parameters. A compiled program may hold fewer bytes because of fusion, and temporarily holds more for the operands
    of a layer.
    """

    def backward(variables: Variables, batch: Any, key: Array) -> Any:
        part = select(variables["params"], phase.trainable)
        return jax.vjp(_loss(phase, variables, batch, key, remat), part, has_aux=True)[1]

    key = jax.eval_shape(lambda: jax.random.key(0))
    leaves = jax.tree.leaves(jax.eval_shape(backward, variables, phase.spec(batch), key))
    return sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)


def _loss(phase: Phase, variables: Variables, batch: Any, key: Array, remat: Remat) -> Callable:
    """Return the loss of an update as a function of the parameters that it trains."""

    def loss_of(part: Flat) -> tuple[Array, Aux]:
        return phase.loss({**variables, "params": replace(variables["params"], part)}, batch, key)

    return rematerialised(loss_of, remat)


def _make_update(phase: Phase, rule: optax.GradientTransformation, remat: Remat):
    """Build one update of a phase: `(state, (batch, key)) → (state, metrics)`."""

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
            changed = {name: _choose(finite, tree, variables[collection][name]) for name, tree in networks.items()}
            variables[collection] = {**variables[collection], **changed}
        skipped = jnp.where(finite, 0, 1)
        state = state.replace(
            variables=variables,
            optimizer={**state.optimizer, phase.name: opt_state},
            skipped=state.skipped + skipped,
        )
        return state, {"loss": loss, "gradient_norm": norm, "skipped": skipped, **aux.metrics}

    return update


def rematerialised(function: Callable, remat: Remat) -> Callable:
    """Wrap a function so that its gradient only stores what the policy keeps; its value does not change.

    Activations fill the memory of an accelerator. For a layer of convolution, norm and non-linearity, the backward pass
    stores three images by default: the inputs of the norm, of the non-linearity and of the next convolution. The last
    two can be computed from the first in one pass, so `between_convs` only stores the results of convolutions.
    """
    return function if remat == "nothing" else jax.checkpoint(function, policy=_convs_and_sums)


def _convs_and_sums(primitive: Any, *inputs: Any, **parameters: Any) -> bool:
    """Keep the results of convolutions; keep also sums, which are small and may need communication to recompute."""
    if primitive.name == "reduce_sum":
        return jnp.issubdtype(inputs[0].dtype, jnp.floating)  # JAX cannot keep complex results
    return primitive.name == "name" and parameters["name"] == CONV


def _choose(condition: Array, if_true: Any, if_false: Any) -> Any:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), if_true, if_false)


def _average(state: TrainState, decay: float, changed: Array) -> dict[str, Array]:
    """Update the running average of the trainable parameters, unless the step skipped an update."""
    part = select(state.variables["params"], tuple(state.ema))
    averages = {path: decay * state.ema[path] + (1.0 - decay) * part[path] for path in state.ema}
    return _choose(changed, averages, state.ema)
