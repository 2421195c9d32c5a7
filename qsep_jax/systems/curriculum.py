"""A curriculum over the number of sources of a mixture, which grows when the validation loss stagnates.

Its state is the collection `curriculum` of the variables, so that checkpoints keep it: the number of sources, `most`,
the lowest validation loss, and the number of steps since then.
"""

import jax
import jax.numpy as jnp
from jax import Array

from data_pipelines.schema import SLOTS
from qsep_jax.losses import plateau
from qsep_jax.systems.base import Variables

# Name of the collection and of its only entry.
COLLECTION, ENTRY = "curriculum", "mixtures"
FEWEST, MOST = 2.0, 7.0
# Smallest fall of the validation loss that counts.
THRESHOLD = 1e-4


def initial() -> dict[str, dict[str, Array]]:
    """Return the state at the start: mixtures of two sources."""
    return {ENTRY: {"most": jnp.full((), FEWEST), "lowest": jnp.full((), jnp.inf), "since": jnp.zeros(())}}


def most_sources(variables: Variables) -> Array:
    """Return the present number of sources."""
    return variables[COLLECTION][ENTRY]["most"]


def advance(variables: Variables, loss: Array, updates: Array, patience: int) -> Variables:
    """Return the variables after a validation, with one source more if the loss has not fallen for `patience` steps."""
    state = variables[COLLECTION][ENTRY]
    lowest, since, grows = plateau.watch(
        state["lowest"], state["since"], loss, updates, threshold=THRESHOLD, patience=patience
    )
    lowest = jnp.where(grows, jnp.inf, lowest)  # mixtures of more sources have a higher loss
    changed = {"most": jnp.minimum(state["most"] + grows, MOST), "lowest": lowest, "since": since}
    return {**variables, COLLECTION: {ENTRY: changed}}


def random_sources(batch: dict[str, Array], variables: Variables, key: Array) -> dict[str, Array]:
    """Reduce the sources of each example to a random number, from 2 to the present one."""
    share = jax.random.uniform(key, (len(batch[SLOTS]),))
    return _first_sources(batch, share, most_sources(variables))


def spread_sources(batch: dict[str, Array], variables: Variables) -> dict[str, Array]:
    """Reduce the sources of the examples to all numbers from 2 to the present one in equal shares."""
    share = (jnp.arange(len(batch[SLOTS])) + 0.5) / len(batch[SLOTS])
    return _first_sources(batch, share, most_sources(variables))


def _first_sources(batch: dict[str, Array], share: Array, most: Array) -> dict[str, Array]:
    """Empty all slots of each example but the first `2 + ⌊share · (most − 1)⌋`."""
    count = FEWEST + jnp.floor(share * (most - 1))
    remaining = jnp.arange(batch[SLOTS].shape[1])[None] < count[:, None]

    def emptied(leaf: Array) -> Array:
        return leaf * remaining.reshape(*remaining.shape, *[1] * (leaf.ndim - 2)).astype(leaf.dtype)

    return {name: jnp.where(remaining, leaf, -1) if name == SLOTS else emptied(leaf) for name, leaf in batch.items()}
