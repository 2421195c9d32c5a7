"""Signals through a jitted function in groups of a fixed number of rows: one compiled program for any number of them.

A row is one channel of one chunk, or one chunk of all channels where a system takes several together. The rows of a
group are split over all local devices, and their number is bounded so that memory does not depend on the input.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import NamedSharding, PartitionSpec

from qsep_jax.systems.base import Condition
from qsep_jax.training.sharding import make_mesh

# Rows of a group: on a CPU, and per device on accelerators.
ROWS, ROWS_PER_DEVICE = 8, 32
# Most samples in all rows of a group together; longer rows make smaller groups.
LONGEST, LONGEST_PER_DEVICE = 2**20, 2**22


def rows_of(samples: int) -> tuple[int, NamedSharding]:
    """How many rows of `samples` samples make a group, and how they are split over the local devices."""
    devices = jax.local_devices()
    on_cpu = devices[0].platform == "cpu"
    most = max(1, (LONGEST if on_cpu else LONGEST_PER_DEVICE) // samples)
    least = min(ROWS, most) if on_cpu else min(ROWS_PER_DEVICE, most) * len(devices)
    return -(-least // len(devices)) * len(devices), NamedSharding(make_mesh(devices), PartitionSpec("data"))


def in_rows(
    run: Callable[..., Array], signals: np.ndarray, condition: Condition, *annotations: np.ndarray
) -> np.ndarray:
    """`run(signals, condition, *annotations)` over all rows, group by group.

    Args:
      run: takes `[rows, …]` and gives `[rows, …]`.
      signals: `[n, T]` or `[n, T, C]`; the last group is filled up with zeros.
      condition: a tree of `[1, …]`, the same for all rows, or of `[n, …]`.
      annotations: arrays `[n, …]` that belong to the rows, such as the classes of frames.

    Returns:
      `[n, …]`.
    """
    rows, split = rows_of(signals.shape[1])
    missing = -len(signals) % rows
    starts = range(0, len(signals) + missing, rows)

    def groups(array: np.ndarray, mode: Any) -> list[Array]:
        padded = np.pad(array, [(0, missing)] + [(0, 0)] * (array.ndim - 1), mode)
        return [jax.device_put(padded[first : first + rows], split) for first in starts]

    leaves, structure = jax.tree.flatten(condition)
    conditions = [condition] * len(starts)
    if any(leaf.shape[0] > 1 for leaf in leaves):
        parts = zip(*(groups(np.asarray(leaf), "edge") for leaf in leaves), strict=True)
        conditions = [jax.tree.unflatten(structure, part) for part in parts]
    inputs = zip(
        groups(signals, "constant"), conditions, *(groups(array, "constant") for array in annotations), strict=True
    )
    outputs = [run(*group) for group in inputs]
    return np.concatenate(jax.device_get(outputs))[: len(signals)]


def repeat_condition(condition: Condition, rows: Array) -> Condition:
    """A condition of `[1, …]` repeated for all rows `[rows, …]`; one of `[rows, …]` stays as it is."""
    return jax.tree.map(lambda leaf: jnp.repeat(leaf, rows.shape[0] // leaf.shape[0], axis=0), condition)
