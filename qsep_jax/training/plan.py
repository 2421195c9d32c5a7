"""The resources that a run needs on each device, from shapes: `qsep train --config … --plan 8`."""

import dataclasses
import math
from typing import Any

import jax
import numpy as np
from jax.extend.backend import clear_backends
from jax.sharding import Mesh

from qsep_jax.systems.base import System
from qsep_jax.training import cost, sharding
from qsep_jax.training.compiled import Compiled
from qsep_jax.training.partition import select
from qsep_jax.training.settings import Train
from qsep_jax.training.step import bytes_stored_for_backward

MIB = 2.0**20


@dataclasses.dataclass(frozen=True)
class Plan:
    """The resources of a run; sizes are bytes on one device unless stated otherwise.

    Attributes:
      platform: Kind of device that the step was compiled for; the temporaries depend on it.
      devices: Number of devices.
      parameters: Number of parameters, over all devices.
      state: Size of parameters, optimizer state and averages.
      batch: Size of the device's part of a batch.
      stored: Largest size that the backward pass of an update needs stored, from shapes
        (`qsep_jax.training.step.bytes_stored_for_backward`).
      temporaries: Largest size of further buffers of the compiled step; None if the platform does not report it.
      flops: Operations in the matrix products of a step, by module, over all devices (`qsep_jax.training.cost.step`).
      gradients: Minimal size of the gradients that the device communicates per step, once for each update.
    """

    platform: str
    devices: int
    parameters: int
    state: int
    batch: int
    stored: int
    temporaries: int | None
    flops: dict[str, float]
    gradients: int


def devices_for(count: int) -> Mesh:
    """Make a mesh of `count` devices: accelerators if there are enough, otherwise simulated CPU devices."""
    devices = jax.devices()
    if len(devices) < count:
        clear_backends()
        jax.config.update("jax_platforms", "cpu")
        jax.config.update("jax_num_cpu_devices", count)
        devices = jax.devices()
    return sharding.make_mesh(devices[:count])


def plan(system: System, train: Train, mesh: Mesh) -> Plan:
    """Compile the step for a mesh and determine the resources that it needs, without running it.

    Raises:
      ValueError: if the devices do not divide the batch.
    """
    sharding.check_batch_size(train.batch_size, mesh)
    batch = _shapes(system, train.batch_size)
    compiled = Compiled(system, train, mesh, batch)
    placed = {
        stream: jax.tree.map(lambda leaf, split=split: leaf.update(sharding=split), batch[stream])
        for stream, split in sharding.batch_shardings(system, mesh).items()
    }
    memory = compiled.steps.lower(compiled.abstract_state, (placed,), compiled.key).compile().memory_analysis()
    variables = compiled.abstract_state.variables
    phases = system.phases()
    gradients = sum(phase.repeats * _size(select(variables["params"], phase.trainable), total=True) for phase in phases)
    part = _shapes(system, train.batch_size // mesh.size)
    costs = cost.step(system, variables, batch)
    return Plan(
        platform=mesh.devices.flat[0].device_kind,
        devices=mesh.size,
        parameters=sum(leaf.size for leaf in jax.tree.leaves(variables["params"])),
        state=_size(compiled.abstract_state),
        batch=_size(placed),
        stored=max(bytes_stored_for_backward(phase, variables, part, train.remat) for phase in phases),
        temporaries=None if memory is None else memory.temp_size_in_bytes,
        flops={module: module_cost.flops for module, module_cost in costs.items()},
        gradients=gradients,
    )


def describe(planned: Plan, train: Train) -> str:
    """Describe a plan in words."""
    total = sum(planned.flops.values())
    largest = sorted(planned.flops.items(), key=lambda item: -item[1])[:8]
    temporaries = "unknown" if planned.temporaries is None else f"{planned.temporaries / MIB:,.0f} MiB"
    lines = [
        f"{planned.parameters:,} parameters, batch of {train.batch_size} over {planned.devices} devices, "
        f"compiled for {planned.platform}",
        f"memory of each device: state {planned.state / MIB:,.1f} MiB"
        + (" (split)" if train.shard_parameters else "")
        + f", batch {planned.batch / MIB:,.1f} MiB, temporaries {temporaries}",
        f"the backward pass needs at most {planned.stored / MIB:,.1f} MiB stored on each device, from shapes "
        f"(train.remat {train.remat})",
        f"communication between devices: {planned.gradients / MIB:,.1f} MiB of gradients per step",
        f"a step computes {total / 1e9:,.1f} GFLOP, {total / planned.devices / 1e9:,.1f} on each device; modules:",
        *(f"  {flops / total:6.1%}  {module or 'outside of all modules'}" for module, flops in largest if total),
    ]
    return "\n".join(lines)


def _shapes(system: System, batch_size: int) -> dict[str, Any]:
    """Return the shapes of a batch; its batch axes are those in which batches of 1 and 2 examples differ."""
    one, two = (system.noise(np.random.default_rng(0), count) for count in (1, 2))

    def leaf_shape(single: np.ndarray, pair: np.ndarray) -> jax.ShapeDtypeStruct:
        axes = zip(single.shape, pair.shape, strict=True)
        return jax.ShapeDtypeStruct([a if a == b else batch_size for a, b in axes], single.dtype)

    return {stream: jax.tree.map(leaf_shape, one[stream], two[stream]) for stream in one}


def _size(tree: object, total: bool = False) -> int:
    """Return the bytes of a tree of shapes that one device holds, or with `total` those over all devices."""

    def leaf_size(leaf: jax.ShapeDtypeStruct) -> int:
        shape = leaf.shape if total or leaf.sharding is None else leaf.sharding.shard_shape(leaf.shape)
        return math.prod(shape) * leaf.dtype.itemsize

    return sum(leaf_size(leaf) for leaf in jax.tree.leaves(tree))
