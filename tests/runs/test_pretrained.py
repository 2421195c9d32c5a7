"""Networks that begin with given weights."""

import jax
import numpy as np
import pytest

from configs.slizovskaia2021 import get_config
from qsep_jax.runs.pretrained import begin_with
from tests.commands import refused, train_debug
from tests.experiments import debug

CLASSIFIER = "slizovskaia2021.py:classifier"


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory):
    """The run folder of a classifier of frames."""
    return train_debug(CLASSIFIER, tmp_path_factory.mktemp("classifier"))


def fresh(system):
    return jax.device_get(jax.jit(lambda: system.init(jax.random.key(3), {}))())


def test_a_network_of_a_run_takes_its_place_with_its_statistics(classifier):
    from qsep_jax.runs.bundle import find_model

    system = debug("slizovskaia2021.py:exp13").system
    variables, given = fresh(system), find_model(str(classifier)).load()[1].variables
    begun = begin_with(system, {"resnet": str(classifier)})(variables)
    for collection in ("params", "batch_stats"):
        jax.tree.map(np.testing.assert_array_equal, begun[collection]["resnet"], given[collection]["resnet"])
        jax.tree.map(np.testing.assert_array_equal, begun[collection]["separator"], variables[collection]["separator"])


def test_what_does_not_fit_is_named(classifier):
    wide = get_config("exp13").system
    with pytest.raises(ValueError, match=r"resnet is of another form: '.*' is in only one of file and model"):
        begin_with(wide, {"resnet": str(classifier)})(jax.eval_shape(lambda: wide.init(jax.random.key(0), {})))
    system = debug("slizovskaia2021.py:exp13").system
    with pytest.raises(ValueError, match=r"has no network 'separator'; it has .*resnet"):
        begin_with(system, {"separator": str(classifier)})
    plain = debug("slizovskaia2021.py:exp6").system
    with pytest.raises(ValueError, match=r"train.weights names 'resnet'; the networks are separator"):
        begin_with(plain, {"resnet": str(classifier)})(fresh(plain))


def test_a_missing_file_is_one_line(classifier, tmp_path, capsys):
    from qsep_jax import train
    from tests.commands import config_of

    options = ("--config", config_of("slizovskaia2021.py:exp13"), "--workdir", tmp_path / "run")
    options += ("--data.root", classifier.parent / "data", "--train.batch-size", 8)
    refused(capsys, "nowhere", train, *options, "--train.weights", "resnet", "nowhere")
