"""Sound of Pixels: its loss, its conditions from frames, silent stems, and its published weights."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from configs.slizovskaia2021 import get_config
from data_pipelines.schema import FRAMES, SLOTS, SOURCES
from qsep_jax.dsp.frequency_scale import to_logarithmic
from qsep_jax.dsp.stft import stft
from qsep_jax.models.resnet import ResNetSize
from qsep_jax.systems.base import Optimizer, parameter_count
from qsep_jax.systems.sound_of_pixels import STREAM, SoundOfPixels, random_crops
from qsep_jax.training import optimizers
from qsep_jax.training.partition import select
from qsep_jax.training.settings import Train
from qsep_jax.training.state import create_state
from qsep_jax.training.step import make_step

KEY = jax.random.key(0)
TINY = SoundOfPixels(
    window_length=62,
    hop_length=16,
    frames=16,
    bins=16,
    levels=3,
    channels=8,
    outputs=4,
    resnet=ResNetSize((1, 1), 4, bottleneck=False),
    frames_seen=2,
    size=24,
    slots=3,
)


@pytest.fixture(scope="module")
def batch():
    """Two players in three slots; each has its own tone and frames in its own colour."""
    rng = np.random.default_rng(0)
    slots = np.array([[3, 8, -1], [8, 0, -1]], np.int32)
    time = np.arange(TINY.chunk_samples)
    tones = np.sin(0.15 * (1 + slots[..., None]) * time + rng.uniform(0, 6, (2, 3, 1))) * (slots >= 0)[..., None]
    colours = rng.integers(0, 256, (13, 3))
    frames = np.broadcast_to(colours[slots][:, :, None, None, None], (2, 3, 2, 24, 24, 3))
    frames = frames * (slots >= 0)[..., None, None, None, None]
    return {
        STREAM: {
            SOURCES: tones[..., None].astype(np.float32),
            SLOTS: slots,
            FRAMES: frames.astype(np.uint8),
        }
    }


@pytest.fixture(scope="module")
def variables(batch):
    return jax.jit(lambda: TINY.init(KEY, batch))()


@partial(jax.jit, static_argnums=0)
def loss(system, variables, data, key=KEY):
    value, aux = system.loss(variables, data, key)
    return value, aux.updates


@partial(jax.jit, static_argnums=0)
def validate(system, variables, batch):
    return system.validate(variables, batch, KEY)["loss"]


condition_of, separate = (
    jax.jit(method, static_argnums=0) for method in (SoundOfPixels.condition, SoundOfPixels.separate)
)


@pytest.fixture(scope="module")
def trained(batch):
    """The state before and after 20 steps on one batch, at a larger learning rate than published, and the metrics."""
    system = dataclasses.replace(TINY, optimizer=Optimizer(learning_rate=1e-2))
    train = Train(steps=20, batch_size=2)
    state = before = jax.jit(lambda: create_state(system, train, batch))()
    step, metrics = jax.jit(make_step(system, train)), []
    for _ in range(20):
        state, step_metrics = step(state, batch, KEY)
        metrics.append(jax.device_get(step_metrics))
    return before, state, metrics


def test_the_loss_falls_on_one_batch(trained):
    _, _, metrics = trained
    assert metrics[0]["separation/skipped"] == 0
    losses = [step["separation/loss"] for step in metrics]
    assert np.mean(losses[-3:]) < 0.8 * np.mean(losses[:3]), losses


def test_the_published_optimizer_trains_the_resnet_at_a_tenth_of_the_learning_rate(variables):
    """A step of SGD is learning rate · (gradient + 1e-4 · parameter)."""
    (phase,) = TINY.phases()
    part = select(variables["params"], phase.trainable)
    rule = optimizers.build(phase.optimizer, 1)
    changes = jax.jit(lambda part: rule.update(jax.tree.map(jnp.ones_like, part), rule.init(part), part)[0])(part)
    rates = {path: 1e-4 if path.startswith("resnet/") else 1e-3 for path in part}
    assert {path.split("/")[0] for path in part} == {"resnet", "head", "sounds", "synthesizer"}
    for path, change in changes.items():
        np.testing.assert_allclose(change, -rates[path] * (1 + 1e-4 * part[path]), rtol=1e-6)


def test_training_updates_the_running_statistics(batch, variables):
    _, updates = loss(TINY, variables, batch[STREAM])
    assert jax.tree.structure(updates["batch_stats"]) == jax.tree.structure(variables["batch_stats"])
    for network in ("resnet", "sounds"):
        pairs = [jax.tree.leaves(tree["batch_stats"][network]) for tree in (updates, variables)]
        assert all(np.abs(new - old).max() > 0 for new, old in zip(*pairs, strict=True))


def test_the_loss_of_constant_masks(batch, variables):
    """A synthesizer of zeros gives masks of one half: the loss is log 2 times the weights."""
    params = {**variables["params"], "synthesizer": {"scale": jnp.zeros(4), "bias": jnp.zeros(1)}}
    loss = validate(TINY, {**variables, "params": params}, batch)
    sources = batch[STREAM][SOURCES][..., 0] / 2

    @jax.jit
    def magnitudes(signals):
        return to_logarithmic(jnp.abs(stft(signals, 62, 16)), TINY.bins)

    magnitude = np.asarray(magnitudes(sources.sum(1, keepdims=True)))
    weight = np.clip(np.log1p(magnitude), 1e-3, 10)
    assert float(loss) == pytest.approx(np.log(2) * weight.mean(), rel=1e-4)
    biased = {**variables, "params": {**params, "synthesizer": {"scale": jnp.zeros(4), "bias": jnp.full(1, 50.0)}}}
    wrong = np.asarray(magnitudes(sources[:, :2])) <= 0.5 * magnitude
    loss = validate(TINY, biased, batch)
    assert float(loss) == pytest.approx(50 * (weight * wrong).mean(), rel=1e-3)


def test_an_empty_slot_changes_nothing(batch, variables):
    data = batch[STREAM]
    without = {name: leaf[:, :2] for name, leaf in data.items()}
    filled = {**data, SOURCES: data[SOURCES] + (data[SLOTS] < 0)[..., None, None].astype(np.float32)}
    first, second, third = (validate(TINY, variables, {STREAM: version}) for version in (data, without, filled))
    assert float(first) == pytest.approx(float(second), rel=1e-5)
    assert float(first) == pytest.approx(float(third), rel=1e-5)
    white = np.where(data[SLOTS][..., None, None, None, None] < 0, 255, data[FRAMES]).astype(np.uint8)
    (value, updates), (same, same_updates) = (loss(TINY, variables, {**data, FRAMES: f}) for f in (data[FRAMES], white))
    assert float(value) == pytest.approx(float(same), rel=1e-5)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6), updates, same_updates)


def test_sources_are_clipped_after_their_volume(batch, variables):
    """At a volume of 4, a source between −1 and 1 is what is left of it between −1 and 1."""
    loud = dataclasses.replace(TINY, lowest_volume=4.0, highest_volume=4.0, zoom=1.0, mirror=False)
    unchanged = dataclasses.replace(loud, lowest_volume=1.0, highest_volume=1.0)
    data = batch[STREAM]
    clipped = {**data, SOURCES: np.clip(4 * data[SOURCES], -1, 1)}
    expected = float(loss(unchanged, variables, clipped)[0])
    assert float(loss(loud, variables, data)[0]) == pytest.approx(expected, rel=1e-5)


def test_random_crops_are_parts_of_the_enlarged_frames():
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (2, 3, 2, 20, 20, 3)).astype(np.uint8)
    crops = np.asarray(jax.jit(random_crops, static_argnums=2)(KEY, frames, 22))
    enlarged = jax.image.resize(frames.astype(np.float32), (2, 3, 2, 22, 22, 3), "cubic").clip(0, 255)
    places = set()
    for index in np.ndindex(2, 3):
        # Both frames of a player are cut at the same one of nine places.
        errors = {
            (top, left): np.abs(crops[index] - enlarged[index][:, top : top + 20, left : left + 20]).max()
            for top in range(3)
            for left in range(3)
        }
        places.add(min(errors, key=lambda place: errors[place]))
        assert min(errors.values()) < 0.05
    assert len(places) > 1


def test_frames_are_cropped_and_mirrored_in_training_only(batch, variables):
    """Frames whose left half is white: a mirrored one is another image, and so is one that was cut."""
    data = dict(batch[STREAM])
    data[FRAMES] = np.where(np.arange(24)[:, None] < 12, 255, data[FRAMES] // 2).astype(np.uint8)
    plain = dataclasses.replace(TINY, lowest_volume=1.0, highest_volume=1.0, zoom=1.0, mirror=False)
    for changes in ({"zoom": 1.3}, {"mirror": True}):
        system = dataclasses.replace(plain, **changes)
        values = {float(loss(system, variables, data, jax.random.key(seed))[0]) for seed in range(4)}
        assert len(values) > 1, changes
        assert float(validate(system, variables, {STREAM: data})) == float(validate(plain, variables, {STREAM: data}))
    assert len({float(loss(plain, variables, data, jax.random.key(seed))[0]) for seed in range(4)}) == 1
    with pytest.raises(ValueError, match=r"zoom enlarges frames: it must be 1 or more, not 0\.9"):
        dataclasses.replace(TINY, zoom=0.9)


def test_the_published_rate_drops_after_40_and_80_of_100_epochs():
    """An epoch has 755 batches of 80: the 604 training videos of Solos, each 100 times."""
    for name in ("exp20", "exp21"):
        experiment = get_config(name)
        assert (experiment.train.steps, experiment.train.batch_size) == (75_500, 80)
        (phase,) = experiment.system.phases()
        rate = optimizers.learning_rate(phase.optimizer, experiment.train.steps)
        rates = [float(rate(jnp.int32(step))) for step in (0, 30_199, 30_200, 60_399, 60_400, 75_499)]
        np.testing.assert_allclose(rates, [1e-3, 1e-3, 1e-4, 1e-4, 1e-5, 1e-5], rtol=1e-5)


def test_volumes_depend_on_the_key(batch, variables):
    one, same, other = (float(loss(TINY, variables, batch[STREAM], jax.random.key(k))[0]) for k in (1, 1, 2))
    assert one == same
    assert one != other


def test_absent_stems_are_silent_and_the_others_are_masked_mixtures(batch, trained):
    variables, data = trained[1].variables, batch[STREAM]
    condition = condition_of(TINY, variables, data)
    params = {**variables["params"], "synthesizer": {"scale": jnp.ones(4), "bias": jnp.full(1, 1e3)}}
    assert condition["features"].shape == (2, 13, 4)
    np.testing.assert_array_equal(condition["present"].argsort(-1)[:, -2:] % 13, [[3, 8], [0, 8]])
    np.testing.assert_array_equal(condition["features"][condition["present"] == 0], 0)
    mixture = jnp.concatenate([data[SOURCES].sum(1), data[SOURCES][:, 0]], axis=-1)
    estimates = separate(TINY, variables, mixture, condition)
    assert estimates.shape == (2, 13, TINY.chunk_samples, 2)
    assert estimates.dtype == np.float32
    np.testing.assert_array_equal(np.abs(estimates).max((2, 3)) > 0, condition["present"] > 0)
    unmasked = separate(TINY, {**variables, "params": params}, mixture, condition)  # masks of one for present stems
    expected = condition["present"][..., None, None] * mixture[:, None]
    np.testing.assert_allclose(unmasked, expected, atol=1e-4)
    mono = separate(TINY, variables, mixture[..., :1], condition)
    np.testing.assert_allclose(estimates[..., :1], mono, atol=1e-5)


def test_players_of_one_stem_count_as_one_player_with_more_frames(batch, variables):
    data, condition = batch[STREAM], partial(condition_of, TINY)
    twice = {FRAMES: data[FRAMES], SLOTS: np.array([[5, 5, -1], [5, 5, -1]], np.int32)}
    one, other = (
        condition(variables, {FRAMES: data[FRAMES][:, place : place + 1], SLOTS: np.full((2, 1), 5, np.int32)})
        for place in (0, 1)
    )
    expected = jnp.maximum(one["features"], other["features"])
    np.testing.assert_allclose(condition(variables, twice)["features"], expected, rtol=1e-5)


def test_missing_cues_and_impossible_sizes_are_refused():
    with pytest.raises(ValueError, match="conditioned on frames and slots; slots are missing"):
        TINY.condition({}, {"frames": jnp.zeros((1, 1, 1, 24, 24, 3))})
    with pytest.raises(ValueError, match="4 levels halve 24 bins and 16 frames"):
        dataclasses.replace(TINY, bins=24, levels=4)
    assert (TINY.visual.frames, TINY.visual.spacing, TINY.visual.size, TINY.visual.slots) == (2, 3.0, 24, 3)


def test_a_preview_and_noise(batch, variables):
    signals = jax.jit(TINY.preview)(variables, batch)
    assert set(signals) == {"mixture", "target", "estimate"}
    assert {audio.shape for audio in signals.values()} == {(2, TINY.chunk_samples, 1)}
    np.testing.assert_allclose(signals["mixture"], batch[STREAM][SOURCES].sum(1) / 2, atol=1e-6)
    noise = TINY.noise(np.random.default_rng(0), 2)
    assert np.isfinite(validate(TINY, variables, noise))


def test_bfloat16_is_close(batch, trained):
    half = dataclasses.replace(TINY, compute_dtype="bfloat16")
    wide, narrow = (validate(system, trained[1].variables, batch) for system in (TINY, half))
    assert float(narrow) == pytest.approx(float(wide), rel=0.05)
    assert narrow != wide


def test_the_published_size():
    shapes = jax.eval_shape(lambda: SoundOfPixels().init(KEY, {}))["params"]
    counts = {name: parameter_count(tree) for name, tree in shapes.items()}
    assert counts == {"resnet": 11_176_512, "head": 147_488, "sounds": 30_274_210, "synthesizer": 33}


@pytest.mark.torch
def test_published_weights_give_the_outputs_of_the_published_network(tmp_path, variables, batch):
    import torch

    from tests.models.torch_resnet import randomised, to_torch, weights_of
    from tests.models.torch_sound_of_pixels import TorchFrameNet, TorchSoundNet, TorchSynthesizer

    torch.manual_seed(0)
    frame, sound = randomised(TorchFrameNet((1, 1), 4, 4)), randomised(TorchSoundNet(3, 8, 4))
    named = {"frame": frame, "sound": sound, "synthesizer": TorchSynthesizer(4)}
    for name, network in named.items():
        safetensors.numpy.save_file(weights_of(network, "module."), tmp_path / f"{name}.safetensors")
    files = {"resnet": "frame", "head": "frame", "sounds": "sound", "synthesizer": "synthesizer"}
    loaded = {network: TINY.from_file(network, tmp_path / f"{name}.safetensors") for network, name in files.items()}
    merged = {
        collection: {network: tree[collection] for network, tree in loaded.items() if collection in tree}
        for collection in variables
    }
    assert jax.tree.structure(merged) == jax.tree.structure(jax.device_get(variables))
    with pytest.raises(ValueError, match="there are no published weights of 'masks'"):
        TINY.from_file("masks", tmp_path / "frame.safetensors")
    features = condition_of(TINY, merged, batch[STREAM])["features"]
    images = batch[STREAM][FRAMES][0, 0] / np.float32(255)
    images = (images - np.float32([0.485, 0.456, 0.406])) / np.float32([0.229, 0.224, 0.225])
    np.testing.assert_allclose(features[0, 3], frame(to_torch(images), 2)[0].detach().numpy(), rtol=1e-4)
