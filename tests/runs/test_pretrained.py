"""Initial weights of networks from runs."""

import jax
import numpy as np
import pytest

from configs.slizovskaia2021 import get_config
from qsep_jax.runs.pretrained import begin_with
from tests.commands import refused, train_debug
from tests.experiments import debug
from tests.variables import variables_of

CLASSIFIER = "slizovskaia2021.py:classifier"


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory):
    """The run folder of a frame classifier."""
    return train_debug(CLASSIFIER, tmp_path_factory.mktemp("classifier"))


def initial_variables(system):
    return jax.device_get(variables_of(system, seed=3))


def test_a_network_of_a_run_is_loaded_with_its_statistics(classifier):
    from qsep_jax.runs.bundle import find_model

    system = debug("slizovskaia2021.py:exp13").system
    variables, pretrained = initial_variables(system), find_model(str(classifier)).load()[1].variables
    replaced = begin_with(system, {"resnet": str(classifier)})(variables)
    for collection in ("params", "batch_stats"):
        jax.tree.map(np.testing.assert_array_equal, replaced[collection]["resnet"], pretrained[collection]["resnet"])
        jax.tree.map(
            np.testing.assert_array_equal, replaced[collection]["separator"], variables[collection]["separator"]
        )


@pytest.mark.slow
def test_networks_that_do_not_fit_are_named(classifier):
    wide = get_config("exp13").system
    with pytest.raises(ValueError, match=r"resnet is of another form: '.*' is in only one of file and model"):
        begin_with(wide, {"resnet": str(classifier)})(jax.eval_shape(lambda: wide.init(jax.random.key(0), {})))
    system = debug("slizovskaia2021.py:exp13").system
    with pytest.raises(ValueError, match=r"has no network 'separator'; it has .*resnet"):
        begin_with(system, {"separator": str(classifier)})
    plain = debug("slizovskaia2021.py:exp6").system
    with pytest.raises(ValueError, match=r"train.weights names 'resnet'; the networks are separator"):
        begin_with(plain, {"resnet": str(classifier)})(initial_variables(plain))


def test_a_missing_file_is_one_line(classifier, tmp_path, capsys):
    from qsep_jax import train
    from tests.commands import config_of

    options = ("--config", config_of("slizovskaia2021.py:exp13"), "--workdir", tmp_path / "run")
    options += ("--data.root", classifier.parent / "data", "--train.batch-size", 8)
    refused(capsys, "nowhere", train, *options, "--train.weights", "resnet", "nowhere")
