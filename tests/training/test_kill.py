"""Tests that `kill -9` does not change the result of a run with worker processes and asynchronous checkpoints."""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.experiments import debug, write_corpora
from tests.processes import arrays, finish, losses, start

OPTIONS = (
    *("--train.steps", "40", "--train.save-every", "6", "--train.log-every", "1", "--train.validate-every", "6"),
    *("--train.workers", "1", "--train.ema-decay", "0.9", "--train.no-evaluate"),
)


def lines(workdir: Path) -> int:
    path = workdir / "metrics.jsonl"
    return sum("/gradient_norm" in line for line in path.read_text().splitlines()) if path.exists() else 0


def being_written(workdir: Path) -> bool:
    return any("tmp" in path.name for path in (workdir / "checkpoints").glob("*"))


# All of these happen to the same run, in this order.
MOMENTS: dict[str, Callable[[Path], bool]] = {
    "while it starts": lambda workdir: (workdir / "config.json").exists(),
    "before the first checkpoint": lambda workdir: lines(workdir) >= 2,
    "while a checkpoint is written": being_written,
    "right after a checkpoint": lambda workdir: lines(workdir) >= 13,
    "between two checkpoints": lambda workdir: lines(workdir) >= 21,
    "while a later checkpoint is written": lambda workdir: lines(workdir) >= 24 and being_written(workdir),
}


def kill_at(process: subprocess.Popen, reached: Callable[[], bool]) -> None:
    while not reached():
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.0005)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)


@pytest.mark.slow
@pytest.mark.parametrize(("config", "phase"), [("lee2019.py", "cvae"), ("stoller2018.py:v", "critics")])
def test_a_killed_run_ends_like_an_uninterrupted_one(config, phase, tmp_path):
    data = tmp_path / "data"
    write_corpora(debug(config), data)
    finish(start(tmp_path / "uninterrupted", data, *OPTIONS, config=config))
    for reached in MOMENTS.values():
        process = start(tmp_path / "killed", data, *OPTIONS, config=config)
        kill_at(process, lambda reached=reached: reached(tmp_path / "killed"))
    finish(start(tmp_path / "killed", data, *OPTIONS, config=config))
    uninterrupted, killed = arrays(tmp_path / "uninterrupted"), arrays(tmp_path / "killed")
    assert len(uninterrupted) > 50
    assert uninterrupted.keys() == killed.keys()
    for path, leaf in uninterrupted.items():
        np.testing.assert_array_equal(killed[path], leaf, err_msg=path)
    expected = losses(tmp_path / "uninterrupted", phase)
    assert losses(tmp_path / "killed", phase) == expected  # each step is logged once, with the same batch
    assert list(expected) == list(range(1, 41))
    assert not being_written(tmp_path / "killed")


@pytest.mark.slow
def test_workers_of_a_killed_run_end(tmp_path):
    data = tmp_path / "data"
    write_corpora(debug("lee2019.py"), data)
    process = start(tmp_path / "run", data, *OPTIONS)
    children: set[int] = set()

    def working() -> bool:
        children.update(descendants(process.pid))
        return lines(tmp_path / "run") >= 2

    kill_at(process, working)
    assert children
    deadline = time.monotonic() + 30
    while any(Path(f"/proc/{child}").exists() for child in children) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not [child for child in children if Path(f"/proc/{child}").exists()]


def descendants(pid: int) -> set[int]:
    """Process ids of all descendants of `pid`."""
    if not os.path.isdir("/proc/self"):
        pytest.skip("needs /proc")
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
        except OSError:
            continue
    family = {pid}
    while more := {child for child, parent in parents.items() if parent in family} - family:
        family |= more
    return family - {pid}
