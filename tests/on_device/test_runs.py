"""Tests of training with the corpus on the devices: the batches of every system, and the messages of the command."""

import dataclasses

import jax
import pytest

from qsep_jax import train
from qsep_jax.on_device.batches import DrawnBatches
from qsep_jax.runs.folder import RunFolder
from qsep_jax.train import shapes_of
from qsep_jax.training.sharding import make_mesh
from tests.commands import command, config_of, refused
from tests.experiments import CONFIGS, debug, pipeline, write_corpora

SIZE = ("--train.batch-size", 8)  # simulated devices


def options(folder, config, data, *more):
    return ("--config", config_of(config), "--workdir", folder, "--data.root", data, "--train.corpus-on-device", *more)


@pytest.mark.parametrize("config", [*CONFIGS, "stoller2018.py:va", "lin2021.py:msi_dis"])
def test_batches_have_the_shapes_of_those_of_the_host(config, tmp_path):
    experiment = debug(config)
    write_corpora(experiment, tmp_path)
    data = dataclasses.replace(experiment.data, root=str(tmp_path))
    drawn = DrawnBatches(data, shapes_of(experiment.system), 4, 0, make_mesh(jax.devices()[:2]))
    on_device, on_host = drawn.batch(0), pipeline(experiment, tmp_path, batch_size=4).batch(0)
    shapes = [jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), dict(batch)) for batch in (on_device, on_host)]
    assert shapes[0] == shapes[1]


@pytest.mark.slow
def test_the_command_reports_the_memory(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("qsep_jax.train.prepare_missing", lambda experiment: None)
    write_corpora(debug("lee2019.py"), tmp_path / "data")
    assert command(train, *options(tmp_path / "run", "lee2019.py", tmp_path / "data", *SIZE)) == 0
    assert "MiB of each device's memory" in capsys.readouterr().out
    run = RunFolder(tmp_path / "run")
    assert run.experiment().train.corpus_on_device
    assert run.best_step() > 0


@pytest.mark.slow
def test_a_run_without_enough_memory_stays_on_the_host(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("qsep_jax.train.prepare_missing", lambda experiment: None)
    write_corpora(debug("lee2019.py"), tmp_path / "data")
    arguments = options(tmp_path / "run", "lee2019.py", tmp_path / "data", *SIZE)
    with monkeypatch.context() as patch:
        patch.setattr("qsep_jax.on_device.batches.available_bytes", lambda device: 0)
        assert command(train, *arguments) == 0
        assert "the corpus stays on the host: it needs" in capsys.readouterr().out
        assert not RunFolder(tmp_path / "run").experiment().train.corpus_on_device
        assert command(train, *arguments) == 0  # the finished run is accepted without an error
    refused(capsys, "holds a run with train.corpus_on_device = False, not True", train, *arguments)
