"""Tests that rematerialisation stores less for the backward pass and does not change values and gradients."""

import dataclasses

import jax
import numpy as np
import pytest

from benchmarks.timing.contestants import noise_batch, updates_of
from qsep_jax.training.state import create_state
from qsep_jax.training.step import bytes_stored_for_backward, make_step, rematerialised
from tests.experiments import CASES, debug

# The blocks of Conv-TasNet have a separate policy, `system.keep`.
SEPARATE_POLICY = "cantisani2021.py"


@pytest.mark.slow
@pytest.mark.parametrize("config", [case for case in CASES if case != SEPARATE_POLICY])
def test_less_is_stored(config):
    system = debug(config).system
    batch = noise_batch(system, 4)
    variables = jax.eval_shape(lambda: system.init(jax.random.key(0), batch))
    for phase in system.phases():
        full, reduced = (
            bytes_stored_for_backward(phase, variables, batch, remat) for remat in ("nothing", "between_convs")
        )
        assert reduced < 0.7 * full, phase.name


def test_a_step_gives_the_same_state_and_metrics():
    """The system has batch norm."""
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


@pytest.mark.slow
def test_second_derivatives_are_the_same():
    system = debug("stoller2018.py").system
    batch = noise_batch(system, 2)
    variables = jax.jit(lambda: system.init(jax.random.key(0), batch))()
    phase = next(phase for phase in system.phases() if phase.name == "critics")
    update_batch = updates_of(phase, batch)[0]

    def gradients(remat):
        def loss(critics):
            params = {**variables["params"], "critics": critics}
            return phase.loss({**variables, "params": params}, update_batch, jax.random.key(1))[0]

        return jax.jit(jax.grad(rematerialised(loss, remat)))(variables["params"]["critics"])

    one, other = (jax.tree.leaves(gradients(remat)) for remat in ("nothing", "between_convs"))
    for leaf, other_leaf in zip(one, other, strict=True):
        np.testing.assert_allclose(other_leaf, leaf, rtol=1e-3, atol=1e-5)
