"""Tests of the jobs by which each paper is reproduced: every command runs, on generated corpora and debug models."""

import dataclasses
import importlib
import importlib.util
import os
from pathlib import Path

import numpy as np
import pytest

from benchmarks.papers.reproduction import Job, Reproduction
from data_pipelines import prepare
from qsep_jax.command_line import train_options
from qsep_jax.runs.experiment import Experiment, load_config
from qsep_jax.runs.pretrained import check_required
from tests.commands import command
from tests.experiments import least_tracks, write_corpora

PAPERS = ("lee2019", "lin2021", "stoller2018", "slizovskaia2021", "cantisani2021")


def jobs_of(paper: str, **options) -> list[Job]:
    return importlib.import_module(f"benchmarks.papers.{paper}.__main__").plan(Reproduction(**options))


def to_debug(command: tuple[str, ...]) -> tuple[str, ...]:
    """The command with the debug variant of its config, for simulated devices and without another number of steps.

    The frame classifier of `slizovskaia2021` then has another sample rate.
    """
    words = list(command)
    if "--config" not in command:
        if words[0] == "qsep_jax.frame_features":
            words[words.index("--sample-rate") + 1] = "8000"
        return tuple(words)
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


def quick_bss_eval(references, estimates, **options) -> dict[str, np.ndarray]:
    """Instead of BSS Eval of segments, which takes minutes for the 13 sources of a generated track."""
    levels = 10 * np.log10(np.square(references).mean((1, 2)) / np.square(estimates).mean((1, 2)))
    return {name: number + levels[:, None] for number, name in enumerate(options["metrics"])}


@pytest.mark.slow
@pytest.mark.skipif("QSEP_PAPER_JOBS" not in os.environ, reason="takes minutes for each paper: set QSEP_PAPER_JOBS=1")
@pytest.mark.parametrize("paper", PAPERS)
def test_every_job_runs(paper, tmp_path, monkeypatch):
    """Prepared corpora are replaced by generated ones; a command that refuses them has a job that cannot work."""
    monkeypatch.setattr("data_pipelines.console._set_up", lambda: None)
    monkeypatch.setattr("qsep_jax.train.prepare_missing", lambda experiment: None)
    monkeypatch.setattr("qsep_jax.metrics.segments.bss_eval", quick_bss_eval)
    most = 5 if paper == "slizovskaia2021" else 0  # models that are conditioned on video take at most 7 players
    jobs = jobs_of(paper, out=tmp_path, small=True)
    commands = [to_debug(words) for job in jobs for words in job.commands if "--config" in words]
    train_tracks = max(least_tracks(load_config(words[words.index("--config") + 1])) for words in commands)
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
                    experiment = dataclasses.replace(experiment, evaluation=evaluation)
                    write_corpora(experiment, tmp_path / "data", train_tracks, most)
            assert command(importlib.import_module(words[0]), *words[1:]) == 0, words
        result = Path(str(job.result).replace("/11025/", "/8000/"))
        assert result.exists() or job.commands[0][0] == prepare.__name__, job.name


def experiment_of(command: tuple[str, ...]) -> Experiment:
    """The experiment that a command of training runs, with its overrides."""
    return train_options.parse(command[1:])[1]


def test_slizovskaia2021_leaves_out_what_lacks_a_file(tmp_path):
    """Experiments that only hear need no weights and no frames; the others need both."""
    jobs = jobs_of("slizovskaia2021", data=tmp_path, out=tmp_path / "out")
    needs = {job.name: {path.name for path in job.needs} for job in jobs if job.name.startswith("train/")}
    pixels = {"sound_best.pth", "frame_best.pth", "synthesizer_best.pth"}
    for number in range(1, 24):
        expected = {"frames"} if 12 <= number <= 21 else set()
        expected |= {"resnet50.safetensors"} if 12 <= number <= 18 else pixels if number in (19, 20) else set()
        assert needs[f"train/exp{number}-0"] == expected
    (tmp_path / "resnet50-0676ba61.pth").write_text("")
    (job,) = (
        job for job in jobs_of("slizovskaia2021", data=tmp_path, out=tmp_path / "out") if job.is_named(["exp12-0"])
    )
    assert job.needs[-1] == tmp_path / "resnet50-0676ba61.pth"
    assert f"{job.needs[-1]}" in job.commands[0]


@pytest.mark.parametrize("small", [False, True])
def test_slizovskaia2021_trains_and_scores_each_experiment(small):
    jobs = jobs_of("slizovskaia2021", data=Path("data"), out=Path("out"), small=small)
    trained = {job.name.removeprefix("train/exp").removesuffix("-0") for job in jobs if job.name.startswith("train/")}
    assert trained == {str(number) for number in range(1, 24)} - ({"19", "20"} if small else set())
    for job in jobs:
        if job.name.startswith("train/"):
            train, score = job.commands
            assert experiment_of(train).train.seed == 0  # the options are those of the config
            assert score[-2:] == (("--frames", "256") if small else ("--corpus", "urmp_pieces"))


def test_slizovskaia2021_starts_from_the_weights_of_the_plan():
    jobs = {job.name: job for job in jobs_of("slizovskaia2021", out=Path("out"), small=True)}
    assert experiment_of(jobs["train/exp16-0"].commands[0]).train.weights == {
        "resnet": "out/runs/classifier",
        "probabilities": "out/runs/classifier",
    }
    jobs = {job.name: job for job in jobs_of("slizovskaia2021", data=Path("data"), out=Path("out"))}
    experiment = experiment_of(jobs["train/exp20-0"].commands[0])
    check_required(experiment.train)
    assert experiment.train.weights["head"] == "data/frame_best.pth"
    assert experiment.data.streams["separation"].corpora == ("solos_video",)
    assert experiment_of(jobs["train/exp9-0"].commands[0]).data.streams["separation"].corpora == ("solos",)
