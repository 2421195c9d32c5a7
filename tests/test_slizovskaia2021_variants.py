"""All experiments of Slizovskaia et al. 2021, section 5.4 included, from a training step to separated files."""

import json
from pathlib import Path

import pytest
import soundfile

from configs.slizovskaia2021 import EXPERIMENTS, get_config
from qsep_jax import evaluate, separate, train
from tests.commands import command, config_of, refused, separation_options
from tests.experiments import ROOT, debug, write_corpora

ONCE = ("--train.steps", 1, "--train.batch-size", 8, "--train.validate-every", 0, "--train.summary-every", 0)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a corpus on which all experiments can train."""
    folder = tmp_path_factory.mktemp("data")
    write_corpora(debug("slizovskaia2021.py:exp6,chamber"), folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_trains_a_step_evaluates_and_separates(name, data, sounds, tmp_path, monkeypatch):
    monkeypatch.setattr("qsep_jax.train.prepare_missing", lambda experiment: None)
    config, run = config_of(f"slizovskaia2021.py:{name},chamber"), tmp_path / "run"
    options = ("--config", config, "--data.root", data, *ONCE)
    required = get_config(f"{name},debug").train.requires_weights
    if required:  # random ones, which the variant refuses unless they are given
        weights = tmp_path / "weights"
        random = ("--train.requires-weights", "--train.steps", 0)
        assert command(train, "--workdir", weights, *options, *random) == 0
        options += tuple(word for network in required for word in (f"--train.weights.{network}", weights))
    options += ("--train.steps", 0) if name == "exp19" else ()  # published weights are evaluated as they are
    assert command(train, "--workdir", run, *options) == 0
    assert command(evaluate, "--workdir", run, "--audio", 0, "--mixtures", 1) == 0
    (results,) = (run / "evaluation").glob("*/results.json")
    assert {row["estimate"] for row in json.loads(results.read_text())} == {"mixture", "model", "irm"}
    stem, options = separation_options(run, sounds)
    options += ("--clip", "rescale")  # untrained magnitudes may exceed full scale, which is a warning otherwise
    assert command(separate, "--model", run, sounds / "mix.wav", *options, "--out", tmp_path / "out") == 0
    assert soundfile.info(tmp_path / "out" / "mix" / f"{stem}.wav").frames == 57_331


@pytest.mark.parametrize("variant", ["exp19", "exp20", "exp20,small", "exp19,debug", "exp20,debug"])
@pytest.mark.parametrize("weights", [(), ("--train.weights", "sounds", "sound_best.pth")], ids=["none", "some"])
def test_published_weights_are_not_replaced_by_random_ones(variant, weights, tmp_path, capsys):
    config = f"{ROOT / 'configs' / 'slizovskaia2021.py'}:{variant}"
    message = "this experiment starts from existing weights, not from random ones: give --train.weights."
    refused(capsys, message, train, "--config", config, "--workdir", tmp_path / "run", *weights)
    assert not (tmp_path / "run").exists()


def test_experiment_21_is_trained_from_scratch():
    assert get_config("exp21").train.requires_weights == ()


def test_every_experiment_differs_from_the_one_that_it_is_compared_with():
    """The exception is experiment 20, which fine-tunes the weights of experiment 19."""
    for name, (base, difference) in EXPERIMENTS.items():
        if isinstance(base, str) and name != "exp20":
            system, compared = get_config(name).system, get_config(base).system
            assert difference
            assert all(getattr(system, field) != getattr(compared, field) for field in difference), name
