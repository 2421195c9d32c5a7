"""Data parallelism over one mesh axis: the batch is split over it, and the state is replicated or also split.

The same program runs on one device, on eight devices or on several hosts; only the mesh differs.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from qsep_jax.systems.base import System

# Minimal number of elements of a parameter that is split over devices.
MIN_SPLIT_SIZE = 2**12


def make_mesh(devices: Sequence[Any] | None = None) -> Mesh:
    """Make a mesh of the given devices, by default all of them, along the axis `data`."""
    devices = jax.devices() if devices is None else devices
    return Mesh(np.asarray(devices), ("data",), axis_types=(AxisType.Auto,))


def replicated(mesh: Mesh) -> NamedSharding:
    """The sharding of arrays that every device of a mesh holds completely."""
    return NamedSharding(mesh, PartitionSpec())


def abstract(tree: Any, sharding: Any = None) -> Any:
    """Return the shapes and dtypes of a tree of arrays.

    Args:
      tree: the arrays.
      sharding: a sharding for all leaves, or a tree with one for each leaf.
    """

    def abstract_leaf(leaf: Any, leaf_sharding: Any = sharding) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf_sharding)

    if sharding is None or isinstance(sharding, jax.sharding.Sharding):
        return jax.tree.map(abstract_leaf, tree)
    return jax.tree.map(abstract_leaf, tree, sharding)


def with_mesh(mesh: Mesh, function: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a function so that it is traced under the abstract mesh, which `apply_per_device` needs."""

    def call(*args: Any) -> Any:
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
            return function(*args)

    return call


def state_shardings(shapes: Any, mesh: Mesh, split: bool) -> Any:
    """Choose a sharding for each leaf of a tree of shapes: replicated, or with `split` divided into equal parts.

    A leaf is split along its longest axis that the devices divide, the last of equal ones (ZeRO stage 3, known as
    FSDP). Leaves without such an axis or with fewer elements than `MIN_SPLIT_SIZE` are replicated, because gathering
    them would take more time than the saved memory is worth.
    """

    def leaf_sharding(leaf: jax.ShapeDtypeStruct) -> NamedSharding:
        divided = [axis for axis, length in enumerate(leaf.shape) if length % mesh.size == 0]
        if not split or not divided or math.prod(leaf.shape) < MIN_SPLIT_SIZE:
            return replicated(mesh)
        longest = max(divided, key=lambda axis: (leaf.shape[axis], axis))
        return NamedSharding(mesh, PartitionSpec(*[None] * longest, "data"))

    return jax.tree.map(leaf_sharding, shapes)


def check_batch_size(batch_size: int, mesh: Mesh) -> None:
    """Raise ValueError if the devices do not divide the batch; the message names the nearest sizes that work."""
    devices = mesh.size
    if batch_size % devices:
        lower, upper = batch_size // devices * devices, -(-batch_size // devices) * devices
        nearest = f"{lower} or {upper}" if lower else str(upper)
        raise ValueError(f"a batch of {batch_size} cannot be split over {devices} devices; choose {nearest}")


def batch_shardings(system: System, mesh: Mesh) -> dict[str, NamedSharding]:
    """Return the sharding of each stream's leaves `[B, …]`, or `[R, B, …]` where a phase repeats."""
    specs = {}
    for phase in system.phases():
        spec = PartitionSpec("data") if phase.repeats == 1 else PartitionSpec(None, "data")
        specs |= dict.fromkeys(phase.streams, spec)
    return {stream: NamedSharding(mesh, spec) for stream, spec in specs.items()}


def place(batch: dict[str, Any], shardings: dict[str, NamedSharding]) -> dict[str, Any]:
    """Place this process's examples of a batch, numpy arrays, as parts of global arrays on the devices."""
    with jax.transfer_guard("allow"):  # with several processes, jax counts this as an implicit transfer
        return {
            stream: jax.tree.map(partial(jax.make_array_from_process_local_data, shardings[stream]), tree)
            for stream, tree in batch.items()
        }
