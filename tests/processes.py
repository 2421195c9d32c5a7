"""The train command in processes of its own, which a test can kill or let train together."""

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from tests.commands import config_of
from tests.experiments import ROOT


def start(
    workdir: Path, data: Path, *options: str, devices: int = 1, config: str = "lee2019.py", session: bool = False
) -> subprocess.Popen:
    """Start to train the debug variant of a config on simulated devices.

    Args:
      session: Whether the process gets a session of its own, so that a signal can be sent to all of its processes.
    """
    command = [sys.executable, "-m", "qsep_jax.train", "--config", config_of(config)]
    command += ["--workdir", str(workdir), "--data.root", str(data), *options]
    flags = re.sub(r"(?<=device_count=)\d+", str(devices), os.environ["XLA_FLAGS"])
    environment = {**os.environ, "XLA_FLAGS": flags, "PYTHONPATH": str(ROOT)}
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command, env=environment, start_new_session=session, **streams)


def start_together(count: int, workdir: Path, data: Path, *options: str, **settings: Any) -> list[subprocess.Popen]:
    """`start` `count` processes of one run, which communicate over the loopback interface."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    distributed = ("--distributed.enabled", "--distributed.coordinator", f"127.0.0.1:{port}")
    distributed += ("--distributed.processes", str(count), "--distributed.process")
    return [start(workdir, data, *options, *distributed, str(number), **settings) for number in range(count)]


def finish(process: subprocess.Popen, seconds: float = 240.0) -> str:
    """Wait for the process to end without an error: its output."""
    output, _ = process.communicate(timeout=seconds)
    assert process.returncode == 0, output
    return output


def losses(workdir: Path, phase: str = "cvae") -> dict[int, float]:
    """The training loss of a phase by step."""
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return {line["step"]: line[f"{phase}/loss"] for line in lines if f"{phase}/loss" in line}


def arrays(folder: Path) -> dict[str, np.ndarray]:
    """All arrays of the newest checkpoint of a run, by path."""
    import jax

    from qsep_jax.training.checkpoint import Checkpoints

    with Checkpoints(folder / "checkpoints") as checkpoints:
        step = checkpoints.latest()
        assert step is not None
        tree = checkpoints.restore_variables(step), checkpoints.restore_training(step)
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}
