"""Cantisani 2021: the parameters that its strategies train, its loss, and its configurations."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.cantisani2021 import get_config
from data_pipelines.schema import MIXTURE, SOURCES
from qsep_jax.systems.base import parameter_count
from qsep_jax.systems.cantisani2021 import QUIET, SPLITS, Cantisani2021
from qsep_jax.training.partition import select

FULL = Cantisani2021()
TINY: Cantisani2021 = get_config("debug").system  # pyright: ignore[reportAssignmentType]
KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def variables():
    return jax.jit(lambda: TINY.init(KEY, {}))()


def loss_of(variables, mixture, sources):
    loss, aux = jax.jit(TINY.loss)(variables, {MIXTURE: jnp.asarray(mixture), SOURCES: jnp.asarray(sources)}, KEY)
    return float(loss), {name: float(value) for name, value in aux.metrics.items()}


def batch_of(seed=0, batch_size=2):
    batch = TINY.noise(np.random.default_rng(seed), batch_size)["separation"]
    return batch[MIXTURE], batch[SOURCES]


def test_strategies_train_the_parameters_of_the_paper():
    """`papers-in-detail`, section 5.2: the counts of the slides, which include the decoder."""
    params = jax.eval_shape(lambda: FULL.init(KEY, {}))["params"]
    counts = {name: parameter_count(select(params, prefixes)) for name, prefixes in FULL.adaptation_presets().items()}
    trained = {"l1": 8_244_284, "l2": 5_586_984, "l3": 2_929_684, "l4": 403_456, "l5": 10_240}
    assert tuple(trained) == SPLITS
    frozen = {"l1-frozen": 8_234_044, "l2-frozen": 5_576_744, "l3-frozen": 2_919_444, "l4-frozen": 393_216}
    assert counts == trained | frozen


@pytest.mark.parametrize("repeats", [3, 5])
def test_strategies_count_repeats_from_the_end(repeats):
    system = dataclasses.replace(FULL, repeats=repeats)
    end = ("tasnet/separator/mask", "tasnet/decoder")
    names = [f"tasnet/separator/repeat_{number}" for number in range(repeats - 2, repeats + 1)]
    last = f"{names[-1]}/block_10/contract"
    presets = system.adaptation_presets()
    assert {name: presets[name] for name in SPLITS} == {
        "l1": (*names, *end),
        "l2": (*names[1:], *end),
        "l3": (names[-1], *end),
        "l4": (last, *end),
        "l5": end[1:],
    }
    assert presets["l2-frozen"] == (*names[1:], end[0])


def test_fewer_than_three_repeats_have_no_strategies():
    with pytest.raises(ValueError, match="train up to three repeats; the network has 2"):
        dataclasses.replace(FULL, repeats=2).adaptation_presets()


@pytest.mark.parametrize("variant", SPLITS)
def test_the_variant_selects_the_adapted_parameters(variant):
    system = get_config(variant).system
    assert system.adaptation.trainable == FULL.adaptation_presets()[variant]
    assert (system.adaptation == FULL.adaptation) == (variant == "l3")


def test_variants_exclude_one_another():
    with pytest.raises(ValueError, match="the variants l1, l4 exclude one another"):
        get_config("l1,l4")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"window": 21}, "window must be even and kernel odd, not 21 and 3"),
        ({"kernel": 4}, "window must be even and kernel odd, not 20 and 4"),
        ({"samples": 19}, "samples 19 and chunk 441000 must hold a window of 20"),
        ({"chunk": 19}, "samples 80000 and chunk 19 must hold a window of 20"),
    ],
)
def test_impossible_configurations_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(FULL, **changes)


def test_the_error_of_a_silent_network_is_the_level_of_the_sources(variables):
    """The errors of each example are divided by the standard deviation of its mixture, mixed down to mono."""
    mute = jax.tree_util.tree_map_with_path(
        lambda path, leaf: jnp.zeros_like(leaf) if path[-1].key == "decoder" else leaf, variables
    )
    square = np.where(np.arange(TINY.samples) % 2, 1.0, -1.0).astype(np.float32)
    loudness, side = np.array([0.4, 0.05]), 0.3 * np.random.default_rng(0).standard_normal(TINY.samples)
    mono = loudness[:, None] * square + 0.2  # neither the offset nor the difference of the channels counts
    mixture = np.stack([mono + side, mono - side], axis=-1).astype(np.float32)
    levels = np.array([[1.0, 2.0, 3.0, 4.0], [0.5, 0.0, 0.25, 0.125]])
    sources = np.broadcast_to(levels[..., None, None] * square[:, None], (2, 4, TINY.samples, 2)).astype(np.float32)
    loss, metrics = loss_of(mute, mixture, sources)
    expected = (levels / loudness[:, None]).mean(0)
    assert loss == pytest.approx(expected.mean(), rel=1e-4)
    names = ("drums", "bass", "other", "vocals")
    assert metrics == pytest.approx(
        {f"mae_{name}": value for name, value in zip(names, expected, strict=True)}, rel=1e-4
    )
    silent, _ = loss_of(mute, np.zeros_like(mixture), sources)
    assert silent == pytest.approx(levels.mean() / QUIET, rel=1e-4)


def test_the_error_is_the_distance_from_the_estimates(variables):
    mixture, _ = batch_of()
    estimates = jax.jit(TINY.separate)(variables, mixture, ())
    assert loss_of(variables, mixture, estimates)[0] < 1e-6
    offsets = np.array([0.1, -0.2, 0.3, -0.4], np.float32)
    _, metrics = loss_of(variables, mixture, np.asarray(estimates) + offsets[:, None, None])
    units = (1 / mixture.mean(-1).std(-1)).mean()
    expected = {f"mae_{stem}": abs(offset) * units for stem, offset in zip(TINY.stems, offsets.tolist(), strict=True)}
    assert metrics == pytest.approx(expected, rel=1e-4)


def test_the_loss_does_not_depend_on_the_level(variables):
    mixture, sources = batch_of()
    loss, _ = loss_of(variables, mixture, sources)
    for gain in (0.3, 7.0):
        assert loss_of(variables, gain * mixture, gain * sources)[0] == pytest.approx(loss, rel=1e-3)


def test_validation_and_preview(variables):
    mixture, sources = batch_of()
    batch = {"separation": {MIXTURE: jnp.asarray(mixture), SOURCES: jnp.asarray(sources)}}
    loss, metrics = loss_of(variables, mixture, sources)
    assert jax.jit(TINY.validate)(variables, batch, KEY) == pytest.approx({"loss": loss, **metrics}, rel=1e-5)
    signals = jax.jit(TINY.preview)(variables, batch)
    assert set(signals) == {"mixture", "drums", "bass", "other", "vocals"}
    np.testing.assert_array_equal(signals["mixture"], mixture)
    estimates = jax.jit(TINY.separate)(variables, mixture, ())
    for number, stem in enumerate(TINY.stems):
        np.testing.assert_allclose(signals[stem], estimates[:, number], atol=1e-6)


def test_noise_is_a_mixture_of_its_sources():
    mixture, sources = batch_of(batch_size=3)
    assert sources.shape == (3, 4, TINY.samples, 2)
    np.testing.assert_allclose(mixture, sources.sum(1), atol=1e-6)


def test_channels_pass_together_and_examples_are_shorter_than_chunks():
    assert (FULL.input_channels, FULL.example_samples, FULL.chunk_samples) == (2, 80_000, 441_000)
    mono = dataclasses.replace(TINY, channels=1)
    assert mono.input_channels == 1
    params = jax.eval_shape(lambda: mono.init(KEY, {}))["params"]
    assert params["tasnet"]["encoder"].shape == (8, 8)
