"""What devices say to each other in a training step: gradients, once per update, and the statistics of batch norms.

Counted in the compiled program, in which a collective within a loop stands once: so that it is in none is asked, too.
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

BATCH = 8
COLLECTIVES = ("all-reduce", "all-gather", "all-to-all", "reduce-scatter", "collective-permute", "collective-broadcast")


class Case(NamedTuple):
    """Fields to change, in how many passes an update takes a network's gradients, and how often a norm is passed."""

    fields: dict[str, Any] = {}  # noqa: RUF012 (a NamedTuple's default, never written to)
    passes: int = 1
    normed: int = 0


CASES = {
    "cantisani2021.py": Case({"blocks": 4}),  # enough for a loop
    "stoller2018.py:va": Case(
        passes=2
    ),  # real and estimated sources, and what is between; songs with stems and without
    "slizovskaia2021.py:exp9": Case(normed=1),
    "slizovskaia2021.py:exp13": Case(normed=1),
    "lin2021.py:msi_dis": Case(passes=2, normed=4),
}


# A config without a case must need none; the quickstart is a Lee 2019.
NEW = {config for config in CONFIGS if not any(case.startswith(config) for case in CASES)} - {"quickstart.py"}


class Collective(NamedTuple):
    kind: str
    bytes: int
    computation: str


def collectives(text: str) -> Iterator[Collective]:
    """Those of a compiled program, as XLA prints it."""
    computation = ""
    for line in text.splitlines():
        if heading := re.match(r"(?:ENTRY )?%?(\S+) .*\{$", line):
            computation = heading[1]
        found = re.search(rf"= (.*?) ({'|'.join(COLLECTIVES)})(?:-start)?\(", line)
        if found:
            shapes = re.findall(r"(?:f|s|u|bf|pred)(\d*)\[([\d,]*)\]", found[1])
            size = sum(int(bits or 8) // 8 * math.prod(int(n) for n in axes.split(",") if n) for bits, axes in shapes)
            yield Collective(found[2], size, computation)


def compiled_text(system: System, devices: int, *, split: bool = False, drawn: DrawnBatches | None = None) -> str:
    train = dataclasses.replace(debug("lee2019.py").train, batch_size=BATCH, shard_parameters=split)
    batch = noise_batch(system, BATCH)
    compiled = Compiled(system, train, make_mesh(jax.devices()[:devices]), batch, drawn)
    fed = drawn.corpora if drawn else compiled.place([batch])
    return compiled.steps.lower(compiled.abstract_state, fed, compiled.key).compile().as_text()


def said(system: System, devices: int, *, split: bool = False) -> list[Collective]:
    text = compiled_text(system, devices, split=split)
    loops = re.findall(r"body=%?(\S+?)[,\s]", text)
    found = list(collectives(text))
    assert not {each.computation for each in found} & set(loops)
    return found


@pytest.mark.parametrize("config", [*sorted(NEW), *CASES])
def test_devices_only_add_up_gradients_and_statistics(config, monkeypatch):
    use_native_convolutions(monkeypatch.setattr)  # as on accelerators; a CPU adds up the parts that it computes
    case = CASES.get(config, Case())
    system = dataclasses.replace(debug(config).system, **case.fields)
    shapes = jax.eval_shape(lambda: system.init(jax.random.key(0), noise_batch(system, 1)))
    updates, gradients = 0, 0
    for phase in system.phases():
        part = select(shapes["params"], phase.trainable)
        updates += phase.repeats
        gradients += phase.repeats * sum(leaf.size * leaf.dtype.itemsize for leaf in part.values())
    statistics = [leaf for leaf in jax.tree.leaves(shapes.get("batch_stats", {})) if leaf.ndim == 1]
    found = said(system, 8)
    assert {each.kind for each in found} == {"all-reduce"}
    # A norm's mean and variance go together, and so do their gradients.
    assert updates <= len(found) <= updates + case.normed * len(statistics)
    sums = case.normed * 2 * sum(leaf.size * leaf.dtype.itemsize for leaf in statistics)
    assert gradients <= sum(each.bytes for each in found) <= case.passes * gradients + sums + 1024  # losses and metrics


@pytest.mark.parametrize("devices", [1, 2, 4])
def test_what_is_said_does_not_grow_with_the_devices(devices):
    system = debug("lee2019.py").system
    expected = [each[:2] for each in said(system, 8)] if devices > 1 else []
    assert [each[:2] for each in said(system, devices)] == expected


def test_a_split_state_is_gathered(monkeypatch):
    monkeypatch.setattr("qsep_jax.training.sharding.WORTH_SPLITTING", 1)
    kinds = {each.kind for each in said(debug("lee2019.py").system, 8, split=True)}
    assert "all-gather" in kinds
    assert kinds <= {"all-gather", "all-reduce", "reduce-scatter"}


def test_a_corpus_on_the_devices_adds_what_is_asked_for_and_what_is_read(tmp_path):
    """Besides the gradients: the numbers of records, the records to who asked, and whether anybody draws again."""
    experiment, devices = debug("lee2019.py"), 4
    write_corpora(experiment, tmp_path)
    system, data = experiment.system, dataclasses.replace(experiment.data, root=str(tmp_path))
    mesh = make_mesh(jax.devices()[:devices])
    drawn = DrawnBatches(data, shapes_of(system), BATCH, 0, mesh)
    found = list(collectives(compiled_text(system, devices, drawn=drawn)))
    without = said(system, devices)
    reads, size = len(system.stems), drawn.corpora.rows.shape[1]
    rows = BATCH * reads * ((size + system.example_samples - 2) // size + 1)
    more = {kind: sum(each.bytes for each in found if each.kind == kind) for kind in COLLECTIVES}
    more["all-reduce"] -= sum(each.bytes for each in without)
    assert more.pop("all-gather") == 4 * rows
    assert more.pop("reduce-scatter") == 2 * rows * size // devices
    assert 0 < more.pop("all-reduce") <= 4
    assert not any(more.values())
