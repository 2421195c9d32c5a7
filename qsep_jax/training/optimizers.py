"""From the `Optimizer` of a phase to optax."""

import jax.numpy as jnp
import optax

from qsep_jax.systems.base import Optimizer


def learning_rate(optimizer: Optimizer, updates: int) -> optax.Schedule:
    """Learning rate by update, for `updates` of them in all."""
    rate, warmup = optimizer.learning_rate, optimizer.warmup

    def dropping(count):
        drops = jnp.maximum(count + warmup - optimizer.drop_after, 0) // optimizer.drop_every
        return jnp.maximum(rate - optimizer.drop * drops, 0.0)

    if optimizer.schedule == "constant":
        main = optax.constant_schedule(rate)
    elif optimizer.schedule == "cosine":
        main = optax.cosine_decay_schedule(rate, max(updates - warmup, 1), optimizer.final_fraction)
    else:
        main = dropping
    return optax.join_schedules([optax.linear_schedule(0.0, rate, warmup), main], [warmup]) if warmup else main


def build(optimizer: Optimizer, updates: int) -> optax.GradientTransformation:
    """The optax transformation for `updates` updates: clipping, then the rule, then decay and rate.

    Raises:
      ValueError: for an unknown name.
    """
    schedule = learning_rate(optimizer, updates)
    clip = [optax.clip_by_global_norm(optimizer.clip_norm)] if optimizer.clip_norm else []
    decay = [optax.add_decayed_weights(optimizer.weight_decay)] if optimizer.weight_decay else []
    if optimizer.name == "adam":
        rule = optax.scale_by_adam(optimizer.b1, optimizer.b2, optimizer.epsilon)
    elif optimizer.name == "amsgrad":
        rule = optax.scale_by_amsgrad(optimizer.b1, optimizer.b2, optimizer.epsilon)
    elif optimizer.name == "sgd":
        rule = optax.trace(optimizer.b1)
    else:
        raise ValueError(f"unknown optimizer '{optimizer.name}'; there are adam, amsgrad and sgd")
    return optax.chain(*clip, rule, *decay, optax.scale_by_learning_rate(schedule))
