"""Lee 2019: the terms of the loss and what each of them trains, and the query of a training example."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data_pipelines.schema import MIXTURE, QUERY, TARGET
from qsep_jax.systems.base import parameter_count
from qsep_jax.systems.lee2019 import Lee2019
from qsep_jax.training import sharding
from qsep_jax.training.settings import DEBUG
from qsep_jax.training.state import create_state
from qsep_jax.training.step import make_step

TINY = Lee2019(window_length=32, hop_length=16, frames=8, query_channels=(8, 8), query_hidden=8, channels=(8, 8))
KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def batch():
    target, rest = jax.random.normal(KEY, (2, 2, TINY.chunk_samples, 1))
    return {MIXTURE: target + rest, TARGET: target}


@pytest.fixture(scope="module")
def variables():
    return jax.jit(lambda: TINY.init(KEY, {}))()


@partial(jax.jit, static_argnums=0)
def loss(system, variables, batch):
    value, aux = system.loss(variables, batch, KEY)
    return value, aux.metrics


@partial(jax.jit, static_argnums=0)
def gradients(system, variables, batch):
    return jax.grad(lambda params: system.loss({"params": params}, batch, KEY)[0])(variables["params"])


def norm(tree) -> float:
    return float(jnp.sqrt(sum(jnp.vdot(leaf, leaf) for leaf in jax.tree.leaves(tree))))


def test_the_loss_is_the_weighted_sum_of_its_terms(variables, batch):
    total, terms = loss(TINY, variables, batch)
    assert total == pytest.approx(
        float(10 * terms["reconstruction"] + 0.01 * terms["kl"] + 0.5 * terms["latent"]), rel=1e-5
    )


def test_latent_regression_trains_the_query_net_only_when_it_is_not_frozen(variables, batch):
    only_latent = dataclasses.replace(TINY, reconstruction_weight=0.0, kl_weight=0.0)
    frozen = gradients(only_latent, variables, batch)
    free = gradients(dataclasses.replace(only_latent, freeze_query_net=False), variables, batch)
    assert norm(frozen["query_net"]) == 0
    assert norm(frozen["separator"]) > 0
    assert norm(free["query_net"]) > 0


def test_without_latent_regression_the_other_terms_stay(variables, batch):
    total, terms = loss(TINY, variables, batch)
    without, _ = loss(dataclasses.replace(TINY, latent_weight=0.0), variables, batch)
    assert without == pytest.approx(float(total - 0.5 * terms["latent"]), rel=1e-5)


@pytest.mark.slow
def test_the_kl_term_grows_from_zero_over_the_warmup(batch):
    """The updates are counted in the variables, which checkpoints keep."""
    system = dataclasses.replace(TINY, kl_warmup=4)
    variables = jax.jit(lambda: system.init(KEY, {}))()
    assert parameter_count(variables["params"]) == parameter_count(TINY.init(KEY, {})["params"])
    update = jax.jit(lambda variables: system.loss(variables, batch, KEY))
    weights = []
    for _ in range(6):
        total, aux = update(variables)
        others = 10 * aux.metrics["reconstruction"] + 0.5 * aux.metrics["latent"]
        weights.append(float((total - others) / aux.metrics["kl"]))
        variables = {**variables, **aux.updates}
    np.testing.assert_allclose(weights, 0.01 * np.array([0, 0.25, 0.5, 0.75, 1, 1]), atol=2e-5)


def test_the_kl_warmup_counts_the_updates_of_a_training_step(batch):
    system, train = dataclasses.replace(TINY, kl_warmup=4), dataclasses.replace(DEBUG, steps=4)
    spec = {"cvae": batch}
    state = jax.jit(lambda: create_state(system, train, sharding.abstract(spec)))()
    step = jax.jit(make_step(system, train))
    for _ in range(3):
        state, _ = step(state, spec, KEY)
    assert state.variables["warmup"]["kl"]["updates"] == 3


@pytest.mark.parametrize(("kl", "count"), [(0.99, 1), (1.0, 0)])
def test_an_empty_latent_is_reported(kl, count):
    messages = TINY.warnings({"loss": 0.1, "kl": kl})
    assert len(messages) == count
    assert all("validation/kl is below 1 nat" in message and "system.kl_warmup" in message for message in messages)


def test_a_negative_warmup_is_refused():
    with pytest.raises(ValueError, match=r"system.kl_warmup must be at least 0, not -1"):
        dataclasses.replace(TINY, kl_warmup=-1)


def test_a_query_of_the_batch_replaces_the_target(variables, batch):
    default, _ = loss(TINY, variables, batch)
    same, _ = loss(TINY, variables, {**batch, QUERY: batch[TARGET]})
    other, _ = loss(TINY, variables, {**batch, QUERY: batch[TARGET][::-1]})
    assert same == pytest.approx(float(default), rel=1e-6)
    assert abs(other - default) > 1e-4 * default


def test_the_reconstruction_is_of_linear_magnitudes(variables, batch):
    """With the same masks, doubling the batch doubles the reconstruction error, also with compressed inputs."""
    log = dataclasses.replace(TINY, compression="log1p", latent_weight=0.0)
    constant = jax.tree.map(jnp.zeros_like, variables)  # all masks are 0.5
    _, one = loss(log, constant, batch)
    _, two = loss(log, constant, jax.tree.map(lambda x: 2 * x, batch))
    assert two["reconstruction"] == pytest.approx(2 * float(one["reconstruction"]), rel=1e-5)


def test_channels_are_separated_independently(variables):
    """A stereo mixture gives the estimates of its two channels with the same latent."""
    mixture = jax.random.normal(KEY, (1, TINY.chunk_samples, 2))
    latent = jax.random.normal(KEY, (1, TINY.latent_size))
    separate = jax.jit(TINY.separate)
    stereo = separate(variables, mixture, latent)
    for channel in range(2):
        mono = separate(variables, mixture[..., channel : channel + 1], latent)
        np.testing.assert_allclose(stereo[..., channel], mono[..., 0], atol=1e-6)


def test_the_papers_weights_and_schedule_are_the_defaults():
    system = Lee2019()
    assert (system.reconstruction_weight, system.kl_weight, system.latent_weight) == (10.0, 0.01, 0.5)
    assert (system.optimizer.learning_rate, system.optimizer.b1, system.optimizer.b2) == (2e-4, 0.5, 0.999)
    assert (system.sample_rate, system.window_length, system.hop_length, system.frames) == (22_050, 1024, 256, 256)
    assert system.chunk_samples == 65_536


@pytest.mark.parametrize("change", [{"frames": 100}, {"window_length": 1000}, {"channels": (4,) * 12}])
def test_sizes_that_do_not_halve_evenly_are_refused(change):
    with pytest.raises(ValueError, match="must give whole numbers"):
        dataclasses.replace(Lee2019(), **change)
