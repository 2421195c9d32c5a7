"""From the `Optimizer` of a phase to optax."""

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
    """Learning rate by update, for `updates` of them in all."""
    rate, warmup = optimizer.learning_rate, optimizer.warmup

    def dropping(count):
        drops = jnp.maximum(count + warmup - optimizer.drop_after, 0) // optimizer.drop_every
        return jnp.maximum(rate - optimizer.drop * drops, 0.0)

    if optimizer.schedule in ("constant", "plateau"):
        main = optax.constant_schedule(rate)
    elif optimizer.schedule == "cosine":
        main = optax.cosine_decay_schedule(rate, max(updates - warmup, 1), optimizer.final_fraction)
    else:
        main = dropping
    return optax.join_schedules([optax.linear_schedule(0.0, rate, warmup), main], [warmup]) if warmup else main


def build(optimizer: Optimizer, updates: int) -> optax.GradientTransformation:
    """The optax transformation for `updates` updates of a flat part.

    In this order: clipping, centralisation, coupled decay, the rule, decay, the rate, the slow parameters.

    Raises:
      ValueError: for an unknown name, or a `b2` with which `radam` would never adapt.
    """
    schedule = learning_rate(optimizer, updates)
    clip = [optax.clip_by_global_norm(optimizer.clip_norm)] if optimizer.clip_norm else []
    centralize = [optax.stateless(_centralized)] if optimizer.centralize else []
    coupled = [optax.add_decayed_weights(optimizer.l2)] if optimizer.l2 else []
    decay = [optax.add_decayed_weights(optimizer.weight_decay)] if optimizer.weight_decay else []
    if optimizer.name == "adam":
        rule = optax.scale_by_adam(optimizer.b1, optimizer.b2, optimizer.epsilon)
    elif optimizer.name == "amsgrad":
        rule = optax.scale_by_amsgrad(optimizer.b1, optimizer.b2, optimizer.epsilon)
    elif optimizer.name == "radam":
        rule = _scale_by_radam(optimizer.b1, optimizer.b2, optimizer.epsilon)
    elif optimizer.name == "sgd":
        rule = optax.trace(optimizer.b1)
    else:
        raise ValueError(f"unknown optimizer '{optimizer.name}'; there are adam, amsgrad, radam and sgd")
    by_path = [_scale_by_path(optimizer.rates)] if optimizer.rates else []
    plateau = [_scale_by_plateau()] if optimizer.schedule == "plateau" else []
    rate = optax.scale_by_learning_rate(schedule)
    slow = [_look_ahead(optimizer.lookahead, optimizer.slow_rate)] if optimizer.lookahead else []
    return optax.chain(*clip, *centralize, *coupled, rule, *decay, *by_path, *plateau, rate, *slow)


class Lookahead(NamedTuple):
    """State of slow parameters: the updates so far, and where they stand."""

    count: Array
    slow: Any


def slow_parameters(state: Any, optimizer: Optimizer) -> Flat | None:
    """The slow parameters in the state of an optimizer, the ones to use after training; None without lookahead."""
    return state[-1].slow if optimizer.lookahead else None


class Plateau(NamedTuple):
    """State of a rate that falls on plateaus: its factor, the lowest validation loss, and the updates since then."""

    scale: Array
    lowest: Array
    since: Array


def observe(state: Any, optimizer: Optimizer, loss: Array, updates: Array) -> Any:
    """The state of an optimizer after a validation loss, `updates` updates after the one before."""

    def moved(part: Any) -> Any:
        if not isinstance(part, Plateau):
            return part
        patience, threshold = optimizer.patience, optimizer.threshold
        lowest, since, over = plateau.watch(part.lowest, part.since, loss, updates, threshold, patience)
        return Plateau(jnp.where(over, optimizer.factor * part.scale, part.scale), lowest, since)

    return jax.tree.map(moved, state, is_leaf=lambda part: isinstance(part, Plateau))


def _scale_by_plateau() -> optax.GradientTransformation:
    def init(params: Any) -> Plateau:
        return Plateau(jnp.ones(()), jnp.full((), jnp.inf), jnp.zeros(()))

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Plateau]:
        return jax.tree.map(lambda change: state.scale * change, updates), state

    return optax.GradientTransformation(init, update)


