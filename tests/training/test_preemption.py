"""Tests that a run saves and ends on SIGTERM and continues from there; `test_loop` tests that it does so bitwise."""

import os
import signal
import time

import pytest

from tests.experiments import debug, write_corpora
from tests.processes import finish, losses, start, start_together

pytestmark = pytest.mark.slow

STEPS = 400  # more steps than a run does between its fourth step and the signal
OPTIONS = (
    *(
        "--train.steps",
        str(STEPS),
        "--train.save-every",
        "1000",
        "--train.log-every",
        "1",
        "--train.validate-every",
        "0",
    ),
    *("--train.workers", "1", "--train.batch-size", "4", "--train.no-evaluate"),
)


def request_end(process, workdir, step=4):
    """Send SIGTERM to all processes of a session, as Slurm does, once `step` steps are logged."""
    path = workdir / "metrics.jsonl"
    while not path.exists() or path.read_text().count("gradient_norm") < step:
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.001)
    os.killpg(process.pid, signal.SIGTERM)


def test_a_run_saves_on_sigterm_and_continues(tmp_path):
    data = tmp_path / "data"
    write_corpora(debug("lee2019.py"), data)
    process = start(tmp_path / "run", data, *OPTIONS, session=True)
    request_end(process, tmp_path / "run")
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 143, output
    assert "the same command continues from there" in output
    (saved,) = (int(path.name.removeprefix("step_")) for path in (tmp_path / "run" / "checkpoints").glob("step_*"))
    assert 4 <= saved < STEPS
    assert f"saved at step {saved}" in output
    finish(start(tmp_path / "run", data, *OPTIONS))
    assert list(losses(tmp_path / "run")) == list(range(1, STEPS + 1))


def test_a_signal_to_one_of_two_processes_ends_both_at_the_same_step(tmp_path):
    data = tmp_path / "data"
    write_corpora(debug("lee2019.py"), data)
    processes = start_together(2, tmp_path / "two", data, *OPTIONS, session=True)
    request_end(processes[1], tmp_path / "two")
    outputs = [process.communicate(timeout=240)[0] for process in processes]
    assert [process.returncode for process in processes] == [143] * 2, outputs
    (saved,) = (int(path.name.removeprefix("step_")) for path in (tmp_path / "two" / "checkpoints").glob("step_*"))
    assert saved < STEPS
    assert f"saved at step {saved}" in outputs[0]
