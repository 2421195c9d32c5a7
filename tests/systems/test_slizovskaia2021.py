"""Slizovskaia 2021: mixtures from slots, the effect of labels and of the curriculum, and its configurations."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.slizovskaia2021 import get_config
from data_pipelines.schema import FEATURES, FRAMES, SLOTS, SOURCES
from qsep_jax.systems.slizovskaia2021 import STREAM, Slizovskaia2021
from qsep_jax.systems.visual import Visual
from qsep_jax.training.optimizers import Plateau
from qsep_jax.training.state import create_state, observe
from tests.variables import variables_of

TINY: Slizovskaia2021 = get_config("exp6,debug").system  # pyright: ignore[reportAssignmentType]
VISUAL: Slizovskaia2021 = get_config("exp13,debug").system  # pyright: ignore[reportAssignmentType]
KEY = jax.random.key(0)


def batch_of(system, seed=0):
    return jax.tree.map(jnp.asarray, system.noise(np.random.default_rng(seed), 4)[STREAM])


@partial(jax.jit, static_argnums=0)
def loss_of(system, variables, batch, key=KEY):
    return system.loss(variables, batch, key)


@partial(jax.jit, static_argnums=0)
def validate(system, variables, batch):
    return system.validate(variables, {STREAM: batch}, KEY)["loss"]


def validation_loss(system, variables, batch):
    return float(validate(system, variables, batch))


@pytest.fixture(scope="module")
def variables():
    return variables_of(TINY)


def test_the_order_of_the_slots_does_not_matter(variables):
    batch = batch_of(TINY)
    reversed_slots = {SOURCES: batch[SOURCES][:, ::-1], SLOTS: batch[SLOTS][:, ::-1]}
    assert validation_loss(TINY, variables, reversed_slots) == pytest.approx(
        validation_loss(TINY, variables, batch), rel=1e-4
    )
    other = {**batch, SLOTS: jnp.where(batch[SLOTS] >= 0, (batch[SLOTS] + 1) % 13, -1)}
    assert validation_loss(TINY, variables, other) != pytest.approx(validation_loss(TINY, variables, batch), rel=1e-3)


def test_masks_sum_to_one(variables):
    mixture = jax.random.normal(KEY, (2, TINY.chunk_samples, 2))
    estimates = jax.jit(TINY.separate)(variables, mixture, ())
    np.testing.assert_allclose(estimates.sum(1), mixture, atol=1e-4)
    spectrograms = jax.jit(TINY.spectrograms)(variables, mixture, ())
    assert spectrograms.shape == (2, 13, TINY.frames, TINY.bins, 2)


@pytest.mark.parametrize("multiply", ["before", "after"])
def test_labels_multiply_maps_or_masks(multiply):
    """An absent instrument has an even share if the maps are multiplied, and silence if the masks are."""
    system = dataclasses.replace(TINY, conditioning="multiply", multiply=multiply)
    variables, mixture = variables_of(system), jax.random.normal(KEY, (1, system.chunk_samples, 1))
    labels = jnp.zeros((1, 13)).at[0, 4].set(1.0)
    estimates = jax.jit(system.separate)(variables, mixture, system.condition(variables, {"labels": labels}))
    absent = np.delete(np.asarray(estimates[0]), 4, axis=0)
    assert np.abs(estimates[0, 4]).max() > 1e-2
    if multiply == "after":
        assert not absent.any()
    else:
        np.testing.assert_allclose(absent, np.broadcast_to(absent[:1], absent.shape), atol=1e-6)
        assert np.abs(absent).max() > 1e-3


def test_a_wrong_cue_is_named():
    system = dataclasses.replace(TINY, conditioning="encoder")
    with pytest.raises(ValueError, match="this model is conditioned on labels, not on frames"):
        system.condition({}, {"frames": jnp.zeros(())})
    with pytest.raises(ValueError, match="this model is conditioned on frames, not on labels"):
        VISUAL.condition({}, {"labels": jnp.zeros(())})


def test_impossible_configurations_are_refused():
    with pytest.raises(ValueError, match="2 levels halve 64 bins and 18 frames"):
        dataclasses.replace(TINY, frames=18)
    with pytest.raises(ValueError, match="visual needs a place where the condition enters"):
        dataclasses.replace(TINY, visual=Visual())


@pytest.mark.parametrize("output", ["ratio", "binary", "magnitude"])
def test_sources_may_have_the_gain_of_the_mixture(variables, output):
    """All outputs but ratio masks depend on whether sources are divided by their number; in the code they are not."""
    published = dataclasses.replace(TINY, output=output, competing=output == "ratio")
    common = dataclasses.replace(published, common_gain=True)
    batch = batch_of(TINY)
    one, other = (validation_loss(system, variables, batch) for system in (published, common))
    assert (one == pytest.approx(other, rel=1e-6)) == (output == "ratio")
    if output == "magnitude":  # with maps of zeros the loss is the energy of the targets, here k² times as much
        silent = jax.tree.map(jnp.zeros_like, variables["params"])
        one, other = (validation_loss(system, {**variables, "params": silent}, batch) for system in (published, common))
        count = float((batch[SLOTS][0] >= 0).sum())
        assert one / other == pytest.approx(count**2, rel=1e-4)


def test_the_curriculum_limits_the_sources_and_advances_on_plateaus():
    system = dataclasses.replace(TINY, curriculum=True, curriculum_patience=20)
    variables, batch = variables_of(system), batch_of(system)
    order = jnp.stack([jax.random.permutation(key, 13)[:7] for key in jax.random.split(KEY, 4)])
    batch = {SOURCES: jax.random.normal(KEY, batch[SOURCES].shape), SLOTS: order}
    first = {SOURCES: batch[SOURCES].at[:, 2:].set(0.0), SLOTS: order.at[:, 2:].set(-1)}
    # At the start, every example has its first two sources only.
    assert float(loss_of(system, variables, batch)[0]) == pytest.approx(
        float(loss_of(system, variables, first)[0]), rel=1e-5
    )

    def most(variables) -> float:
        return float(variables["curriculum"]["mixtures"]["most"])

    counts = []
    for loss in (1.0, 0.5, 0.49995, 0.5, 3.0, 2.9, 3.0, 3.0):
        variables = system.observe(variables, jnp.float32(loss), jnp.float32(10.0))
        counts.append(most(variables))
    # 0.5 is the lowest; two validations without progress add a source, after which any loss is the lowest.
    assert counts == [2.0, 2.0, 2.0, 3.0, 3.0, 3.0, 3.0, 4.0]
    grown = {**variables, "curriculum": {"mixtures": {**variables["curriculum"]["mixtures"], "most": jnp.float32(7.0)}}}
    assert float(loss_of(system, grown, batch)[0]) != float(loss_of(system, grown, first)[0])
    for _ in range(20):
        variables = system.observe(variables, jnp.float32(9.0), jnp.float32(20.0))
    assert most(variables) == 7.0


def halvings(losses, system: Slizovskaia2021) -> list[int]:
    """The steps at which the learning rate is halved, with a validation of `losses` after every 250 steps."""
    train = dataclasses.replace(get_config("exp2").train, validate_every=250)
    spec = system.noise(np.random.default_rng(0), 1)
    state = jax.jit(lambda: create_state(system, train, spec))()
    observed = jax.jit(lambda state, loss: observe(system, train, state, loss))
    steps, scale = [], 1.0
    for number, loss in enumerate(losses, 1):
        state = observed(state, jnp.float32(loss))
        (plateau,) = (part for part in state.optimizer[STREAM] if isinstance(part, Plateau))
        if float(plateau.scale) < scale:
            steps.append(250 * number)
        scale = float(plateau.scale)
    return steps


def test_the_curriculum_halves_the_rate_only_where_a_stage_stagnates():
    """After a source is added, the loss is higher than before and falls by 2e-4 at every validation."""
    published = get_config("exp2").system
    assert isinstance(published, Slizovskaia2021)
    system = dataclasses.replace(
        TINY, curriculum=True, curriculum_patience=published.curriculum_patience, optimizer=published.optimizer
    )
    easy, stagnating = np.linspace(0.011, 0.0018, 30), [0.0018] * 11
    harder = 0.06 - 2e-4 * np.arange(280)
    losses = [*easy, *stagnating, *harder]
    assert halvings(losses, system) == []
    # Without a curriculum, the same losses are a plateau that begins at the lowest loss.
    without = dataclasses.replace(system, curriculum=False)
    assert halvings(losses, without)[:2] == [250 * (30 + 51), 250 * (30 + 2 * 51)]


def test_input_noise_is_added_in_training_validation_and_inference(variables):
    system, batch = dataclasses.replace(TINY, input_noise=1.0, dropout=0.0), batch_of(TINY)
    first, other = (float(loss_of(system, variables, batch, jax.random.key(seed))[0]) for seed in (1, 2))
    assert first != other
    noisy = validation_loss(system, variables, batch)
    assert noisy != validation_loss(TINY, variables, batch)
    assert noisy == validation_loss(system, variables, batch)
    mixture = jax.random.normal(KEY, (2, TINY.chunk_samples, 1))
    separate = jax.jit(Slizovskaia2021.separate, static_argnums=0)
    estimates = separate(system, variables, mixture, ())
    assert np.abs(estimates - separate(TINY, variables, mixture, ())).max() > 1e-3
    np.testing.assert_allclose(separate(system, variables, mixture[1:], ()), estimates[1:], atol=1e-5)


def test_frames_of_empty_slots_do_not_count():
    """Frames and their features give the same condition; features of empty slots count as zero.

    A trained ResNet, here one with biases, gives a black picture features that are not zero.
    """
    variables, batch = variables_of(VISUAL), batch_of(VISUAL)
    biased = jax.tree_util.tree_map_with_path(
        lambda path, leaf: leaf + 0.5 if path[-1].key == "bias" else leaf, variables["params"]["resnet"]
    )
    variables = {**variables, "params": {**variables["params"], "resnet": biased}}
    condition = jax.jit(VISUAL.condition)(variables, {FRAMES: batch[FRAMES]})
    encoder = VISUAL.encoder
    assert encoder is not None
    shape = (4, encoder.visual.slots, encoder.visual.frames)
    images = batch[FRAMES].reshape(-1, *batch[FRAMES].shape[3:]).astype(jnp.float32) / 255.0
    collections = {name: variables[name]["resnet"] for name in ("params", "batch_stats")}
    resnet = jax.jit(lambda images: encoder.resnet.apply(collections, images, False))
    outputs = resnet(images).reshape(*shape, -1)
    assert np.abs(outputs[batch[SLOTS] < 0]).max() > 0.1
    features = outputs * (batch[SLOTS] >= 0)[:, :, None, None]
    from_features = jax.jit(VISUAL.condition)(variables, {FEATURES: features})
    np.testing.assert_allclose(from_features, condition, atol=1e-5)
    assert (batch[SLOTS] < 0).any()


def test_a_frozen_network_is_not_trained():
    (phase,) = VISUAL.phases()
    assert phase.trainable == ("separator", "context")
    _, aux = loss_of(VISUAL, variables_of(VISUAL), batch_of(VISUAL))
    assert set(aux.updates["batch_stats"]) == {"separator"}
