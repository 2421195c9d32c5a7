"""When a validation loss has stopped falling."""

import jax.numpy as jnp
from jax import Array


def watch(
    lowest: Array, since: Array, loss: Array, updates: Array, threshold: float, patience: float
) -> tuple[Array, Array, Array]:
    """The lowest loss, the updates since it fell by more than `threshold`, and whether these are `patience` or more.

    Where they are, they are counted from 0 again. `updates` is how many came since the loss before this one.
    """
    better = loss < lowest - threshold
    since = jnp.where(better, 0.0, since + updates)
    over = since >= patience
    return jnp.where(better, loss, lowest), jnp.where(over, 0.0, since), over
