"""The resources that a run needs on each device, from shapes: `qsep train --config … --plan h100:8`."""

import dataclasses
import math
from typing import Any

import jax
import numpy as np

from qsep_jax.systems.base import System
from qsep_jax.training import cost, program, sharding
from qsep_jax.training.compiled import Compiled
from qsep_jax.training.partition import select
from qsep_jax.training.settings import Train
from qsep_jax.training.step import bytes_stored_for_backward
from qsep_jax.training.targets import Target, mesh_of

MIB = 2.0**20
# Share of the memory of a GPU that JAX reserves, unless XLA_PYTHON_CLIENT_MEM_FRACTION says otherwise.
RESERVED = 0.75


@dataclasses.dataclass(frozen=True)
class Plan:
    """The resources of a run; sizes are bytes on one device unless stated otherwise.

    Attributes:
      target: The devices that the step was compiled for.
      platform: Kind of these devices; the temporaries depend on it.
      devices: Number of devices.
      parameters: Number of parameters, over all devices.
      state: Size of parameters, optimizer state and averages.
      batch: Size of the device's part of a batch.
      stored: Largest size that the backward pass of an update needs stored, from shapes
        (`qsep_jax.training.step.bytes_stored_for_backward`).
      temporaries: Largest size of further buffers of the compiled step; None if the platform does not report it.
      used: Size of everything that the compiled step holds: arguments, results, temporaries and program, where donated
        arguments and the results that replace them count once; None as for `temporaries`.
      copied: Size of the donated state whose memory the compiled step does not use again; None as for `temporaries`.
      collectives: Communications between devices of the compiled step.
      traffic: Bytes that the instructions of the compiled step read and write on a device (`program.traffic`).
      flops: Operations in the matrix products of a step, by module, over all devices (`qsep_jax.training.cost.step`).
      gradients: Minimal size of the gradients that the device communicates per step, once for each update.
    """

    target: Target
    platform: str
    devices: int
    parameters: int
    state: int
    batch: int
    stored: int
    temporaries: int | None
    used: int | None
    copied: int | None
    collectives: list[program.Collective]
    traffic: int
    flops: dict[str, float]
    gradients: int

    @property
    def usable(self) -> int | None:
        """Bytes of a device that the step can use; None if the target has no data sheet."""
        sheet = self.target.data_sheet
        if sheet is None:
            return None
        return int(RESERVED * sheet.memory) if sheet.platform == "cuda" else sheet.memory

    @property
    def communicated(self) -> int:
        """Bytes that a step communicates on each device."""
        return sum(collective.count * collective.size for collective in self.collectives)

    @property
    def exposed(self) -> int:
        """Those of them during which no other work is executed."""
        return sum(collective.count * collective.size for collective in self.collectives if not collective.is_hidden)


