"""Conversion of the `Optimizer` of a phase to optax transformations."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from qsep_jax.losses import plateau
from qsep_jax.systems.base import Optimizer
from qsep_jax.training.partition import Flat


def learning_rate(optimizer: Optimizer, updates: int) -> optax.Schedule:
    """Return the schedule of the learning rate over `updates` updates in all."""
    rate, warmup = optimizer.learning_rate, optimizer.warmup

    def drops_schedule(count):
        drops = jnp.maximum(count + warmup - optimizer.drop_after, 0) // optimizer.drop_every
        return jnp.maximum(rate - optimizer.drop * drops, 0.0)

    if optimizer.schedule in ("constant", "plateau"):
        main = optax.constant_schedule(rate)
    elif optimizer.schedule == "milestones":
        after_warmup = {max(update - warmup, 0): optimizer.factor for update in optimizer.milestones}
        main = optax.piecewise_constant_schedule(rate, after_warmup)
    elif optimizer.schedule == "cosine":
        main = optax.cosine_decay_schedule(rate, max(updates - warmup, 1), optimizer.final_fraction)
    else:
        main = drops_schedule
    return optax.join_schedules([optax.linear_schedule(0.0, rate, warmup), main], [warmup]) if warmup else main


def build(optimizer: Optimizer, updates: int) -> optax.GradientTransformation:
    """Build the optax transformation of a flat part of the parameters for `updates` updates.

    The order is: clipping, centralisation, coupled decay, the rule, decoupled decay, the learning rate, and the slow
    parameters of lookahead.

    Raises:
      ValueError: if the name of the optimizer is unknown, or if `radam` would never adapt with this `b2`.
    """
    schedule = learning_rate(optimizer, updates)
    clip = [optax.clip_by_global_norm(optimizer.clip_norm)] if optimizer.clip_norm else []
    centralize = [optax.stateless(_centralize)] if optimizer.centralize else []
    coupled = [optax.add_decayed_weights(optimizer.l2)] if optimizer.l2 else []
    decay = [optax.add_decayed_weights(optimizer.weight_decay)] if optimizer.weight_decay else []
    if optimizer.name == "adam":
        rule = optax.scale_by_adam(optimizer.b1, optimizer.b2, optimizer.epsilon)
    elif optimizer.name == "amsgrad":
        rule = _scale_by_amsgrad(optimizer.b1, optimizer.b2, optimizer.epsilon)
    elif optimizer.name == "radam":
        rule = _scale_by_radam(optimizer.b1, optimizer.b2, optimizer.epsilon)
    elif optimizer.name == "sgd":
        rule = optax.trace(optimizer.b1)
    else:
        raise ValueError(f"unknown optimizer '{optimizer.name}'; choose adam, amsgrad, radam or sgd")
    by_path = [_scale_by_path(optimizer.rates)] if optimizer.rates else []
    plateau = [_scale_by_plateau()] if optimizer.schedule == "plateau" else []
    scale = optax.scale_by_learning_rate(schedule)
    slow = [_lookahead(optimizer.lookahead, optimizer.slow_rate)] if optimizer.lookahead else []
    return optax.chain(*clip, *centralize, *coupled, rule, *decay, *by_path, *plateau, scale, *slow)


class Lookahead(NamedTuple):
    """State of lookahead.

    Attributes:
      count: Number of updates so far.
      slow: Slow parameters.
    """

    count: Array
    slow: Any


def slow_parameters(state: Any, optimizer: Optimizer) -> Flat | None:
    """Return the slow parameters of lookahead from a state; None without lookahead."""
    return state[-1].slow if optimizer.lookahead else None


class Plateau(NamedTuple):
    """State of a learning rate that is reduced on plateaus of the validation loss.

    Attributes:
      scale: Factor of the learning rate.
      lowest: Lowest validation loss.
      since: Updates since the loss last decreased.
    """

    scale: Array
    lowest: Array
    since: Array


def observe(state: Any, optimizer: Optimizer, loss: Array, updates: Array, begins_stage: Array | bool = False) -> Any:
    """Return the state of an optimizer after a validation loss, `updates` updates after the previous one.

    With `begins_stage` the next losses are of another stage of training: the plateau forgets its lowest loss and starts
    to count anew, and the learning rate stays as it is.
    """

    def observe_part(part: Any) -> Any:
        if not isinstance(part, Plateau):
            return part
        patience, threshold, relative = optimizer.patience, optimizer.threshold, optimizer.threshold_mode == "relative"
        lowest, since, is_plateau = plateau.watch(
            part.lowest, part.since, loss, updates, threshold, patience, relative=relative
        )
        scale = jnp.where(is_plateau & ~jnp.asarray(begins_stage), optimizer.factor * part.scale, part.scale)
        return Plateau(scale, jnp.where(begins_stage, jnp.inf, lowest), jnp.where(begins_stage, 0.0, since))

    return jax.tree.map(observe_part, state, is_leaf=lambda part: isinstance(part, Plateau))


def _scale_by_plateau() -> optax.GradientTransformation:
    """Scale updates by the factor in the `Plateau` state, which `observe` changes."""

    def init(params: Any) -> Plateau:
        return Plateau(jnp.ones(()), jnp.full((), jnp.inf), jnp.zeros(()))

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Plateau]:
        return jax.tree.map(lambda change: state.scale * change, updates), state

    return optax.GradientTransformation(init, update)


def _scale_by_path(rates: tuple[tuple[str, float], ...]) -> optax.GradientTransformation:
    """Scale updates by the factor of the first prefix that matches a parameter's path, 1 without a match."""

    def factor(path: str) -> float:
        return next((rate for prefix, rate in rates if f"{path}/".startswith(f"{prefix}/")), 1.0)

    def scale(changes: Any, _: Any) -> Any:
        return {path: factor(path) * change for path, change in changes.items()}

    return optax.stateless(scale)


