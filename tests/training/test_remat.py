"""Less is stored for the backward pass, and nothing else changes."""

import dataclasses

import jax
import numpy as np
import pytest

from benchmarks.timing.contestants import noise_batch, updates_of
from qsep_jax.training.state import create_state
from qsep_jax.training.step import make_step, rematerialised, stored
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


def test_a_step_comes_to_the_same():
    """With batch norm."""
    experiment = debug("slizovskaia2021.py:exp9")
    batch, after = noise_batch(experiment.system, 2), []
    state = jax.jit(lambda: create_state(experiment.system, experiment.train, batch))()
    for remat in ("nothing", "between_convs"):
        step = make_step(experiment.system, dataclasses.replace(experiment.train, remat=remat))
        after.append(jax.jit(step)(state, batch, jax.random.key(1)))
    (one, metrics), (other, other_metrics) = jax.device_get(after)
    for name, value in metrics.items():
        np.testing.assert_allclose(other_metrics[name], value, rtol=1e-4, atol=1e-6, err_msg=name)
    for leaf, other_leaf in zip(jax.tree.leaves(one.variables), jax.tree.leaves(other.variables), strict=True):
        np.testing.assert_allclose(other_leaf, leaf, rtol=1e-3, atol=1e-4)


def test_second_derivatives_come_to_the_same():
    system = debug("stoller2018.py").system
    batch = noise_batch(system, 2)
    variables = jax.jit(lambda: system.init(jax.random.key(0), batch))()
    phase = next(phase for phase in system.phases() if phase.name == "critics")
    taken = updates_of(phase, batch)[0]

    def gradients(remat):
        def loss(critics):
            params = {**variables["params"], "critics": critics}
            return phase.loss({**variables, "params": params}, taken, jax.random.key(1))[0]

        return jax.jit(jax.grad(rematerialised(loss, remat)))(variables["params"]["critics"])

    one, other = (jax.tree.leaves(gradients(remat)) for remat in ("nothing", "between_convs"))
    for leaf, other_leaf in zip(one, other, strict=True):
        np.testing.assert_allclose(other_leaf, leaf, rtol=1e-3, atol=1e-5)
