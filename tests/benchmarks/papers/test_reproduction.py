"""Tests of the command that reproduces a paper: order, continuation after a kill, choice of jobs, refusals."""

import dataclasses
import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.papers import reproduction
from benchmarks.papers.reproduction import Job, Reproduction
from data_pipelines import console
from tests.experiments import ROOT

# A job that appends its name to a file and writes its result, and one that waits first.
WORKER = """
import pathlib, sys, time
folder, name, seconds = pathlib.Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])
with (folder / "log").open("a") as log:
    log.write(name + "\\n")
time.sleep(seconds)
(folder / name).write_text("")
"""


@pytest.fixture(autouse=True)
def worker(tmp_path, monkeypatch):
    """Make the module `worker` importable in jobs, and run in a folder of its own."""
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "worker.py").write_text(WORKER)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "modules"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").mkdir()


def plan(options: Reproduction, seconds: float = 0.0) -> list[Job]:
    out = options.out
    assert out is not None

    def job(name: str, hours: float, after: tuple[str, ...] = ()) -> Job:
        file = name.replace("/", "-")
        return Job(name, (("worker", str(out), file, str(seconds)),), out / file, hours, after)

    return [job("prepare/corpus", 1.0), job("train/a-0", 2.0), job("train/b-0", 2.0), job("table", 0.0, ("train",))]


def run(monkeypatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["lin2021", *arguments])
    try:
        console.run(lambda: reproduction.main("lin2021", plan))
    except SystemExit as exit_:
        return int(exit_.code or 0)
    return 0


def test_all_jobs_run_in_order_once(tmp_path, monkeypatch, capsys):
    assert run(monkeypatch, "--small", "--out", "out") == 0
    names = ["prepare-corpus", "train-a-0", "train-b-0", "table"]
    assert (tmp_path / "out" / "log").read_text().split() == names
    assert "4 of 4 jobs left, about 5:00 h on two cores" in capsys.readouterr().out
    assert run(monkeypatch, "--small", "--out", "out") == 0
    assert (tmp_path / "out" / "log").read_text().split() == names
    assert "nothing is left" in capsys.readouterr().out


def test_a_new_result_renews_those_that_depend_on_it(tmp_path, monkeypatch):
    run(monkeypatch, "--small", "--out", "out")
    (tmp_path / "out" / "train-b-0").unlink()
    run(monkeypatch, "--small", "--out", "out")
    assert (tmp_path / "out" / "log").read_text().split()[4:] == ["train-b-0", "table"]


@pytest.mark.parametrize(
    ("only", "names"),
    [
        (["train"], ["train-a-0", "train-b-0"]),
        (["a-0"], ["train-a-0"]),
        (["prepare/corpus", "table"], ["prepare-corpus", "table"]),
    ],
)
def test_chosen_jobs(tmp_path, monkeypatch, only, names):
    assert run(monkeypatch, "--small", "--out", "out", "--only", *only) == 0
    assert (tmp_path / "out" / "log").read_text().split() == names


def test_the_list_runs_nothing(tmp_path, monkeypatch, capsys):
    assert run(monkeypatch, "--small", "--out", "out", "--list") == 0
    assert "left: train/a-0, about 2:00 h" in capsys.readouterr().out
    assert list((tmp_path / "out").iterdir()) == []


def test_the_time_left_follows_the_pace_of_the_jobs_so_far():
    jobs = plan(Reproduction(out=Path("out")))
    assert reproduction.speed(jobs, {}) == 1.0
    assert reproduction.speed(jobs, {"prepare/corpus": 3600.0, "train/a-0": 3 * 3600.0}) == pytest.approx(4 / 3)
    left = reproduction.left_text(jobs[2:], jobs, {"train/a-0": 3600.0})
    assert left == "2 of 4 jobs left, about 1:00 h at the pace of the jobs so far"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--small"], "--out is needed"),
        (["--out", "out"], "--data is needed, the folder with the published corpora"),
        (["--small", "--out", "out", "--seeds", "0"], "--seeds must be positive, not 0"),
        (
            ["--small", "--out", "out", "--only", "trian"],
            "no job is named 'trian'; there are prepare/corpus, train/a-0",
        ),
    ],
)
def test_refusals(monkeypatch, capsys, arguments, message):
    assert run(monkeypatch, *arguments) == 2
    assert message in capsys.readouterr().err