def _centralize(gradients: Any, _: Any) -> Any:
    """Centralise gradients (Yong 2020, Eq. 1): g − mean(g) for each output, which is the last axis."""

    def centralize_leaf(g: Array) -> Array:
        return g - g.mean(range(g.ndim - 1), keepdims=True) if g.ndim > 1 else g

    return jax.tree.map(centralize_leaf, gradients)


def _scale_by_amsgrad(b1: float, b2: float, epsilon: float) -> optax.GradientTransformation:
    """AMSGrad (Reddi 2018) as in PyTorch: m/(1 − b1ᵗ) / (√(v̂/(1 − b2ᵗ)) + ε), where v̂ is the largest v so far.

    optax takes the maximum of v/(1 − b2ᵗ) instead. It never forgets the second moments of the first updates, which the
    division makes as large as the squared gradients of a network that has just been initialised: after 400 updates of
    Lin 2021's MSI its denominators are 7 times as large in the median.
    """

    def init(params: Any) -> optax.ScaleByAmsgradState:
        moments = (optax.tree.zeros_like(params) for _ in range(3))
        return optax.ScaleByAmsgradState(jnp.zeros((), jnp.int32), *moments)

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, optax.ScaleByAmsgradState]:
        count = state.count + 1
        mean = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * g, state.mu, updates)
        square = jax.tree.map(lambda v, g: b2 * v + (1 - b2) * g**2, state.nu, updates)
        largest = jax.tree.map(jnp.maximum, state.nu_max, square)
        mean_weight, square_weight = _total_weight(b1, count), _total_weight(b2, count)
        changes = jax.tree.map(lambda m, v: m / mean_weight / (jnp.sqrt(v / square_weight) + epsilon), mean, largest)
        return changes, optax.ScaleByAmsgradState(count, mean, square, largest)

    return optax.GradientTransformation(init, update)


def _total_weight(decay: float, count: Array) -> Array:
    """Return 1 − decayᵗ, the sum of the weights of a moment after t updates, without cancellation in float32."""
    return -jnp.expm1(count * (math.log(decay) if decay else -math.inf))


def _scale_by_radam(b1: float, b2: float, epsilon: float) -> optax.GradientTransformation:
    """RAdam (Liu 2020, algorithm 2) as in Ranger: m/(1 − b1ᵗ)·r·√(1 − b2ᵗ)/(√v + ε), or m/(1 − b1ᵗ) while N ≤ 5.

    N is the number of gradients that v averages over, and r the rectification for its variance. optax's RAdam instead
    adds ε to √(v/(1 − b2ᵗ)), where it has up to 13 times less weight at b2 = 0.999, and its float32 N has an error of
    0.04 there.
    """
    if not 2 / 3 < b2 < 1.0:
        raise ValueError(f"radam never adapts with b2 = {b2}: choose b2 above 2/3 and below 1, or use sgd")
    max_length = (1 + b2) / (1 - b2)

    def init(params: Any) -> optax.ScaleByAdamState:
        return optax.ScaleByAdamState(
            jnp.zeros((), jnp.int32), optax.tree.zeros_like(params), optax.tree.zeros_like(params)
        )

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, optax.ScaleByAdamState]:
        count = state.count + 1
        mean = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * g, state.mu, updates)
        square = jax.tree.map(lambda v, g: b2 * v + (1 - b2) * g**2, state.nu, updates)
        weight = _total_weight(b2, count)
        length = max_length - 2 * count * (1 - weight) / weight
        adapts = length > 5
        n = jnp.maximum(length, 5.0)
        r = jnp.sqrt((n - 4) * (n - 2) * max_length / ((max_length - 4) * (max_length - 2) * n))
        size = jnp.where(adapts, r * jnp.sqrt(weight), 1.0) / (1 - b1**count)
        changes = jax.tree.map(lambda m, v: size * m / jnp.where(adapts, jnp.sqrt(v) + epsilon, 1.0), mean, square)
        return changes, optax.ScaleByAdamState(count, mean, square)

    return optax.GradientTransformation(init, update)


def _lookahead(every: int, rate: float) -> optax.GradientTransformation:
    """Lookahead (Zhang 2019, algorithm 1): after each `every` updates slow += rate·(fast − slow), then fast = slow.

    It must be the last transformation of a chain, because it needs the final update. As in Ranger, the slow parameters
    start at the parameters of the first update, which may differ from those with which the state was created, for
    example after pretrained weights were loaded.
    """

    def init(params: Any) -> Lookahead:
        return Lookahead(jnp.zeros((), jnp.int32), jax.tree.map(jnp.array, params))

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Lookahead]:
        count = state.count + 1
        synchronizes = count % every == 0
        slow = jax.tree.map(lambda slow, fast: jnp.where(state.count == 0, fast, slow), state.slow, params)

        def change(slow: Array, fast: Array, step: Array) -> Array:
            return jnp.where(synchronizes, slow + rate * (fast + step - slow) - fast, step)

        changes = jax.tree.map(change, slow, params, updates)
        updated = optax.apply_updates(params, changes)  # as the caller does, so that both are equal to the bit
        return changes, Lookahead(
            count, jax.tree.map(lambda new, old: jnp.where(synchronizes, new, old), updated, slow)
        )

    return optax.GradientTransformation(init, update)
