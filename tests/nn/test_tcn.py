"""Tests of the blocks of Conv-TasNet against plain formulas and XLA's convolutions, in value and gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from qsep_jax.nn.tcn import Block, BlockWeights, channel_layer_norm, depthwise, prelu_norm, run

B, N, C, H, P = 2, 9, 5, 7, 3
SHAPES = [(2, 33, 17), (2, 7, 5), (1, 1, 3)]
KEEP = ["all", "hidden", "none"]


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


def plain_norm(x, slope, scale, bias):
    p = jnp.where(x > 0, x, slope * x)
    mean, variance = p.mean((1, 2), keepdims=True), p.var((1, 2), keepdims=True)
    return scale[None, None] * (p - mean) / jnp.sqrt(variance + 1e-8) + bias[None, None]


def plain_depthwise(x, kernel, dilation):
    around = dilation * (kernel.shape[0] // 2)
    return lax.conv_general_dilated(
        x,
        kernel[:, None],
        (1,),
        [(around, around)],
        rhs_dilation=(dilation,),
        dimension_numbers=("NHC", "HIO", "NHC"),
        feature_group_count=x.shape[2],
    )


def plain_block(x, weights, dilation):
    hidden = plain_norm(x @ weights.expand, weights.first_slope, weights.first_scale, weights.first_bias)
    hidden = plain_depthwise(hidden, weights.taps, dilation)
    hidden = plain_norm(hidden, weights.second_slope, weights.second_scale, weights.second_bias)
    return x + hidden @ weights.contract


def value_and_gradients(function, *inputs):
    """Value and gradients for a random cotangent."""
    output = jax.eval_shape(function, *inputs)
    value, gradients = jax.jit(lambda *inputs: _pull(function, inputs, normal(*output.shape, seed=9)))(*inputs)
    return jax.device_get((value, gradients))


def _pull(function, inputs, cotangent):
    value, pull = jax.vjp(function, *inputs)
    return value, pull(jnp.asarray(cotangent, value.dtype))


def in_float64(function, *inputs):
    """Value and gradients in float64."""
    with jax.enable_x64(True):
        return value_and_gradients(function, *jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), inputs))


def close(ours, expected, tolerance=1e-5):
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(expected), strict=True):
        assert np.shape(a) == np.shape(b)
        np.testing.assert_allclose(np.asarray(a, float), b, atol=tolerance * max(np.abs(b).max(), 1e-3))


def norm_inputs(shape, loudness=1.0):
    scale, bias = 1 + 0.5 * normal(shape[2], seed=1), normal(shape[2], seed=2)
    return loudness * (normal(*shape) + 0.3), np.float32(0.25), scale, bias


@pytest.mark.parametrize("loudness", [1.0, 1e-4])  # so quiet that ε matters
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_prelu_norm_and_its_gradients(shape, loudness):
    inputs = norm_inputs(shape, loudness)
    ours = value_and_gradients(prelu_norm, *inputs)
    assert all(leaf.dtype == np.float32 for leaf in jax.tree.leaves(ours))
    close(ours, in_float64(plain_norm, *inputs))


def test_prelu_norm_in_bfloat16():
    x, *rest = norm_inputs((2, 33, 17))
    narrow = jnp.asarray(x, jnp.bfloat16)
    (value, gradients), (wide, exact) = (
        value_and_gradients(prelu_norm, narrow, *rest),
        in_float64(plain_norm, narrow, *rest),
    )
    assert value.dtype == gradients[0].dtype == jnp.bfloat16
    assert all(gradient.dtype == np.float32 for gradient in gradients[1:])
    close((value, gradients), (wide, exact), 0.01)


def test_statistics_of_bfloat16_are_float32():
    """A mean of 257, which bfloat16 would round to 256, must not swamp a deviation of 1."""
    x = jnp.asarray(np.where(np.arange(4096) % 2, 258.0, 256.0).reshape(1, 64, 64), jnp.bfloat16)
    ones, zeros = jnp.ones(64), jnp.zeros(64)
    for y in (prelu_norm(x, jnp.float32(0.25), ones, zeros), channel_layer_norm(x, ones, zeros)):
        assert y.dtype == jnp.bfloat16
        np.testing.assert_allclose(np.abs(y.astype(np.float32)), 1.0, atol=0.01)


def test_prelu_norm_of_each_example_separately():
    """Examples are independent, and `vmap` allows different parameters for each song."""
    x, slope, scale, bias = norm_inputs((3, 8, 5))
    slopes, scales, biases = (np.stack([part, 2 * part, -part]) for part in (slope, scale, bias))
    together = jax.vmap(prelu_norm)(x[:, None], slopes, scales, biases)
    for song in range(3):
        alone = plain_norm(x[song : song + 1], slopes[song], scales[song], biases[song])
        np.testing.assert_allclose(together[song], alone, atol=1e-5)
    np.testing.assert_allclose(
        prelu_norm(x, slope, scale, bias)[1:2], plain_norm(x[1:2], slope, scale, bias), atol=1e-5
    )


@pytest.mark.parametrize("loudness", [1.0, 1e-4])
def test_channel_layer_norm_of_each_frame(loudness):
    x, scale, bias = loudness * normal(2, 5, 7), normal(7, seed=1), normal(7, seed=2)
    y = channel_layer_norm(x, scale, bias)
    for example in range(2):
        for frame in range(5):
            values = x[example, frame].astype(np.float64)
            expected = scale * (values - values.mean()) / np.sqrt(values.var() + 1e-8) + bias
            np.testing.assert_allclose(y[example, frame], expected, atol=1e-5)


@pytest.mark.parametrize("widest", [0, 40])
@pytest.mark.parametrize("taps", [1, 3, 5])
@pytest.mark.parametrize("dilation", [1, 2, 4, 16])  # the last dilation is longer than the signal
def test_depthwise_and_its_gradients(dilation, taps, widest):
    x, kernel = normal(B, N, H), normal(taps, H)
    ours = value_and_gradients(lambda x, kernel: depthwise(x, kernel, dilation, max(widest, dilation)), x, kernel)
    close(ours, value_and_gradients(lambda x, kernel: plain_depthwise(x, kernel, dilation), x, kernel))


def test_a_dilation_may_be_traced():
    x, kernels, dilations = normal(B, N, H), normal(3, P, H), [1, 4, 2]

    def scanned(x, kernels):
        return lax.scan(lambda x, inputs: (depthwise(x, *inputs, 4), None), x, (kernels, jnp.array(dilations)))[0]

    def in_turn(x, kernels):
        for kernel, dilation in zip(kernels, dilations, strict=True):
            x = plain_depthwise(x, kernel, dilation)
        return x

    close(value_and_gradients(scanned, x, kernels), value_and_gradients(in_turn, x, kernels))


@pytest.mark.parametrize("shared", [False, True])
def test_a_separate_kernel_for_each_song(shared):
    """The songs have different signals or share one."""
    x, kernels = normal(*(() if shared else (4,)), B, N, H), normal(4, P, H)

    def of_songs(function):
        return lambda x, kernels: jax.vmap(function, (None if shared else 0, 0))(x, kernels)

    def one_by_one(x, kernels):
        signals = [x] * 4 if shared else list(x)
        return jnp.stack([plain_depthwise(signal, kernel, 2) for signal, kernel in zip(signals, kernels, strict=True)])

    ours = value_and_gradients(of_songs(lambda x, kernel: depthwise(x, kernel, 2, 4)), x, kernels)
    close(ours, value_and_gradients(one_by_one, x, kernels))


def random_block(seed: int) -> BlockWeights:
    shapes = jax.eval_shape(lambda: Block(C, H, P).init_with_output(jax.random.key(0))[0])
    leaves = [np.float32(0.5) * normal(*leaf.shape, seed=10 * seed + index) for index, leaf in enumerate(shapes)]
    return BlockWeights(*leaves)


BLOCKS = [random_block(seed) for seed in range(4)]


@pytest.mark.parametrize("keep", KEEP)
@pytest.mark.parametrize("dilations", [[1, 2, 4, 16], [3]], ids=str)
def test_run_equals_blocks_in_sequence(dilations, keep):
    """Value and gradients do not depend on what is stored for the backward pass."""
    blocks, x = BLOCKS[: len(dilations)], normal(B, N, C)

    def in_turn(x, blocks):
        for weights, dilation in zip(blocks, dilations, strict=True):
            x = plain_block(x, weights, dilation)
        return x

    ours = value_and_gradients(lambda x, blocks: run(x, blocks, dilations, keep), x, blocks)
    close(ours, in_float64(in_turn, x, blocks), 1e-4)


def test_activations_stored_for_the_backward_pass():
    """`none` stores the inputs of the blocks, `hidden` also the inputs of their first non-linearity, `all` more."""
    frames = 50
    x = normal(B, frames, C)

    def stored(keep):
        def pull(x, blocks):
            return jax.vjp(lambda x, blocks: run(x, blocks, [1, 2, 4, 8], keep), x, blocks)[1]

        leaves = jax.tree.leaves(jax.eval_shape(pull, x, BLOCKS))
        return sum(leaf.size for leaf in leaves if frames in leaf.shape)

    assert stored("none") == 4 * B * frames * C
    assert stored("hidden") == 4 * B * frames * (C + H)
    assert stored("all") > 4 * B * frames * (C + 2 * H)


def test_initialisation_is_as_published():
    """Xavier-normal; a grouped convolution has one input channel per kernel, so 3 inputs and 512 · 3 outputs."""
    features, hidden = 64, 512
    weights = jax.jit(lambda: Block(features, hidden, P).init_with_output(jax.random.key(0))[0])()
    for matrix in (weights.expand, weights.contract):
        assert float(matrix.std()) == pytest.approx((2 / (features + hidden)) ** 0.5, rel=0.05)
    assert float(weights.taps.std()) == pytest.approx((2 / (P + P * hidden)) ** 0.5, rel=0.1)
    assert float(weights.first_slope) == float(weights.second_slope) == 0.25
    for scale, bias in ((weights.first_scale, weights.first_bias), (weights.second_scale, weights.second_bias)):
        assert (scale == 1).all()
        assert (bias == 0).all()
