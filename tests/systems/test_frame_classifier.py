"""The frame classifier: it learns from the frames of present players, and refuses to separate."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from data_pipelines.schema import FRAMES, SLOTS, SOURCES
from qsep_jax.models.resnet import ResNetSize
from qsep_jax.systems.frame_classifier import STREAM, FrameClassifier
from qsep_jax.training.settings import Train
from qsep_jax.training.state import create_state
from qsep_jax.training.step import make_step

KEY = jax.random.key(0)
TINY = FrameClassifier(size=32, samples=64, resnet=ResNetSize((1, 1), 4), hidden=16)
SLOT_CLASSES = np.array([[3, -1], [7, 3], [0, 7], [12, -1]], np.int32)


@partial(jax.jit, static_argnums=0)
def validate(system, variables, batch):
    return system.validate(variables, batch, KEY)


@pytest.fixture(scope="module")
def batch():
    """Two frames for each player, in a colour of its instrument; empty slots are black."""
    rng = np.random.default_rng(0)
    colours = rng.integers(40, 200, (len(TINY.stems) + 1, 3))
    colours[-1] = 0
    frames = np.broadcast_to(colours[SLOT_CLASSES][:, :, None, None, None], (4, 2, 2, 32, 32, 3))
    frames = frames + (SLOT_CLASSES >= 0)[..., None, None, None, None] * rng.integers(-20, 20, frames.shape)
    sources = np.zeros((4, 2, TINY.samples, 1), np.float32)
    return {STREAM: {SOURCES: sources, SLOTS: SLOT_CLASSES, FRAMES: frames.astype(np.uint8)}}


@pytest.fixture(scope="module")
def training(batch):
    """The state before and after 20 steps on one batch, and the metrics of each."""
    train = Train(steps=20, batch_size=4)
    state = before = jax.jit(lambda: create_state(TINY, train, batch))()
    step, metrics = jax.jit(make_step(TINY, train)), []
    for _ in range(20):
        state, step_metrics = step(state, batch, KEY)
        metrics.append(jax.device_get(step_metrics))
    return before, state, metrics


def test_the_names_of_the_networks(training):
    variables = training[0].variables
    assert {name: set(tree) for name, tree in variables.items()} == {
        "params": {"resnet", "probabilities"},
        "batch_stats": {"resnet"},
    }
    assert variables["params"]["probabilities"]["classes"]["kernel"].shape == (16, 13)


def test_it_learns_and_updates_its_statistics(training):
    before, after, metrics = training
    assert metrics[0]["classifier/skipped"] == 0
    losses = [step["classifier/loss"] for step in metrics]
    assert losses[-1] < 0.7 * losses[0], losses
    assert metrics[-1]["classifier/accuracy"] > metrics[0]["classifier/accuracy"]
    for part in ("params", "batch_stats"):
        stem = [state.variables[part]["resnet"]["stem_norm"] for state in (before, after)]
        assert all(np.abs(new - old).max() > 1e-4 for old, new in zip(*map(jax.tree.leaves, stem), strict=True))


def test_only_present_players_count(batch, training):
    """The loss is the mean over the frames of the six players; the frames of an empty slot change nothing."""
    variables, data = training[0].variables, batch[STREAM]

    @jax.jit
    def loss(data):
        return TINY.loss(variables, data, KEY)

    other = {
        **data,
        FRAMES: np.where(SLOT_CLASSES[..., None, None, None, None] < 0, 255, data[FRAMES]).astype(np.uint8),
    }
    (value, aux), (same, same_aux) = loss(data), loss(other)
    assert float(value) == pytest.approx(float(same), rel=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), aux.updates, same_aux.updates)
    images = data[FRAMES][SLOT_CLASSES >= 0].reshape(-1, 32, 32, 3) / np.float32(255)
    classes = np.repeat(SLOT_CLASSES[SLOT_CLASSES >= 0], 2)
    metrics = validate(TINY, variables, batch)

    @jax.jit
    def features_of(images):
        return TINY.network.apply({name: variables[name]["resnet"] for name in variables}, images, False)

    features = features_of(images)
    top = variables["params"]["probabilities"]["classes"]
    pooled = features.reshape(12, 16, -1).max(-1)
    logits = pooled @ np.asarray(top["kernel"]) + np.asarray(top["bias"])[None]
    expected = -jax.nn.log_softmax(logits)[np.arange(12), classes].mean()
    assert float(metrics["loss"]) == pytest.approx(float(expected), rel=1e-4)
    assert float(metrics["accuracy"]) == pytest.approx(float((logits.argmax(-1) == classes).mean()))


def test_it_refuses_to_separate(training):
    variables = training[0].variables
    assert TINY.tasks == ()
    with pytest.raises(ValueError, match=r"does not separate: .* --train.weights.resnet RUN"):
        TINY.separate(variables, jnp.zeros((1, 64, 1)), ())
    with pytest.raises(ValueError, match="classifies instruments and does not separate"):
        TINY.condition(variables, {})


def test_noise_is_a_valid_batch(training):
    noise = TINY.noise(np.random.default_rng(0), 3)
    assert np.isfinite(validate(TINY, training[0].variables, noise)["loss"])


def test_bfloat16_is_close(batch, training):
    half = dataclasses.replace(TINY, compute_dtype="bfloat16")
    wide, narrow = (validate(system, training[0].variables, batch)["loss"] for system in (TINY, half))
    assert float(narrow) == pytest.approx(float(wide), rel=0.05)
    assert narrow != wide


@pytest.mark.torch
def test_imagenet_weights_are_read(tmp_path):
    from tests.models.torch_resnet import TorchResNet, weights_of

    weights = weights_of(TorchResNet((1, 1), 4, True, classes=5))
    safetensors.numpy.save_file(weights, tmp_path / "resnet.safetensors")
    variables = TINY.from_file("resnet", tmp_path / "resnet.safetensors")
    np.testing.assert_array_equal(
        variables["params"]["stem"]["kernel"][1, 2, 0, 3], weights["conv1.weight"][3, 0, 1, 2]
    )
    with pytest.raises(ValueError, match="there are no published weights of 'probabilities'"):
        TINY.from_file("probabilities", tmp_path / "resnet.safetensors")