def test_a_small_variant_that_needs_a_file_asks_for_it_before_the_first_job(tmp_path, monkeypatch, capsys):
    needs, file = {"font.sf2": "it is in the package fonts"}, tmp_path / "data" / "font.sf2"

    def with_font(options: Reproduction) -> list[Job]:
        prepare, *others = plan(options)
        font = str((options.data or Path()) / "font.sf2")
        return [dataclasses.replace(prepare, commands=((*prepare.commands[0], font),)), *others]

    def start(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["lin2021", "--small", "--out", "out", *arguments])
        try:
            console.run(lambda: reproduction.main("lin2021", with_font, small_needs=needs))
        except SystemExit as exit_:
            return int(exit_.code or 0)
        return 0

    assert start() == 2
    assert "--small needs --data, a folder with font.sf2: it is in the package fonts" in capsys.readouterr().err
    assert start("--data", "data") == 2
    assert "data has no font.sf2: it is in the package fonts" in capsys.readouterr().err
    assert not (tmp_path / "out" / "log").exists()
    assert start("--list") == 0
    assert start("--only", "table") == 0  # its commands do not name the file
    file.parent.mkdir()
    file.write_text("")
    assert start("--data", "data") == 0
    file.unlink()
    assert start() == 0  # everything is complete


def test_a_job_that_fails_ends_the_command(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(
        sys.modules[__name__], "plan", lambda options: [Job("bad", (("worker",),), tmp_path / "no", 0.0)]
    )
    assert run(monkeypatch, "--small", "--out", "out") == 2
    assert "error: the job bad failed with exit code 1" in capfd.readouterr().err


def test_a_folder_in_use_is_refused(tmp_path, monkeypatch, capsys):
    with (tmp_path / "out" / ".lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert run(monkeypatch, "--small", "--out", "out") == 2
    assert "out is in use by another process" in capsys.readouterr().err
    assert run(monkeypatch, "--small", "--out", "out") == 0


SLOW_COMMAND = """
from benchmarks.papers import reproduction
from data_pipelines import console
from tests.benchmarks.papers.test_reproduction import plan
console.run(lambda: reproduction.main("lin2021", lambda options: plan(options, seconds=2.0)))
"""


@pytest.fixture
def slow_command(tmp_path):
    """The command as a process of its own, while its first job is running."""
    paths = [str(tmp_path / "modules"), str(ROOT)]
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW_COMMAND, "--small", "--out", "out"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        cwd=tmp_path,
    )
    deadline = time.monotonic() + 60
    while not (tmp_path / "out" / "log").exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    yield process
    process.kill()
    process.wait()


def test_a_killed_command_leaves_its_folder_reserved_until_its_job_ends(tmp_path, monkeypatch, slow_command, capsys):
    slow_command.send_signal(signal.SIGKILL)
    slow_command.wait()
    assert run(monkeypatch, "--small", "--out", "out") == 2
    assert "or by a job that a killed one has left" in capsys.readouterr().err
    while run(monkeypatch, "--small", "--out", "out"):
        time.sleep(0.2)
    names = ["prepare-corpus", "train-a-0", "train-b-0", "table"]
    assert (tmp_path / "out" / "log").read_text().split() == names  # the first job was not repeated


def test_sigterm_ends_the_job_and_the_command(tmp_path, monkeypatch, slow_command):
    slow_command.send_signal(signal.SIGTERM)
    assert slow_command.wait() == 143
    assert not (tmp_path / "out" / "prepare-corpus").exists()
    assert run(monkeypatch, "--small", "--out", "out") == 0
    assert (tmp_path / "out" / "log").read_text().split()[:2] == ["prepare-corpus", "prepare-corpus"]


def test_jobs_that_lack_a_file_are_named_first_and_left_out(tmp_path, monkeypatch, capsys):
    """Once the file is there, the same command runs them, and what depends on them again."""
    weights = tmp_path / "weights.pth"

    def with_needs(options: Reproduction) -> list[Job]:
        needy = {"train/a-0", "train/b-0"}
        return [dataclasses.replace(job, needs=(weights,) if job.name in needy else ()) for job in plan(options)]

    def start() -> str:
        monkeypatch.setattr(sys, "argv", ["lin2021", "--small", "--out", "out"])
        reproduction.main("lin2021", with_needs)
        return capsys.readouterr().out

    lines = start().splitlines()
    assert lines[0] == f"left out for lack of {weights}: train/a-0, train/b-0"
    assert (tmp_path / "out" / "log").read_text().split() == ["prepare-corpus", "table"]
    assert lines[-1].endswith("nothing is left")
    weights.write_text("")
    assert "left out" not in start()
    assert (tmp_path / "out" / "log").read_text().split()[2:] == ["train-a-0", "train-b-0", "table"]
    weights.unlink()
    assert "left out" not in start()  # a complete job needs nothing any more
