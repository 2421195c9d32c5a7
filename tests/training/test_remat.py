"""Less is stored for the backward pass, and nothing else changes."""

import dataclasses

import jax
import numpy as np
import pytest

from benchmarks.contestants import noise_batch
from qsep_jax.training.state import create_state
from qsep_jax.training.step import make_step, stored
from tests.experiments import CASES, debug

# Conv-TasNet's blocks have a policy of their own, `system.keep`.
OF_ITS_OWN = "cantisani2021.py"


@pytest.mark.parametrize("config", [case for case in CASES if case != OF_ITS_OWN])
def test_less_is_stored(config):
    system = debug(config).system
    batch = noise_batch(system, 4)
    variables = jax.eval_shape(lambda: system.init(jax.random.key(0), batch))
    for phase in system.phases():
        everything, rest = (stored(phase, variables, batch, remat) for remat in ("nothing", "between_convs"))
        assert rest < 0.7 * everything, phase.name


@pytest.mark.parametrize("config", ["slizovskaia2021.py:exp9", "stoller2018.py"])
def test_a_step_comes_to_the_same(config):
    """With batch norm, and with second derivatives."""
    experiment = debug(config)
    batch, after = noise_batch(experiment.system, 2), []
    for remat in ("nothing", "between_convs"):
        train = dataclasses.replace(experiment.train, remat=remat)
        state = jax.jit(lambda train=train: create_state(experiment.system, train, batch))()
        after.append(jax.jit(make_step(experiment.system, train))(state, batch, jax.random.key(1)))
    (state, metrics), (other_state, other_metrics) = jax.device_get(after)
    for name, value in metrics.items():
        np.testing.assert_allclose(other_metrics[name], value, rtol=1e-4, atol=1e-6, err_msg=name)
    for one, other in zip(jax.tree.leaves(state.variables), jax.tree.leaves(other_state.variables), strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-3, atol=1e-4)
