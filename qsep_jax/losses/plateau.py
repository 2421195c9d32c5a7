"""Detection of a plateau: a validation loss that has stopped decreasing."""

import jax.numpy as jnp
from jax import Array


def watch(
    lowest: Array,
    since: Array,
    loss: Array,
    updates: Array,
    threshold: float,
    patience: float,
    *,
    relative: bool = False,
) -> tuple[Array, Array, Array]:
    """Take in a validation loss and report whether it has not decreased for `patience` updates or more.

    Args:
      lowest: lowest loss so far.
      since: updates since the loss last decreased by more than `threshold`.
      loss: the new validation loss.
      updates: updates since the previous validation loss.
      threshold: decrease below `lowest` that counts as an improvement.
      patience: updates without improvement that make a plateau.
      relative: whether `threshold` is a fraction of `lowest`, as by default in PyTorch's `ReduceLROnPlateau`, and not a
        difference of losses.

    Returns:
      The new `lowest`; the new `since`, which restarts at 0 after a plateau; and whether there is a plateau.
    """
    improved = loss < (lowest * (1 - threshold) if relative else lowest - threshold)
    since = jnp.where(improved, 0.0, since + updates)
    plateau = since >= patience
    return jnp.where(improved, loss, lowest), jnp.where(plateau, 0.0, since), plateau
