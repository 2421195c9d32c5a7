"""The train command as a process of its own, to be killed or to have company."""

import json
import os
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
    """Start training the debug variant of a config, with `options`, on simulated devices; in a session of its own if
    its processes shall get signals together.
    """
    command = [sys.executable, "-m", "qsep_jax.train", "--config", config_of(config)]
    command += ["--workdir", str(workdir), "--data.root", str(data), *options]
    flags = f"--xla_force_host_platform_device_count={devices} --xla_backend_optimization_level=0"
    environment = {**os.environ, "XLA_FLAGS": flags, "PYTHONPATH": str(ROOT)}
    said = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command, env=environment, start_new_session=session, **said)


def start_together(count: int, workdir: Path, data: Path, *options: str, **given: Any) -> list[subprocess.Popen]:
    """`start` so many processes of one run, which talk over loopback."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    together = ("--distributed.enabled", "--distributed.coordinator", f"127.0.0.1:{port}")
    together += ("--distributed.processes", str(count), "--distributed.process")
    return [start(workdir, data, *options, *together, str(number), **given) for number in range(count)]


def finish(process: subprocess.Popen, seconds: float = 240.0) -> str:
    """What the process said, once it has ended well."""
    said, _ = process.communicate(timeout=seconds)
    assert process.returncode == 0, said
    return said


def losses(workdir: Path, phase: str = "cvae") -> dict[int, float]:
    """Training loss by step."""
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return {line["step"]: line[f"{phase}/loss"] for line in lines if f"{phase}/loss" in line}


def arrays(folder: Path) -> dict[str, np.ndarray]:
    """Everything in the newest checkpoint of a run, by path."""
    import jax

    from qsep_jax.training.checkpoint import Checkpoints

    with Checkpoints(folder / "checkpoints") as checkpoints:
        step = checkpoints.latest()
        assert step is not None
        tree = checkpoints.restore_variables(step), checkpoints.restore_training(step)
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}
