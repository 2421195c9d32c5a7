"""`train --plan`: what a run would take, without running it."""

import dataclasses

import jax
import pytest

from qsep_jax import train
from qsep_jax.systems.base import parameter_count
from qsep_jax.training import plan, sharding
from qsep_jax.training.settings import Remat
from qsep_jax.training.state import create_state
from tests.commands import command, config_of, refused
from tests.experiments import debug


def planned(devices: int, *, split: bool = False, batch_size: int = 8, remat: Remat = "nothing"):
    experiment = debug("lee2019.py")
    settings = dataclasses.replace(experiment.train, batch_size=batch_size, shard_parameters=split, remat=remat)
    return plan.plan(experiment.system, settings, sharding.make_mesh(jax.devices()[:devices]))


def test_what_it_says_is_what_a_state_takes():
    system = debug("lee2019.py").system
    settings = dataclasses.replace(debug("lee2019.py").train, batch_size=8)
    state = create_state(system, settings, {})
    found = planned(1)
    assert found.parameters == parameter_count(state.variables["params"])
    assert found.state == sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    assert found.batch == 2 * 8 * system.chunk_samples * 4  # mixture and target
    assert found.gradients == 4 * found.parameters
    assert found.temporaries > 0
    assert planned(1, remat="between_convs").stored < 0.7 * found.stored


def test_more_devices_take_less_each(monkeypatch):
    monkeypatch.setattr(sharding, "WORTH_SPLITTING", 1)
    one, eight, split = planned(1), planned(8), planned(8, split=True)
    assert eight.batch == one.batch / 8
    assert eight.state == one.state
    assert split.state < 0.3 * one.state
    assert eight.stored < 0.5 * one.stored  # all but the parameters
    assert one.flops == eight.flops == split.flops


def test_the_command_prints_a_plan_and_leaves_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert command(train, "--config", config_of("lee2019.py"), "--plan", 2, "--train.batch-size", 2) == 0
    said = capsys.readouterr().out
    assert "over 2 devices" in said
    assert "temporaries" in said
    assert "MiB stored on each device" in said
    assert "GFLOP" in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [(("--plan", -1), "a number of devices"), ((), "--workdir is missing"), (("--plan", 4), "does not divide over 4")],
)
def test_what_cannot_be_planned(options, message, capsys):
    refused(capsys, message, train, "--config", config_of("lee2019.py"), "--train.batch-size", 2, *options)
