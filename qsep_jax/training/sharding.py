"""Data parallelism: one mesh axis, the batch split over it, the state on every device or split as well.

The same program runs on one device, on eight, or on several hosts: only the mesh differs.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from qsep_jax.systems.base import System

# Elements from which on a parameter is split over devices, where parameters are.
WORTH_SPLITTING = 2**12


def make_mesh(devices: Sequence[Any] | None = None) -> Mesh:
    """A mesh of all devices, or of those given, along the axis `data`."""
    devices = jax.devices() if devices is None else devices
    return Mesh(np.asarray(devices), ("data",), axis_types=(AxisType.Auto,))


def replicated(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec())


def abstract(tree: Any, sharding: Any = None) -> Any:
    """Shapes and dtypes of a tree of arrays, with a sharding for all leaves or a tree of one for each."""

    def of_leaf(leaf: Any, where: Any = sharding) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where)

    if sharding is None or isinstance(sharding, jax.sharding.Sharding):
        return jax.tree.map(of_leaf, tree)
    return jax.tree.map(of_leaf, tree, sharding)


def under(mesh: Mesh, function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that is traced with the mesh known, for what has to be told how its input is split."""

    def traced(*args: Any) -> Any:
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
            return function(*args)

    return traced


def state_shardings(shapes: Any, mesh: Mesh, split: bool) -> Any:
    """For each leaf of a tree of shapes, whether it lies on every device, or, with `split`, in equal parts.

    Split is the longest axis that the devices divide, the last of equal ones (ZeRO stage 3, known as FSDP). What has
    none or fewer elements than `WORTH_SPLITTING` stays whole: it would take longer to gather than to keep.
    """

    def of_leaf(leaf: jax.ShapeDtypeStruct) -> NamedSharding:
        divided = [axis for axis, length in enumerate(leaf.shape) if length % mesh.size == 0]
        if not split or not divided or math.prod(leaf.shape) < WORTH_SPLITTING:
            return replicated(mesh)
        longest = max(divided, key=lambda axis: (leaf.shape[axis], axis))
        return NamedSharding(mesh, PartitionSpec(*[None] * longest, "data"))

    return jax.tree.map(of_leaf, shapes)


def check_batch_size(batch_size: int, mesh: Mesh) -> None:
    """Raise ValueError if the devices do not divide the batch, naming the nearest sizes that work."""
    devices = mesh.size
    if batch_size % devices:
        lower, upper = batch_size // devices * devices, -(-batch_size // devices) * devices
        nearest = f"{lower} or {upper}" if lower else str(upper)
        raise ValueError(f"a batch of {batch_size} does not divide over {devices} devices; give {nearest}")


def batch_shardings(system: System, mesh: Mesh) -> dict[str, NamedSharding]:
    """For each stream, how its leaves `[B, …]` (or `[R, B, …]`, where a phase repeats) lie on the devices."""
    specs = {}
    for phase in system.phases():
        spec = PartitionSpec("data") if phase.repeats == 1 else PartitionSpec(None, "data")
        specs |= dict.fromkeys(phase.streams, spec)
    return {stream: NamedSharding(mesh, spec) for stream, spec in specs.items()}


def place(batch: dict[str, Any], shardings: dict[str, NamedSharding]) -> dict[str, Any]:
    """This process's rows of a batch, numpy, as global arrays on the devices."""
    with jax.transfer_guard("allow"):  # meant, though jax takes it for an accident where there are several processes
        return {
            stream: jax.tree.map(partial(jax.make_array_from_process_local_data, shardings[stream]), tree)
            for stream, tree in batch.items()
        }