def _scale_by_path(rates: tuple[tuple[str, float], ...]) -> optax.GradientTransformation:
    def factor(path: str) -> float:
        return next((rate for prefix, rate in rates if f"{path}/".startswith(f"{prefix}/")), 1.0)

    def scaled(changes: Any, _: Any) -> Any:
        return {path: factor(path) * change for path, change in changes.items()}

    return optax.stateless(scaled)


def _centralized(gradients: Any, _: Any) -> Any:
    """Gradient centralisation (Yong 2020, Eq. 1): g − mean(g) for each output, which is the last axis."""

    def centralized(g: Array) -> Array:
        return g - g.mean(range(g.ndim - 1), keepdims=True) if g.ndim > 1 else g

    return jax.tree.map(centralized, gradients)


def _scale_by_radam(b1: float, b2: float, epsilon: float) -> optax.GradientTransformation:
    """RAdam (Liu 2020, algorithm 2) as in Ranger, m/(1 − b1ᵗ)·r·√(1 − b2ᵗ)/(√v + ε), or m/(1 − b1ᵗ) while N ≤ 5.

    N is the number of gradients that v averages over, r what its variance takes from the rate. optax's RAdam adds ε to
    √(v/(1 − b2ᵗ)), where it weighs up to 13 times less at b2 = 0.999, and its float32 N is off by 0.04 there.
    """
    if not 2 / 3 < b2 < 1.0:
        raise ValueError(f"radam never adapts with b2 = {b2}: give one above 2/3 and below 1, or take sgd")
    decay, most = -math.log(b2), (1 + b2) / (1 - b2)

    def init(params: Any) -> optax.ScaleByAdamState:
        return optax.ScaleByAdamState(
            jnp.zeros((), jnp.int32), optax.tree.zeros_like(params), optax.tree.zeros_like(params)
        )

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, optax.ScaleByAdamState]:
        count = state.count + 1
        mean = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * g, state.mu, updates)
        square = jax.tree.map(lambda v, g: b2 * v + (1 - b2) * g**2, state.nu, updates)
        seen = -jnp.expm1(-decay * count)  # 1 − b2ᵗ, written so that float32 keeps its digits
        length = most - 2 * count * (1 - seen) / seen
        adapts = length > 5
        n = jnp.maximum(length, 5.0)
        r = jnp.sqrt((n - 4) * (n - 2) * most / ((most - 4) * (most - 2) * n))
        size = jnp.where(adapts, r * jnp.sqrt(seen), 1.0) / (1 - b1**count)
        changes = jax.tree.map(lambda m, v: size * m / jnp.where(adapts, jnp.sqrt(v) + epsilon, 1.0), mean, square)
        return changes, optax.ScaleByAdamState(count, mean, square)

    return optax.GradientTransformation(init, update)


def _look_ahead(every: int, rate: float) -> optax.GradientTransformation:
    """Lookahead (Zhang 2019, algorithm 1): after each `every` updates slow += rate·(fast − slow), then fast = slow.

    Stands last in a chain, for it needs the update that is made. As in Ranger, slow begins at the parameters of the
    first update, which may be other ones than the state was made with: pretrained ones, say.
    """

    def init(params: Any) -> Lookahead:
        return Lookahead(jnp.zeros((), jnp.int32), jax.tree.map(jnp.array, params))

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Lookahead]:
        count = state.count + 1
        meets = count % every == 0
        slow = jax.tree.map(lambda slow, fast: jnp.where(state.count == 0, fast, slow), state.slow, params)

        def change(slow: Array, fast: Array, step: Array) -> Array:
            return jnp.where(meets, slow + rate * (fast + step - slow) - fast, step)

        changes = jax.tree.map(change, slow, params, updates)
        moved = optax.apply_updates(params, changes)  # as the caller will, so that both are the same to the bit
        return changes, Lookahead(count, jax.tree.map(lambda new, old: jnp.where(meets, new, old), moved, slow))

    return optax.GradientTransformation(init, update)
