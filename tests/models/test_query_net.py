"""Tests of Query-net: parameter counts, shapes and precision."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import expit

from qsep_jax.models.query_net import QueryNet
from qsep_jax.systems.base import parameter_count

SMALL = {"channels": (4, 4, 8), "hidden": 8, "latent_size": 6}


def test_parameters_of_the_paper():
    """Six 4×4 convolutions; a GRU of 128 over the 1024 features of 8 bins and 128 maps; two heads of 32."""
    magnitude = jax.ShapeDtypeStruct((1, 256, 512), jnp.float32)
    shapes = jax.eval_shape(QueryNet().init, jax.random.key(0), magnitude)["params"]
    kernels = [shapes[f"conv_{layer}"]["kernel"].shape for layer in range(6)]
    widths = (1, 32, 32, 64, 64, 128, 128)
    assert kernels == [(4, 4, widths[layer], widths[layer + 1]) for layer in range(6)]
    convolutions = 16 * sum(a * b for a, b in itertools.pairwise(widths))
    # Flax's GRU has four biases, PyTorch's six: two redundant ones for each of the reset and update gates.
    gru = 3 * (1024 + 128) * 128 + 4 * 128
    heads = 2 * (128 + 1) * 32
    assert parameter_count(shapes) == convolutions + gru + heads == 959_552


def test_every_layer_halves_frequency_and_every_second_one_time():
    magnitude = jax.ShapeDtypeStruct((3, 256, 512), jnp.float32)
    (mean, log_variance), variables = jax.eval_shape(
        lambda key, magnitude: QueryNet().init_with_output(key, magnitude, capture_intermediates=True),
        jax.random.key(0),
        magnitude,
    )
    maps = [variables["intermediates"][f"conv_{layer}"]["__call__"][0].shape[1:3] for layer in range(6)]
    assert maps == [(256, 256), (128, 128), (128, 64), (64, 32), (64, 16), (32, 8)]
    assert mean.shape == log_variance.shape == (3, 32)


def test_examples_are_independent_and_bfloat16_is_close():
    magnitude = np.abs(np.random.default_rng(0).standard_normal((3, 16, 32))).astype(np.float32)
    magnitude[2] = magnitude[0]
    net = QueryNet(**SMALL, initial_log_variance=-4.0)
    (mean, log_variance), variables = jax.jit(net.init_with_output)(jax.random.key(0), magnitude)
    np.testing.assert_allclose(mean[2], mean[0], atol=1e-5)
    assert np.abs(mean[1] - mean[0]).max() > 1e-2
    assert np.abs(log_variance + 4.0).max() < 2.0
    half = QueryNet(**SMALL, initial_log_variance=-4.0, dtype=jnp.dtype("bfloat16"))
    for narrow, wide in zip(jax.jit(half.apply)(variables, magnitude), (mean, log_variance), strict=True):
        assert narrow.dtype == jnp.float32
        assert 0 < np.abs(narrow - wide).max() < 0.05


def test_equals_the_last_state_of_a_gru_over_stacked_maps():
    magnitude = np.abs(np.random.default_rng(1).standard_normal((1, 16, 32))).astype(np.float32)
    net = QueryNet(**SMALL)
    (mean, log_variance), variables = jax.jit(partial(net.init_with_output, capture_intermediates=True))(
        jax.random.key(0), magnitude
    )
    params = jax.tree.map(np.asarray, variables["params"])
    gru = params["gru"]

    def gate(name: str, x: np.ndarray) -> np.ndarray:
        return x @ gru[name]["kernel"] + gru[name].get("bias", 0.0)

    (maps,) = np.asarray(variables["intermediates"]["conv_2"]["__call__"][0])  # [N', F', C]
    maps = np.maximum((maps - maps.mean((0, 1))) / np.sqrt(maps.var((0, 1)) + 1e-5), 0.0)
    state = np.zeros(8)
    for frame in maps:
        x = frame.T.ravel()
        reset = expit(gate("ir", x) + gate("hr", state))
        update = expit(gate("iz", x) + gate("hz", state))
        state = (1 - update) * np.tanh(gate("in", x) + reset * gate("hn", state)) + update * state
    for output, head in ((mean, params["mean"]), (log_variance, params["log_variance"])):
        np.testing.assert_allclose(output[0], state @ head["kernel"] + head["bias"], atol=1e-4)
