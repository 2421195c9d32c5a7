"""The contract of every system, on the debug variant of every config."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qsep_jax.systems.base import Optimizer
from qsep_jax.training.partition import select
from qsep_jax.training.settings import with_precision
from qsep_jax.training.state import create_state
from qsep_jax.training.step import make_step
from tests.experiments import CASES, cues, debug, pipeline, write_corpora

KEY = jax.random.key(7)


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    """An experiment and one of its batches."""
    experiment, root = debug(request.param), tmp_path_factory.mktemp("corpora")
    write_corpora(experiment, root)
    return experiment, pipeline(experiment, root).batch(0)


@pytest.fixture(scope="module")
def initialise(case):
    """The initial variables as a function of the key, compiled once."""
    experiment, batch = case
    return jax.jit(lambda key: experiment.system.init(key, batch))


@pytest.fixture(scope="module")
def training(case):
    """The phases, the variables before and after the first of 20 steps on one batch, and the metrics of all steps."""
    experiment, batch = case
    settings = {"learning_rate": 3e-3, "warmup": 0, "schedule": "constant"}
    fields = {field.name: getattr(experiment.system, field.name) for field in dataclasses.fields(experiment.system)}
    optimizers = {name: value for name, value in fields.items() if isinstance(value, Optimizer)}
    changed = {name: dataclasses.replace(optimizer, **settings) for name, optimizer in optimizers.items()}
    system = dataclasses.replace(experiment.system, **changed)
    train = dataclasses.replace(experiment.train, steps=20)
    state = jax.jit(lambda: create_state(system, train, batch))()
    step, metrics = jax.jit(make_step(system, train)), []
    variables = [state.variables]
    for _ in range(20):
        state, step_metrics = step(state, batch, KEY)
        variables = [*variables, state.variables][:2]
        metrics.append(jax.device_get(step_metrics))
    assert state.step == 20
    return system.phases(), variables, metrics


def test_a_step_is_finite_and_changes_only_the_trained_parameters(training):
    phases, (before, after), metrics = training
    for phase in phases:
        assert metrics[0][f"{phase.name}/skipped"] == 0
        assert metrics[0][f"{phase.name}/gradient_norm"] > 0
    assert all(np.isfinite(value) for value in metrics[0].values())
    trained = {path for phase in phases for path in select(before["params"], phase.trainable)}
    networks = tuple(before["params"])
    old, new = (select(variables["params"], networks) for variables in (before, after))
    changed = {path for path in old if not np.array_equal(old[path], new[path])}
    assert changed <= trained
    assert len(changed) > 0.9 * len(trained)  # a dead unit has no gradient


def test_the_loss_falls_on_one_batch(training):
    phases, _, metrics = training
    for phase in phases:
        losses = [step[f"{phase.name}/loss"] for step in metrics]
        assert np.mean(losses[-3:]) < 0.95 * np.mean(losses[:3]), losses


def test_bfloat16_stays_close_to_float32(case, initialise):
    experiment, batch = case
    variables = initialise(KEY)

    def loss(system):
        return {name: float(value) for name, value in jax.jit(system.validate)(variables, batch, KEY).items()}

    wide, narrow = loss(experiment.system), loss(with_precision(experiment.system, "bfloat16"))
    assert narrow["loss"] == pytest.approx(wide["loss"], rel=0.05)
    assert narrow != wide


def test_separation_has_the_right_shape_and_keeps_silence(case, initialise):
    system, variables = case[0].system, initialise(KEY)
    batch_cues = cues(system, 2, np.random.default_rng(0))
    condition = jax.jit(system.condition)(variables, batch_cues)
    mixture = jax.random.normal(KEY, (2, system.chunk_samples, 2)).at[1].set(0.0)
    estimate = jax.jit(system.separate)(variables, mixture, condition)
    assert estimate.shape[0] == 2
    assert estimate.shape[2:] == (system.chunk_samples, 2)
    assert estimate.dtype == jnp.float32
    assert np.isfinite(estimate).all()
    assert estimate.shape[1] == (1 if "query" in system.cues else len(system.stems))
    assert np.abs(estimate[0]).max() > 1e-3
    assert np.abs(estimate[1]).max() < 1e-6


def test_the_key_determines_the_variables(initialise):
    one, same, other = (initialise(jax.random.key(seed)) for seed in (0, 0, 1))
    assert jax.tree.all(jax.tree.map(np.array_equal, one, same))
    assert not jax.tree.all(jax.tree.map(np.array_equal, one, other))
