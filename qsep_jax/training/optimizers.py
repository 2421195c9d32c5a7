"""From the `Optimizer` of a phase to optax."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from qsep_jax.losses import plateau
from qsep_jax.systems.base import Optimizer


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
    """The optax transformation for `updates` updates of a flat part: clipping, then the rule, then decay and rate.

    Raises:
      ValueError: for an unknown name.
    """
    schedule = learning_rate(optimizer, updates)
    clip = [optax.clip_by_global_norm(optimizer.clip_norm)] if optimizer.clip_norm else []
    coupled = [optax.add_decayed_weights(optimizer.l2)] if optimizer.l2 else []
    decay = [optax.add_decayed_weights(optimizer.weight_decay)] if optimizer.weight_decay else []
    if optimizer.name == "adam":
        rule = optax.scale_by_adam(optimizer.b1, optimizer.b2, optimizer.epsilon)
    elif optimizer.name == "amsgrad":
        rule = optax.scale_by_amsgrad(optimizer.b1, optimizer.b2, optimizer.epsilon)
    elif optimizer.name == "sgd":
        rule = optax.trace(optimizer.b1)
    else:
        raise ValueError(f"unknown optimizer '{optimizer.name}'; there are adam, amsgrad and sgd")
    by_path = [_scale_by_path(optimizer.rates)] if optimizer.rates else []
    plateau = [_scale_by_plateau()] if optimizer.schedule == "plateau" else []
    return optax.chain(*clip, *coupled, rule, *decay, *by_path, *plateau, optax.scale_by_learning_rate(schedule))


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
