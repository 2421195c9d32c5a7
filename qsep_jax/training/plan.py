"""What a run would take of each device, from shapes alone: `python -m qsep_jax.train --config … --plan 8`."""

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
from qsep_jax.training.step import stored

MIB = 2.0**20


@dataclasses.dataclass(frozen=True)
class Plan:
    """Of one device, bytes, unless said otherwise.

    Attributes:
      platform: what the step was compiled for, which the temporaries depend on.
      parameters: how many, over all devices.
      state: parameters, optimizer and average.
      batch: its part of a batch.
      stored: most that the backward pass of an update finds stored, from shapes (`qsep_jax.training.step.stored`).
      temporaries: most of what the compiled step holds besides; None where the platform does not say.
      flops: of a step's matrix products, by module, over all devices (`qsep_jax.training.cost.step`).
      gradients: what it has to send and receive per step at least, once for each update.
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
    """A mesh of so many devices: accelerators if there are as many here, simulated ones on the CPU otherwise."""
    found = jax.devices()
    if len(found) < count:
        clear_backends()
        jax.config.update("jax_platforms", "cpu")
        jax.config.update("jax_num_cpu_devices", count)
        found = jax.devices()
    return sharding.make_mesh(found[:count])


def plan(system: System, train: Train, mesh: Mesh) -> Plan:
    """Compile the step for a mesh and read off what it takes. Nothing is run, and no parameter is made.

    Raises:
      ValueError: if the devices do not divide the batch.
    """
    sharding.check_batch_size(train.batch_size, mesh)
    batch = _shapes(system, train.batch_size)
    compiled = Compiled(system, train, mesh, batch)
    placed = {
        stream: jax.tree.map(lambda leaf, where=where: leaf.update(sharding=where), batch[stream])
        for stream, where in sharding.batch_shardings(system, mesh).items()
    }
    memory = compiled.steps.lower(compiled.abstract_state, (placed,), compiled.key).compile().memory_analysis()
    variables = compiled.abstract_state.variables
    phases = system.phases()
    sent = sum(phase.repeats * _size(select(variables["params"], phase.trainable), whole=True) for phase in phases)
    of_a_device = _shapes(system, train.batch_size // mesh.size)
    by_module = cost.step(system, variables, batch)
    return Plan(
        platform=mesh.devices.flat[0].device_kind,
        devices=mesh.size,
        parameters=sum(leaf.size for leaf in jax.tree.leaves(variables["params"])),
        state=_size(compiled.abstract_state),
        batch=_size(placed),
        stored=max(stored(phase, variables, of_a_device, train.remat) for phase in phases),
        temporaries=None if memory is None else memory.temp_size_in_bytes,
        flops={module: each.flops for module, each in by_module.items()},
        gradients=sent,
    )


def said(planned: Plan, train: Train) -> str:
    """A plan in words."""
    total = sum(planned.flops.values())
    largest = sorted(planned.flops.items(), key=lambda item: -item[1])[:8]
    temporaries = "not told" if planned.temporaries is None else f"{planned.temporaries / MIB:,.0f} MiB"
    lines = [
        f"{planned.parameters:,} parameters, batch of {train.batch_size} over {planned.devices} devices, "
        f"compiled for {planned.platform}",
        f"each device holds: state {planned.state / MIB:,.1f} MiB"
        + (" (its part)" if train.shard_parameters else "")
        + f", batch {planned.batch / MIB:,.1f} MiB, temporaries {temporaries}",
        f"the backward pass finds at most {planned.stored / MIB:,.1f} MiB stored on each device, by shapes "
        f"(train.remat {train.remat})",
        f"each device adds up with the others: {planned.gradients / MIB:,.1f} MiB of gradients per step",
        f"a step computes {total / 1e9:,.1f} GFLOP, {total / planned.devices / 1e9:,.1f} on each device; of these",
        *(f"  {flops / total:6.1%}  {module or 'outside of any module'}" for module, flops in largest if total),
    ]
    return "\n".join(lines)


def _shapes(system: System, batch_size: int) -> dict[str, Any]:
    """Of a batch, by what tells a batch of two from one."""
    one, two = (system.noise(np.random.default_rng(0), count) for count in (1, 2))

    def of_leaf(single: np.ndarray, pair: np.ndarray) -> jax.ShapeDtypeStruct:
        axes = zip(single.shape, pair.shape, strict=True)
        return jax.ShapeDtypeStruct([a if a == b else batch_size for a, b in axes], single.dtype)

    return {stream: jax.tree.map(of_leaf, one[stream], two[stream]) for stream in one}


def _size(tree: object, whole: bool = False) -> int:
    """Bytes of a tree of shapes, of the part that one device holds, or of all."""

    def of_leaf(leaf: jax.ShapeDtypeStruct) -> int:
        shape = leaf.shape if whole or leaf.sharding is None else leaf.sharding.shard_shape(leaf.shape)
        return math.prod(shape) * leaf.dtype.itemsize

    return sum(of_leaf(leaf) for leaf in jax.tree.leaves(tree))
