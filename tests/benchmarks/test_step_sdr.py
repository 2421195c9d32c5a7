"""Tests of `benchmarks.step_sdr`, which scores the checkpoints of a run."""

import json

import jax
import pytest

from benchmarks import step_sdr
from benchmarks.timing.training_time import seconds_of
from qsep_jax.training import sharding
from tests.commands import command, config_of, refused
from tests.experiments import debug, write_corpora


def test_seconds_are_those_of_training_alone():
    lines = [
        {"step": 10, "examples_per_second": 20.0},
        {"step": 10, "validation/loss": 1.0},
        {"step": 30, "examples_per_second": 80.0},
    ]
    assert seconds_of(lines, batch_size=4) == {10: 2.0, 30: 3.0}


def test_the_first_step_that_reaches_the_target():
    measured = [{"step": step, "si_sdr_improvement": gain} for step, gain in ((1, 0.5), (2, 3.1), (3, 2.9))]
    assert step_sdr.time_to(measured, 3.0) == measured[1]
    assert step_sdr.time_to(measured, 4.0) is None


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*was built with other options or by another version")
def test_every_checkpoint_is_scored(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("data_pipelines.console._set_up", lambda: None)
    monkeypatch.setattr("qsep_jax.train.prepare_missing", lambda experiment: None)
    one = sharding.make_mesh(jax.devices()[:1])
    monkeypatch.setattr(sharding, "make_mesh", lambda: one)
    write_corpora(debug("quickstart.py"), tmp_path / "data")
    options = ("--config", config_of("quickstart.py"), "--root", tmp_path / "data", "--target", -99)
    run, out = tmp_path / "run", tmp_path / "rows.json"
    assert command(step_sdr, *options, "--workdir", run, "--json", out) == 0
    measured = json.loads(out.read_text())
    assert [row["step"] for row in measured] == [2, 4]
    assert 0 < measured[0]["training_s"] < measured[1]["training_s"]
    assert measured[1]["audio_s"] == 2 * measured[0]["audio_s"] == 4 * 2 * 512 / 8000
    assert (run / "step_sdr" / "step_sdr.png").stat().st_size > 5_000
    assert "-99 dB is reached by step 2" in capsys.readouterr().out


def test_missing_options_are_refused(capsys, tmp_path):
    refused(capsys, "--config and --workdir are needed", step_sdr, "--json", tmp_path / "rows.json")
