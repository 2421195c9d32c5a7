"""A run that is asked to end by SIGTERM saves where it stands and goes on from there; to the bit, says `test_loop`."""

import os
import signal
import time

from tests.experiments import debug, write_corpora
from tests.processes import finish, losses, start, start_together

STEPS = 400  # more than a run can make between its fourth and a signal
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


def ask_to_end(process, workdir, step=4):
    """Send SIGTERM to all processes of a session, as Slurm does, once so many steps are logged."""
    path = workdir / "metrics.jsonl"
    while not path.exists() or path.read_text().count("gradient_norm") < step:
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.001)
    os.killpg(process.pid, signal.SIGTERM)


def test_asked_to_end_it_saves_and_goes_on_from_there(tmp_path):
    data = tmp_path / "data"
    write_corpora(debug("lee2019.py"), data)
    process = start(tmp_path / "asked", data, *OPTIONS, session=True)
    ask_to_end(process, tmp_path / "asked")
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 143, said
    assert "the same command continues from there" in said
    (saved,) = (int(path.name.removeprefix("step_")) for path in (tmp_path / "asked" / "checkpoints").glob("step_*"))
    assert 4 <= saved < STEPS
    assert f"saved at step {saved}" in said
    finish(start(tmp_path / "asked", data, *OPTIONS))
    assert list(losses(tmp_path / "asked")) == list(range(1, STEPS + 1))


def test_of_four_processes_one_is_asked_and_all_end_at_the_same_step(tmp_path):
    data = tmp_path / "data"
    write_corpora(debug("lee2019.py"), data)
    processes = start_together(4, tmp_path / "four", data, *OPTIONS, session=True)
    ask_to_end(processes[2], tmp_path / "four")
    said = [process.communicate(timeout=240)[0] for process in processes]
    assert [process.returncode for process in processes] == [143] * 4, said
    (saved,) = (int(path.name.removeprefix("step_")) for path in (tmp_path / "four" / "checkpoints").glob("step_*"))
    assert saved < STEPS
    assert f"saved at step {saved}" in said[0]
