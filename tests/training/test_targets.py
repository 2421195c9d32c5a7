"""Tests of the devices that a step is compiled for; those marked `aot` compile real programs of H100s and TPUs."""

import os
import re
import subprocess
import sys

import pytest

from qsep_jax.training import targets
from qsep_jax.training.targets import Target
from tests.commands import config_of
from tests.experiments import ROOT


@pytest.mark.parametrize(
    ("text", "chip", "shape"),
    [
        ("8", "", (8,)),
        ("h100:8", "h100", (8,)),
        ("h100:8x8", "h100", (8, 8)),
        ("tpu-v5e:4x4", "tpu-v5e", (4, 4)),
        ("tpu-v5p:2x2x1", "tpu-v5p", (2, 2, 1)),
    ],
)
def test_targets(text, chip, shape):
    target = targets.parse(text)
    assert target == Target(chip, shape)
    assert str(target) == text


def test_hosts_are_connected_by_the_network():
    assert targets.parse("h100:8").link == 9 * targets.parse("h100:8x8").link
    assert targets.parse("tpu-v5e:2x2").link == targets.parse("tpu-v5e:16x16").link


@pytest.mark.parametrize("chip", ["h100:8", "tpu-v5e:2x2"])
def test_a_missing_compiler_is_one_line(chip, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"the compiler for .* is not installed: pip install 'qsep-jax\[aot\]'"):
        targets.mesh_of(targets.parse(chip))


def plan(target: str, *options: str) -> str:
    """What the command prints; it runs in a process of its own, which has another set of platforms."""
    arguments = ("--config", config_of("lee2019.py"), "--plan", target, *options)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT), os.environ.get("PYTHONPATH", "")))}
    command = [sys.executable, "-m", "qsep_jax.train", *arguments]
    process = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600, env=environment)
    assert process.returncode == 0, process.stderr
    return process.stdout


@pytest.mark.aot
@pytest.mark.slow
@pytest.mark.parametrize("target", ["h100:8", "tpu-v5e:2x2"])
def test_a_step_compiles_for_accelerators_that_are_not_here(target):
    text = plan(target, "--train.batch-size", "8", "--train.precision", "bfloat16")
    assert f"over {targets.parse(target).devices} devices" in text
    assert "compiled for NVIDIA H100" in text or "compiled for TPU v5" in text
    assert " and fits into the " in text
    assert "of the state are copied" not in text  # the state is donated
    # The gradients and the numbers to log are one communication.
    assert re.search(r"the program has 1 all-reduce of 0\.1 MiB", text)
    assert "computed from data sheets, not measured" in text