def plan(system: System, train: Train, target: Target) -> Plan:
    """Compile the step for a target and determine the resources that it needs, without running it.

    Raises:
      ValueError: if the devices do not divide the batch, or the compiler for the target is missing or refuses the step.
    """
    mesh = mesh_of(target)
    sharding.check_batch_size(train.batch_size, mesh)
    batch = _shapes(system, train.batch_size)
    compiled = Compiled(system, train, mesh, batch)
    placed = {
        stream: jax.tree.map(lambda leaf, split=split: leaf.update(sharding=split), batch[stream])
        for stream, split in sharding.batch_shardings(system, mesh).items()
    }
    step = _compile(compiled.steps.lower(compiled.abstract_state, (placed,), compiled.abstract_key), target)
    memory, text = step.memory_analysis(), step.as_text() or ""
    used = copied = None
    if memory is not None:
        used = memory.argument_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes
        used += memory.temp_size_in_bytes + memory.generated_code_size_in_bytes
        copied = max(0, _size(compiled.abstract_state) - memory.alias_size_in_bytes)
    variables = compiled.abstract_state.variables
    phases = system.phases()
    gradients = sum(phase.repeats * _size(select(variables["params"], phase.trainable), total=True) for phase in phases)
    part = _shapes(system, train.batch_size // mesh.size)
    costs = cost.step(system, variables, batch)
    return Plan(
        target=target,
        platform=mesh.devices.flat[0].device_kind,
        devices=mesh.size,
        parameters=sum(leaf.size for leaf in jax.tree.leaves(variables["params"])),
        state=_size(compiled.abstract_state),
        batch=_size(placed),
        stored=max(bytes_stored_for_backward(phase, variables, part, train.remat) for phase in phases),
        temporaries=None if memory is None else memory.temp_size_in_bytes,
        used=used,
        copied=copied,
        collectives=program.collectives(text),
        traffic=program.traffic(text),
        flops={module: module_cost.flops for module, module_cost in costs.items()},
        gradients=gradients,
    )


def least_seconds(planned: Plan, precision: str) -> dict[str, float]:
    """Lower bounds of the time of a step on a device, in s, computed from the data sheet of the target.

    `compute`: operations at the highest rate. `memory`: `Plan.traffic` at the highest rate. `communication`: the
    communications that no work hides, as rings over all devices. `step`: the larger of the first two, and the third.

    Raises:
      ValueError: if the target has no data sheet.
    """
    sheet = planned.target.data_sheet
    if sheet is None:
        raise ValueError(f"{planned.platform} has no data sheet here: plan for h100:8 or tpu-v5e:2x4")
    compute = sum(planned.flops.values()) / planned.devices / sheet.flops[precision]
    memory = planned.traffic / sheet.bandwidth
    ring = 2 * (planned.devices - 1) / planned.devices
    communication = ring * planned.exposed / planned.target.link
    bounds = {"compute": compute, "memory": memory, "communication": communication}
    return {**bounds, "step": max(compute, memory) + communication}


def largest_batch(system: System, train: Train, target: Target) -> Plan | None:
    """The plan with the largest batch that fits into the memory of a target, found by bisection; None if none fits.

    The step is compiled for about ten sizes.

    Raises:
      ValueError: as `plan` does, or if the target has no data sheet.
    """

    def attempt(examples: int) -> Plan | None:
        settings = dataclasses.replace(train, batch_size=examples * target.devices)
        try:
            planned = plan(system, settings, target)
        except _DoesNotFit:
            return None
        if planned.used is None or planned.usable is None:
            raise ValueError(f"{planned.platform} has no data sheet here: plan for h100:8 or tpu-v5e:2x4")
        return planned if planned.used <= planned.usable else None

    best, fits, fails = None, 0, 0
    examples = max(1, train.batch_size // target.devices)
    while fails == 0 or fails - fits > max(1, fits // 16):
        planned = attempt(examples)
        if planned is None:
            fails = examples
        else:
            best, fits = planned, examples
        if fails == 1:
            return None
        examples = 2 * fits if not fails else (fits + fails) // 2
    return best


class _DoesNotFit(ValueError):
    """The compiler refuses a step because it needs more memory than a device has."""


def _compile(lowered: jax.stages.Lowered, target: Target) -> jax.stages.Compiled:
    try:
        return lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        reason = str(error).splitlines()[0][:300]
        if "RESOURCE_EXHAUSTED" in str(error):
            raise _DoesNotFit(f"the step does not fit into a device of {target}: {reason}") from None
        raise ValueError(f"the step cannot be compiled for {target}: {reason}") from error


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
        *_fits(planned),
        f"the backward pass needs at most {planned.stored / MIB:,.1f} MiB stored on each device, from shapes "
        f"(train.remat {train.remat})",
        f"communication between devices: {planned.gradients / MIB:,.1f} MiB of gradients per step; the program has "
        f"{_count(planned.collectives)} of {planned.communicated / MIB:,.1f} MiB, {planned.exposed / MIB:,.1f} MiB "
        "without other work beside",
        *_bounds(planned, train),
        f"a step computes {total / 1e9:,.1f} GFLOP, {total / planned.devices / 1e9:,.1f} on each device; modules:",
        *(f"  {flops / total:6.1%}  {module or 'outside of all modules'}" for module, flops in largest if total),
    ]
    return "\n".join(lines)


def _fits(planned: Plan) -> list[str]:
    if planned.used is None or planned.usable is None:
        return []
    verdict = "fits into" if planned.used <= planned.usable else "DOES NOT FIT into"
    reserved = " (JAX reserves no more by default)" if planned.target.chip == "h100" else ""
    copied = f"; {planned.copied / MIB:,.1f} MiB of the state are copied" if planned.copied else ""
    held = f"the step holds {planned.used / MIB:,.0f} MiB"
    return [f"{held} and {verdict} the {planned.usable / MIB:,.0f} MiB of a device{reserved}{copied}"]


def _bounds(planned: Plan, train: Train) -> list[str]:
    if planned.target.data_sheet is None:
        return []
    bounds = least_seconds(planned, train.precision)
    parts = ", ".join(f"{name} {1e3 * bounds[name]:.3g} ms" for name in ("compute", "memory", "communication"))
    return [f"a step takes at least {1e3 * bounds['step']:.3g} ms, computed from data sheets, not measured: {parts}"]


def _count(collectives: list[program.Collective]) -> str:
    """How many communications of each kind there are, in words."""
    counts: dict[str, int] = {}
    for collective in collectives:
        counts[collective.operation] = counts.get(collective.operation, 0) + collective.count
    return ", ".join(f"{count} {operation}" for operation, count in counts.items()) or "no collectives"


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
