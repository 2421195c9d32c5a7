"""Tests of the jobs by which each paper is reproduced: every command runs, on generated corpora and debug models."""

import dataclasses
import importlib
import importlib.util
from pathlib import Path

import pytest

from benchmarks.papers.reproduction import Job, Reproduction
from data_pipelines import prepare
from qsep_jax.runs.experiment import load_config
from tests.commands import command
from tests.experiments import write_corpora

PAPERS = ("lee2019", "lin2021", "stoller2018")


def jobs_of(paper: str, **options) -> list[Job]:
    return importlib.import_module(f"benchmarks.papers.{paper}.__main__").plan(Reproduction(**options))


def to_debug(command: tuple[str, ...]) -> tuple[str, ...]:
    """The command with the debug variant of its config, for simulated devices and without another number of steps."""
    if "--config" not in command:
        return command
    words = list(command)
    place = words.index("--config") + 1
    words[place] += ",debug" if ":" in words[place] else ":debug"
    while "--train.steps" in words:
        del words[words.index("--train.steps") :][:2]
    return (*words, "--train.batch-size", "8")


@pytest.mark.parametrize("paper", PAPERS)
@pytest.mark.parametrize("small", [False, True])
def test_jobs_have_names_of_their_own_and_one_result_each(paper, small):
    jobs = jobs_of(paper, data=Path("data"), out=Path("out"), small=small, seeds=2)
    assert len({job.name for job in jobs}) == len({job.result for job in jobs}) == len(jobs)
    for job in jobs:
        assert job.hours >= 0
        assert all(any(other.is_named([name]) for other in jobs) for name in job.after)
        for words in job.commands:
            assert importlib.util.find_spec(words[0])


@pytest.mark.slow
@pytest.mark.parametrize("paper", PAPERS)
def test_every_job_runs(paper, tmp_path, monkeypatch):
    """Prepared corpora are replaced by generated ones; a command that refuses them has a job that cannot work."""
    monkeypatch.setattr("data_pipelines.console._set_up", lambda: None)
    monkeypatch.setattr("qsep_jax.train.prepare_missing", lambda experiment: None)
    jobs = jobs_of(paper, out=tmp_path, small=True)
    for job in jobs:
        for words in map(to_debug, job.commands):
            if words[0] == prepare.__name__:
                continue
            if "--config" in words:
                experiment = load_config(words[words.index("--config") + 1])
                # Test corpora that only a later command names are prepared by jobs of their own.
                prepared = (job.name.removeprefix("prepare/") for job in jobs if job.name.startswith("prepare/"))
                for corpus in (experiment.evaluation.corpus, *prepared):
                    evaluation = dataclasses.replace(experiment.evaluation, corpus=corpus)
                    write_corpora(dataclasses.replace(experiment, evaluation=evaluation), tmp_path / "data")
            assert command(importlib.import_module(words[0]), *words[1:]) == 0, words
        assert job.result.exists() or job.commands[0][0] == prepare.__name__, job.name
