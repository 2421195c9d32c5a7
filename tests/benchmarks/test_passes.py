"""Tests of `benchmarks.passes` on a tiny network."""

import json

import jax
import numpy as np
import pytest

from benchmarks import passes
from qsep_jax.runs.experiment import load_config
from tests.commands import command, refused
from tests.experiments import ROOT

CONFIG = f"{ROOT / 'configs' / 'cantisani2021.py'}:debug"


@pytest.mark.torch
@pytest.mark.parametrize("trained", ["all", "l4"])
def test_network_and_twin_compute_gradients_of_the_same_parameters(tmp_path, trained, capsys):
    out = tmp_path / "rows.json"
    options = ("--config", CONFIG, "--seconds", 0.3, "--rounds", 1, "--trained", trained, "--json", out)
    assert command(passes, *options) == 0
    ours, theirs = json.loads(out.read_text())
    assert (ours["implementation"], theirs["implementation"]) == ("jax", "torch")
    assert ours["gradients"] == theirs["gradients"] > 0
    assert theirs["is_peer"]
    assert min(ours["peak_mib"], theirs["peak_mib"], ours["ratio_to_torch"], ours["median_s"]) > 0


def test_the_trained_parameters():
    system = load_config(CONFIG).system
    params = jax.jit(lambda: system.init(jax.random.key(0), {}))()["params"]
    run, facts = passes.make_jax(system, "l5")
    run()
    assert facts["gradients"] == np.size(params["tasnet"]["decoder"])
    assert passes.prefixes_of(system, "all") == ("tasnet",)


def test_options_are_refused(tmp_path, capsys):
    out = ("--json", tmp_path / "rows.json")
    refused(capsys, "is for Lee2019", passes, *out, "--config", f"{ROOT / 'configs' / 'lee2019.py'}:debug")
    refused(capsys, "must be at least 1", passes, *out, "--rounds", 0)
    assert not (tmp_path / "rows.json").exists()
