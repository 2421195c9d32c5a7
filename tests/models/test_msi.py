"""Tests of the networks of Lin et al. 2021: published sizes, and which outputs depend on which inputs."""

import functools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.lin2021 import get_config
from data_pipelines.schema import CLASSES
from qsep_jax.models.msi import MSI
from qsep_jax.systems.base import parameter_count
from qsep_jax.systems.lin2021 import Lin2021

KEY = jax.random.key(0)
FRAMES, BINS = 8, 32
tiny = partial(
    MSI,
    channels=(2, 3, 4),
    query_channels=(2, 4),
    query_layers=1,
    latent_size=6,
    transcriber_channels=(5,),
    decoding="disentangled",
    transcription=True,
    pooling="average",
    normalise_timbre=True,
)


def test_the_published_parameter_counts():
    """The counts of `papers-in-detail`, section 2.3, are derived from the authors' code."""
    variables = jax.eval_shape(lambda: Lin2021().init(KEY, {}))
    counts = {name: parameter_count(tree) for name, tree in variables["params"].items()}
    film = sum(parameter_count(tree) for name, tree in variables["params"]["encoder"].items() if "film" in name)
    assert film == 172_032
    assert counts == {
        "encoder": 74_216 + film,
        "decoder": 49_355,
        "transcriber": 1_289_817,
        "query_net": 6_254,
        "pitch_extractor": 2_187_264,
        "timbre_filter": 49_392,
    }
    assert parameter_count(variables["params"]) == 3_828_330


def test_the_variant_paper_has_the_published_bins_and_size():
    """The code's 3,828,330 parameters, a second convolution in the blocks of QueryNet, and no norms in TimbreFilter."""
    system = get_config("msi,paper").system
    assert isinstance(system, Lin2021)
    assert (system.window_length, system.bins, system.joint) == (1024, 1024, True)
    second_convolutions = (9 * 2 * 2 + 2 * 2) + (9 * 4 * 4 + 2 * 4)
    norms = 2 * sum(system.channels)
    variables = jax.eval_shape(lambda: system.init(KEY, {}))
    assert parameter_count(variables["params"]) == 3_828_330 + second_convolutions - norms
    only_the_window = Lin2021(window_length=1024, fft_length=2048)
    assert parameter_count(jax.eval_shape(lambda: only_the_window.init(KEY, {}))["params"]) == 3_828_330


@pytest.mark.parametrize(
    ("decoding", "transcription", "networks"),
    [
        ("nothing", True, {"query_net", "encoder", "transcriber"}),
        ("skips", False, {"query_net", "encoder", "decoder"}),
        ("skips", True, {"query_net", "encoder", "decoder", "transcriber"}),
    ],
)
def test_the_baselines_only_have_the_networks_they_use(decoding, transcription, networks):
    variables = jax.eval_shape(lambda: Lin2021(decoding=decoding, transcription=transcription).init(KEY, {}))
    assert set(variables["params"]) == networks


@pytest.fixture(scope="module")
def inputs():
    magnitude = jnp.abs(jax.random.normal(KEY, (2, FRAMES, BINS)))
    condition = jax.random.uniform(KEY, (2, 2, 6), minval=-1.0)
    roll = jax.nn.one_hot(jax.random.randint(KEY, (4, FRAMES), 0, CLASSES), CLASSES)
    return magnitude, condition, roll


@functools.cache
def variables_of(networks):
    def all_networks(networks, magnitude, condition):
        networks.embed(magnitude, True)
        networks(magnitude, condition, True)

    shapes = (2, FRAMES, BINS), (2, 2, 6)
    return jax.jit(lambda: networks.init(KEY, *map(jnp.ones, shapes), method=all_networks))()


@partial(jax.jit, static_argnums=0, static_argnames=("train", "method"))
def apply(networks, variables, *inputs, train=False, method=None, **more):
    return networks.apply(variables, *inputs, train=train, method=method, **more)


def test_shapes(inputs):
    networks = tiny()
    variables = variables_of(networks)
    estimate, logits = apply(networks, variables, *inputs[:2])
    assert estimate.shape == (4, FRAMES, BINS)
    assert logits.shape == (4, FRAMES, CLASSES)
    latent = apply(networks, variables, inputs[0], method=MSI.embed)
    assert latent.shape == (2, 6)
    assert np.abs(latent).max() <= 1


def test_queries_of_sources_are_independent(inputs):
    """Rows are ordered by mixture, then source; without batch statistics they do not affect each other."""
    magnitude, condition, _ = inputs
    networks = tiny()
    variables = variables_of(networks)
    together, _ = apply(networks, variables, magnitude, condition)
    for mixture in range(2):
        for source in range(2):
            inputs = magnitude[mixture : mixture + 1], condition[mixture : mixture + 1, source : source + 1]
            alone, _ = apply(networks, variables, *inputs)
            np.testing.assert_allclose(alone[0], together[2 * mixture + source], atol=1e-5)


def test_the_score_determines_pitch_and_the_mixture_timbre(inputs):
    magnitude, condition, roll = inputs
    networks = tiny()
    run = partial(apply, networks, variables_of(networks))
    by_score, logits = run(magnitude, condition, roll=roll)
    assert not np.allclose(by_score, run(magnitude, condition)[0])
    assert not np.allclose(by_score, run(magnitude, condition, roll=roll[:, ::-1])[0])
    other, same_logits = run(magnitude, condition, timbre=2 * magnitude, roll=roll)
    assert not np.allclose(other, by_score)
    np.testing.assert_array_equal(same_logits, logits)  # transcription always uses `magnitude`


def test_a_soft_roll_is_a_mixture_of_codebook_entries(inputs):
    """Eq. 10: the representation is linear in the probabilities."""
    networks = tiny()
    variables = variables_of(networks)
    timbre = [jnp.ones((4, FRAMES, BINS // 2**level, channels)) for level, channels in enumerate((2, 3, 4))]

    @jax.jit
    def entangled(roll):
        return networks.apply(variables, roll, timbre, method=lambda n, r, t: n.pitch_extractor(r, t))

    first, second = (jax.nn.one_hot(jnp.full((4, FRAMES), note), CLASSES) for note in (30, 50))
    for a, b, half in zip(entangled(first), entangled(second), entangled(0.5 * (first + second)), strict=True):
        np.testing.assert_allclose(half, 0.5 * (a + b), atol=1e-6)


def test_a_query_of_odd_length_is_cut():
    networks = tiny()
    query = jax.random.normal(KEY, (1, FRAMES + 3, BINS))
    embed = partial(apply, networks, variables_of(networks), method=MSI.embed)
    np.testing.assert_array_equal(embed(query), embed(query[:, :FRAMES]))


def test_the_decoder_may_be_negative(inputs):
    networks = tiny(decoding="skips")
    estimate, _ = apply(networks, variables_of(networks), *inputs[:2])
    assert estimate.min() < 0
