"""Tests of `benchmarks.precision`, which compares bfloat16 with float32 over several seeds."""

import json

import jax
import pytest

from benchmarks import precision
from qsep_jax.training import sharding
from tests.commands import command, config_of, refused
from tests.experiments import debug, write_corpora


def test_differences_are_between_equal_seeds_and_noise_is_between_seeds():
    losses = {"float32": [{1: 1.0, 2: 0.5}, {1: 3.0, 2: 0.5}], "bfloat16": [{1: 1.5, 2: 0.5}, {1: 3.1, 2: 0.6}]}
    first, second = precision.comparison_rows(losses)
    assert (first["float32"], first["bfloat16"]) == pytest.approx((2.0, 2.3))
    assert first["between_seeds"] == pytest.approx(2**0.5)
    assert first["difference"] == pytest.approx(0.3)
    assert first["of_noise"] == pytest.approx(0.3 / 2**0.5)
    assert second["of_noise"] == float("inf")


@pytest.mark.slow
def test_every_run_is_trained_and_compared(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("data_pipelines.console._set_up", lambda: None)
    monkeypatch.setattr("qsep_jax.train.prepare_missing", lambda experiment: None)
    one = sharding.make_mesh(jax.devices()[:1])
    monkeypatch.setattr(sharding, "make_mesh", lambda: one)
    write_corpora(debug("quickstart.py"), tmp_path / "data")
    options = ("--config", config_of("quickstart.py"), "--root", tmp_path / "data", "--seeds", 2, "--steps", 4)
    out = tmp_path / "rows.json"
    assert command(precision, *options, "--workdir", tmp_path / "runs", "--json", out) == 0
    (row,) = json.loads(out.read_text())
    assert row["step"] == 4
    assert row["float32"] != row["bfloat16"]
    assert row["bfloat16"] == pytest.approx(row["float32"], rel=0.2)
    assert row["difference"] == pytest.approx(row["bfloat16"] - row["float32"], abs=1e-9)
    assert row["between_seeds"] > 0
    assert (tmp_path / "runs" / "precision.png").stat().st_size > 5_000
    assert "2 seeds" in capsys.readouterr().out


def test_options_are_refused(capsys, tmp_path):
    refused(capsys, "--config is needed", precision, "--json", tmp_path / "rows.json")
    options = ("--config", config_of("quickstart.py"), "--json", tmp_path / "rows.json")
    refused(capsys, "--seeds must be at least 2, not 1", precision, *options, "--seeds", 1)
    refused(capsys, "--steps must be 0 or more, not -1", precision, *options, "--steps", -1)
