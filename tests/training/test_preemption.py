"""A run that is asked to end by SIGTERM saves where it stands; continued, it ends as if nothing had been."""

import os
import signal
import socket
import time

import numpy as np

from tests.experiments import debug, write_corpora
from tests.processes import arrays, finish, losses, start

OPTIONS = (
    *("--train.steps", "24", "--train.save-every", "100", "--train.log-every", "1", "--train.validate-every", "0"),
    *("--train.workers", "1", "--train.batch-size", "4", "--train.no-evaluate"),
)


def ask_to_end(process, workdir, step=4):
    """Send SIGTERM to all processes of a session, as Slurm does, once so many steps are logged; what it said."""
    path = workdir / "metrics.jsonl"
    while not path.exists() or path.read_text().count("gradient_norm") < step:
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.001)
    os.killpg(process.pid, signal.SIGTERM)


def test_asked_to_end_it_saves_and_continues_to_the_bit(tmp_path):
    data = tmp_path / "data"
    write_corpora(debug("lee2019.py"), data)
    finish(start(tmp_path / "whole", data, *OPTIONS))
    process = start(tmp_path / "asked", data, *OPTIONS, session=True)
    ask_to_end(process, tmp_path / "asked")
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 143, said
    assert "the same command continues from there" in said
    (saved,) = (int(path.name.removeprefix("step_")) for path in (tmp_path / "asked" / "checkpoints").glob("step_*"))
    assert 4 <= saved < 24
    assert f"saved at step {saved}" in said
    finish(start(tmp_path / "asked", data, *OPTIONS))
    assert losses(tmp_path / "asked") == losses(tmp_path / "whole")
    whole, asked = arrays(tmp_path / "whole"), arrays(tmp_path / "asked")
    assert whole.keys() == asked.keys()
    for path, leaf in whole.items():
        np.testing.assert_array_equal(asked[path], leaf, err_msg=path)


def test_of_four_processes_one_is_asked_and_all_end_at_the_same_step(tmp_path):
    data = tmp_path / "data"
    write_corpora(debug("lee2019.py"), data)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    together = ("--distributed.enabled", "--distributed.coordinator", f"127.0.0.1:{port}")
    together += ("--distributed.processes", "4")
    options = [option if option != "24" else "2000" for option in OPTIONS]
    processes = [
        start(tmp_path / "four", data, *options, *together, "--distributed.process", str(number), session=True)
        for number in range(4)
    ]
    ask_to_end(processes[2], tmp_path / "four")
    said = [process.communicate(timeout=240)[0] for process in processes]
    assert [process.returncode for process in processes] == [143] * 4, said
    (saved,) = (int(path.name.removeprefix("step_")) for path in (tmp_path / "four" / "checkpoints").glob("step_*"))
    assert saved < 2000
    assert f"saved at step {saved}" in said[0]
