"""Calls of a jitted function on any number of signals, in groups of a fixed number of rows: one program is compiled.

A row is one channel of one chunk, or one chunk with all channels if the system separates channels together. The rows of
a group are split over all local devices, and their number is bounded so that memory does not depend on the input.
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

# Number of rows of a group: on a CPU, and per device on accelerators.
ROWS, ROWS_PER_DEVICE = 8, 32
# Largest number of samples in all rows of a group together; groups of longer rows have fewer rows. On a CPU, and per
# device on accelerators.
MOST_SAMPLES, MOST_SAMPLES_PER_DEVICE = 2**20, 2**22


def rows_of(samples: int) -> tuple[int, NamedSharding]:
    """The number of rows of a group for rows of `samples` samples, and their sharding over the local devices."""
    devices = jax.local_devices()
    on_cpu = devices[0].platform == "cpu"
    most = max(1, (MOST_SAMPLES if on_cpu else MOST_SAMPLES_PER_DEVICE) // samples)
    rows = min(ROWS, most) if on_cpu else min(ROWS_PER_DEVICE, most) * len(devices)
    return -(-rows // len(devices)) * len(devices), NamedSharding(make_mesh(devices), PartitionSpec("data"))


def in_rows(
    run: Callable[..., Array], signals: np.ndarray, condition: Condition, *annotations: np.ndarray
) -> np.ndarray:
    """Apply `run(signals, condition, *annotations)` to all rows, group by group.

    Args:
      run: Function from `[rows, …]` to `[rows, …]`.
      signals: `[n, T]` or `[n, T, C]`; the last group is filled up with zeros.
      condition: A tree of `[1, …]`, the same for all rows, or of `[n, …]`.
      annotations: Arrays `[n, …]` that belong to the rows, such as the classes of frames.

    Returns:
      `[n, …]`.
    """
    rows, sharding = rows_of(signals.shape[1])
    missing = -len(signals) % rows
    starts = range(0, len(signals) + missing, rows)

    def groups(array: np.ndarray, mode: Any) -> list[Array]:
        padded = np.pad(array, [(0, missing)] + [(0, 0)] * (array.ndim - 1), mode)
        return [jax.device_put(padded[first : first + rows], sharding) for first in starts]

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
    """Repeat a condition of `[1, …]` for all rows `[rows, …]`; return one of `[rows, …]` unchanged."""
    return jax.tree.map(lambda leaf: jnp.repeat(leaf, rows.shape[0] // leaf.shape[0], axis=0), condition)
