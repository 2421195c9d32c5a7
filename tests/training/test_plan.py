"""Tests of `train --plan`, which determines the resources of a run without running it."""

import dataclasses
import functools

import jax
import pytest

from qsep_jax import train
from qsep_jax.systems.base import parameter_count
from qsep_jax.training import plan, sharding
from qsep_jax.training.settings import Remat
from qsep_jax.training.state import create_state
from qsep_jax.training.targets import Target
from tests.commands import command, config_of, refused
from tests.experiments import debug


@functools.cache
def make_plan(devices: int, *, split: bool = False, batch_size: int = 8, remat: Remat = "nothing"):
    experiment = debug("lee2019.py")
    settings = dataclasses.replace(experiment.train, batch_size=batch_size, shard_parameters=split, remat=remat)
    return plan.plan(experiment.system, settings, Target("", (devices,)))


@pytest.mark.slow
def test_the_plan_equals_the_sizes_of_a_state():
    system = debug("lee2019.py").system
    settings = dataclasses.replace(debug("lee2019.py").train, batch_size=8)
    state = create_state(system, settings, {})
    planned = make_plan(1)
    assert planned.parameters == parameter_count(state.variables["params"])
    assert planned.state == sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    assert planned.batch == 2 * 8 * system.chunk_samples * 4  # mixture and target
    assert planned.gradients == 4 * planned.parameters
    assert planned.temporaries > 0
    assert make_plan(1, remat="between_convs").stored < 0.7 * planned.stored


@pytest.mark.slow
def test_more_devices_need_less_memory_each(monkeypatch):
    monkeypatch.setattr(sharding, "MIN_SPLIT_SIZE", 1)
    one, eight, split = make_plan(1), make_plan(8), make_plan(8, split=True)
    assert eight.batch == one.batch / 8
    assert eight.state == one.state
    assert split.state < 0.3 * one.state
    assert eight.stored < 0.5 * one.stored  # everything except the parameters
    assert one.flops == eight.flops == split.flops


def test_the_command_prints_a_plan_and_writes_no_files(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert command(train, "--config", config_of("lee2019.py"), "--plan", 2, "--train.batch-size", 2) == 0
    output = capsys.readouterr().out
    assert "over 2 devices" in output
    assert "temporaries" in output
    assert "MiB stored on each device" in output
    assert "GFLOP" in output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--plan", -1), "a number of devices"),
        (("--plan", "h100"), "not 'h100'"),
        (("--plan", "a100:8"), "'a100' is not known; accelerators are h100, tpu-v5e, tpu-v5p, tpu-v6e"),
        (("--plan", "tpu-v5p:4x4"), "give 3 numbers, separated by x"),
        ((), "--workdir is missing"),
        (("--plan", 4), "cannot be split over 4"),
    ],
)
def test_invalid_plans(options, message, capsys):
    refused(capsys, message, train, "--config", config_of("lee2019.py"), "--train.batch-size", 2, *options)
