"""Tests of the communication between devices in a step: gradients, once per update, and batch norm statistics.

Collectives are counted in the compiled program, in which a collective inside a loop occurs only once; the tests also
check that no loop contains a collective.
"""

import dataclasses
import math
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import pytest

from benchmarks.timing.contestants import noise_batch, use_native_convolutions
from qsep_jax.on_device.batches import DrawnBatches
from qsep_jax.systems.base import System
from qsep_jax.train import shapes_of
from qsep_jax.training.compiled import Compiled
from qsep_jax.training.partition import select
from qsep_jax.training.sharding import make_mesh
from tests.experiments import CONFIGS, debug, write_corpora

pytestmark = pytest.mark.slow

BATCH = 8
COLLECTIVES = ("all-reduce", "all-gather", "all-to-all", "reduce-scatter", "collective-permute", "collective-broadcast")


class Case(NamedTuple):
    """A config with changed fields.

    Attributes:
      fields: Fields of the system to change.
      passes: Number of passes in which an update computes gradients of the same network.
      norm_passes: Number of passes through each batch norm.
    """

    fields: dict[str, Any] = {}  # noqa: RUF012 (a NamedTuple's default, never written to)
    passes: int = 1
    norm_passes: int = 0


CASES = {
    "cantisani2021.py": Case({"blocks": 4}),  # several blocks form a loop
    # One pass for real and estimated sources and one for their interpolations; one for songs with and without stems.
    "stoller2018.py:va": Case(passes=2),
    "slizovskaia2021.py:exp9": Case(norm_passes=1),
    "slizovskaia2021.py:exp13": Case(norm_passes=1),
    "lin2021.py:msi_dis": Case(passes=2, norm_passes=4),
}


# Configs without a case use the defaults; the quickstart is a Lee 2019.
OTHERS = {config for config in CONFIGS if not any(case.startswith(config) for case in CASES)} - {"quickstart.py"}


class Collective(NamedTuple):
    kind: str
    bytes: int
    computation: str


def collectives(text: str) -> Iterator[Collective]:
    """Parse the collectives of a compiled program in XLA's text form."""
    computation = ""
    for line in text.splitlines():
        if heading := re.match(r"(?:ENTRY )?%?(\S+) .*\{$", line):
            computation = heading[1]
        match = re.search(rf"= (.*?) ({'|'.join(COLLECTIVES)})(?:-start)?\(", line)
        if match:
            shapes = re.findall(r"(?:f|s|u|bf|pred)(\d*)\[([\d,]*)\]", match[1])
            size = sum(int(bits or 8) // 8 * math.prod(int(n) for n in axes.split(",") if n) for bits, axes in shapes)
            yield Collective(match[2], size, computation)


def compiled_text(
    system: System, devices: int, *, split: bool = False, drawn_batches: DrawnBatches | None = None
) -> str:
    train = dataclasses.replace(debug("lee2019.py").train, batch_size=BATCH, shard_parameters=split)
    batch = noise_batch(system, BATCH)
    compiled = Compiled(system, train, make_mesh(jax.devices()[:devices]), batch, drawn_batches)
    inputs = drawn_batches.corpora if drawn_batches else compiled.place([batch])
    return compiled.steps.lower(compiled.abstract_state, inputs, compiled.key).compile().as_text()


def step_collectives(system: System, devices: int, *, split: bool = False) -> list[Collective]:
    """The collectives of a compiled step, none of which is in a loop."""
    text = compiled_text(system, devices, split=split)
    loops = re.findall(r"body=%?(\S+?)[,\s]", text)
    operations = list(collectives(text))
    assert not {operation.computation for operation in operations} & set(loops)
    return operations


@pytest.mark.parametrize("config", [*sorted(OTHERS), *CASES])
def test_devices_only_reduce_gradients_and_statistics(config, monkeypatch):
    use_native_convolutions(monkeypatch.setattr)  # as on accelerators; the forms for CPU reduce gradients in parts
    case = CASES.get(config, Case())
    system = dataclasses.replace(debug(config).system, **case.fields)
    shapes = jax.eval_shape(lambda: system.init(jax.random.key(0), noise_batch(system, 1)))
    updates, gradients = 0, 0
    for phase in system.phases():
        part = select(shapes["params"], phase.trainable)
        updates += phase.repeats
        gradients += phase.repeats * sum(leaf.size * leaf.dtype.itemsize for leaf in part.values())
    statistics = [leaf for leaf in jax.tree.leaves(shapes.get("batch_stats", {})) if leaf.ndim == 1]
    operations = step_collectives(system, 8)
    assert {operation.kind for operation in operations} == {"all-reduce"}
    # Mean and variance of a norm are reduced together, and so are their gradients.
    assert updates <= len(operations) <= updates + case.norm_passes * len(statistics)
    sums = case.norm_passes * 2 * sum(leaf.size * leaf.dtype.itemsize for leaf in statistics)
    total = sum(operation.bytes for operation in operations)
    assert gradients <= total <= case.passes * gradients + sums + 1024  # 1024 bytes for losses and metrics


@pytest.mark.parametrize("devices", [1, 2, 4])
def test_communication_does_not_grow_with_the_devices(devices):
    system = debug("lee2019.py").system
    expected = [operation[:2] for operation in step_collectives(system, 8)] if devices > 1 else []
    assert [operation[:2] for operation in step_collectives(system, devices)] == expected


def test_a_split_state_is_gathered(monkeypatch):
    monkeypatch.setattr("qsep_jax.training.sharding.MIN_SPLIT_SIZE", 1)
    kinds = {operation.kind for operation in step_collectives(debug("lee2019.py").system, 8, split=True)}
    assert "all-gather" in kinds
    assert kinds <= {"all-gather", "all-reduce", "reduce-scatter"}


def test_a_corpus_on_the_devices_adds_requests_and_rows(tmp_path):
    """In addition to gradients, devices exchange row numbers, rows, and whether any example is drawn again."""
    experiment, devices = debug("lee2019.py"), 4
    write_corpora(experiment, tmp_path)
    system, data = experiment.system, dataclasses.replace(experiment.data, root=str(tmp_path))
    mesh = make_mesh(jax.devices()[:devices])
    drawn_batches = DrawnBatches(data, shapes_of(system), BATCH, 0, mesh)
    operations = list(collectives(compiled_text(system, devices, drawn_batches=drawn_batches)))
    on_host = step_collectives(system, devices)
    excerpts, size = len(system.stems), drawn_batches.corpora.rows.shape[1]
    rows = BATCH * excerpts * ((size + system.example_samples - 2) // size + 1)
    more = {kind: sum(operation.bytes for operation in operations if operation.kind == kind) for kind in COLLECTIVES}
    more["all-reduce"] -= sum(operation.bytes for operation in on_host)
    assert more.pop("all-gather") == 4 * rows
    assert more.pop("reduce-scatter") == 2 * rows * size // devices
    assert 0 < more.pop("all-reduce") <= 4
    assert not any(more.values())
