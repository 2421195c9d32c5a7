"""Tests of critics: published sizes, independence of several critics and of the examples in a batch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qsep_jax.models import critic
from qsep_jax.models.critic import Critic
from qsep_jax.systems.base import parameter_count

KEY = jax.random.key(0)
TINY = Critic(3, 4)
FRAMES, BINS = 8, 16


def shapes_of(network: Critic, count: int, frames: int, bins: int):
    return jax.eval_shape(lambda: critic.init_all(network, KEY, count, frames, bins))


def test_the_published_size():
    params = shapes_of(Critic(), 2, 64, 256)
    assert parameter_count(params) == 2 * 1_869_344
    assert all(leaf.shape[0] == 2 for leaf in jax.tree.leaves(params))
    kernels = {name: layer["kernel"].shape[1:] for name, layer in params.items()}
    assert kernels == {
        "down_0": (4, 4, 1, 32),
        "down_1": (4, 4, 32, 64),
        "down_2": (4, 4, 64, 128),
        "down_3": (4, 4, 128, 256),
        "down_4": (2, 4, 256, 256),  # from here on the time axis has 4 frames
        "down_5": (2, 4, 256, 256),
        "hidden": (4096, 32),
        "score": (32, 1),
    }
    assert "bias" not in params["score"]  # losses only use differences of scores


def test_frames_may_be_the_longer_axis():
    params = shapes_of(TINY, 1, 32, 8)
    assert [params[f"down_{n}"]["kernel"].shape[1:3] for n in range(3)] == [(4, 4), (4, 2), (4, 2)]


@pytest.fixture(scope="module")
def two():
    """Parameters of two critics, and spectrograms for each."""
    params = jax.jit(lambda: critic.init_all(TINY, KEY, 2, FRAMES, BINS))()
    return params, jax.random.normal(KEY, (2, 3, FRAMES, BINS))


@pytest.mark.parametrize("form", ["in sequence", "together"])
def test_each_critic_scores_its_own_source(two, form, monkeypatch):
    params, x = two
    if form == "together":  # as on accelerators
        monkeypatch.setattr(critic.lax, "platform_dependent", lambda *inputs, cpu, default: default(*inputs))
    scores = jax.jit(lambda params, x: critic.scores(TINY, params, x))(params, x)
    assert scores.shape == (2, 3)
    assert scores.dtype == jnp.float32
    alone = jax.jit(TINY.apply)
    for k in range(2):
        of_critic = jax.tree.map(lambda leaf, k=k: leaf[k], params)
        np.testing.assert_allclose(scores[k], alone({"params": of_critic}, x[k]), rtol=1e-4, atol=1e-6)
    assert np.abs(scores[0] - scores[1]).max() > 1e-2


def test_examples_are_independent(two):
    params, x = two
    scores = jax.jit(lambda x: critic.scores(TINY, params, x))
    changed = scores(x.at[1, 2].add(1.0))
    same = np.array([[True, True, True], [True, True, False]])
    np.testing.assert_array_equal(changed == scores(x), same)
