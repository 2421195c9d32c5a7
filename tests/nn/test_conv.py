"""Tests of convolutions against `jax.lax` in value and in first and second derivative, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from qsep_jax.nn.conv import Conv, ConvTranspose, same_padding
from qsep_jax.nn.conv_ops import conv, conv_of_constant, conv_transpose, kernel_gradient

# Image size, input channels, output channels, window, strides. Up to 4 channels select the narrow forms.
CASES = [
    ((8, 12), 1, 5, (4, 4), (1, 2)),
    ((8, 12), 6, 5, (4, 4), (2, 2)),
    ((9, 7), 5, 3, (3, 3), (2, 2)),
    ((6, 6), 6, 6, (3, 3), (1, 1)),
    ((9, 8), 2, 3, (5, 3), (3, 2)),
    ((2, 2), 7, 8, (4, 4), (2, 2)),
    ((7, 7), 5, 5, (1, 1), (1, 1)),
    ((6, 9), 6, 7, (2, 2), (3, 4)),
    ((5, 9), 5, 1, (4, 1), (1, 3)),
    # Columns are folded into channels: even numbers of columns, no stride in time.
    ((5, 16), 2, 3, (3, 3), (1, 1)),
    ((5, 12), 4, 8, (3, 3), (1, 2)),
    ((5, 16), 8, 2, (3, 3), (1, 1)),
    ((3, 16), 3, 2, (1, 1), (1, 1)),
    # Fewer output than input channels without a stride: the kernel gradient swaps the roles of input and cotangent.
    ((5, 8), 9, 6, (3, 3), (1, 1)),
    ((5, 7), 80, 6, (3, 2), (1, 1)),
    ((4, 5), 6, 3, (5, 4), (1, 1)),
]
# Narrow, wide and strided forms, which second derivatives compose.
SECOND = [
    ((4, 8), 3, 4, (3, 3), (1, 1)),
    ((4, 6), 1, 5, (3, 4), (1, 2)),
    ((4, 4), 6, 5, (3, 3), (2, 2)),
    ((3, 4), 6, 5, (3, 2), (1, 1)),
    ((4, 4), 5, 2, (2, 2), (3, 2)),
]


def padding_of(window, strides):
    """`same_padding`, or no padding where it would be negative because the stride is larger than the kernel."""
    rows, columns = (
        same_padding(taps, stride) if taps >= stride else (0, 0) for taps, stride in zip(window, strides, strict=True)
    )
    return rows, columns


def native(x, kernel, strides, padding):
    return lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=("NHWC", "HWIO", "NHWC"))


def native_transpose(y, kernel, strides, padding, size):
    image = jnp.zeros((y.shape[0], *size, kernel.shape[2]), y.dtype)
    return jax.vjp(lambda x: native(x, kernel, strides, padding), image)[1](y)[0]


def arrays(case):
    size, channels, features, window, strides = case
    padding = padding_of(window, strides)
    rng = np.random.default_rng(0)
    x, kernel = rng.standard_normal((2, *size, channels)), rng.standard_normal((*window, channels, features))
    y = rng.standard_normal(jax.eval_shape(lambda *a: native(*a, strides, padding), x, kernel).shape)
    return x, kernel, y, strides, padding


def initialised(layer, *inputs):
    """Initialise a layer; return its output and its variables."""
    return jax.jit(layer.init_with_output)(jax.random.key(0), *inputs)


def close(ours, expected):
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-9 * max(1.0, np.abs(b).max()))


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def value_and_gradients(function, cotangent):
    """Return a function that computes value and gradients of a function of two arrays for a cotangent."""

    @jax.jit
    def run(*inputs):
        value, pull = jax.vjp(function, *inputs)
        return value, pull(cotangent)

    return run


def second_derivatives(function, weight):
    """Gradients of the squared gradients, which contain the derivative of every form that a gradient uses."""

    def first(a, b):
        return jax.grad(lambda a, b: (jnp.sin(function(a, b)) * weight).sum(), (0, 1))(a, b)

    return jax.jit(jax.grad(lambda a, b: sum(jnp.square(part).sum() for part in first(a, b)), (0, 1)))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_conv_and_its_gradients(case):
    x, kernel, y, strides, padding = arrays(case)
    ours = value_and_gradients(lambda x, kernel: conv(x, kernel, strides, padding), y)(x, kernel)
    close(ours, value_and_gradients(lambda x, kernel: native(x, kernel, strides, padding), y)(x, kernel))
    close(jax.jit(lambda x, y: kernel_gradient(x, y, strides, padding, kernel.shape[:2]))(x, y), ours[1][1])


@pytest.mark.parametrize("padding", [((0, 0), (0, 0)), ((2, 2), (2, 2)), ((2, 0), (0, 1))], ids=str)
@pytest.mark.parametrize("channels", [(6, 5), (5, 8), (3, 2)])
def test_output_smaller_or_larger_than_the_image(channels, padding):
    """Convolutions without stride, with less and with more padding than keeps the size."""
    rng = np.random.default_rng(0)
    x, kernel = rng.standard_normal((2, 7, 9, channels[0])), rng.standard_normal((3, 3, *channels))
    y = rng.standard_normal(native(x, kernel, (1, 1), padding).shape)
    ours = value_and_gradients(lambda x, kernel: conv(x, kernel, (1, 1), padding), y)(x, kernel)
    close(ours, value_and_gradients(lambda x, kernel: native(x, kernel, (1, 1), padding), y)(x, kernel))


@pytest.mark.parametrize("case", SECOND, ids=str)
def test_second_derivatives(case):
    x, kernel, y, strides, padding = arrays(case)
    ours = second_derivatives(lambda x, kernel: conv(x, kernel, strides, padding), y)(x, kernel)
    close(ours, second_derivatives(lambda x, kernel: native(x, kernel, strides, padding), y)(x, kernel))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_conv_transpose_and_its_gradients(case):
    x, kernel, y, strides, padding = arrays(case)
    geometry = (strides, padding, x.shape[1:3])
    ours = value_and_gradients(lambda y, kernel: conv_transpose(y, kernel, *geometry), x)(y, kernel)
    close(ours, value_and_gradients(lambda y, kernel: native_transpose(y, kernel, *geometry), x)(y, kernel))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_conv_of_constant(case):
    x, kernel, y, strides, padding = arrays(case)
    vector, size = x[:, 0, 0], x.shape[1:3]

    def tiled(vector, kernel):
        return native(jnp.broadcast_to(vector[:, None, None], x.shape), kernel, strides, padding)

    ours = value_and_gradients(lambda vector, kernel: conv_of_constant(vector, kernel, size, strides, padding), y)
    close(ours(vector, kernel), value_and_gradients(tiled, y)(vector, kernel))


@pytest.mark.parametrize("strides", [(1, 2), (2, 2)])
@pytest.mark.parametrize("channels", [1, 6])
def test_tiled_inputs_are_constant_channels(strides, channels):
    rng = np.random.default_rng(0)
    x, vector = rng.standard_normal((2, 6, 8, channels)), rng.standard_normal((2, 3))
    image = np.concatenate([x, np.broadcast_to(vector[:, None, None], (2, 6, 8, 3))], axis=-1)
    layer = Conv(5, (4, 4), strides, dtype=jnp.dtype("float64"))
    tiled, variables = initialised(layer, x, vector)
    assert tiled.shape == (2, 6 // strides[0], 8 // strides[1], 5)
    close(tiled, jax.jit(layer.apply)(variables, image))


def test_bias_is_added_to_every_pixel():
    x = np.ones((1, 4, 4, 5))
    for layer in (Conv(3, (4, 4), (2, 2)), ConvTranspose(3, (4, 4), (2, 2))):
        y, variables = initialised(layer, x)
        variables["params"]["bias"] = np.array([1.0, 2.0, 3.0])
        difference = jax.jit(layer.apply)(variables, x) - y
        np.testing.assert_allclose(difference, np.broadcast_to([1.0, 2.0, 3.0], difference.shape), atol=1e-5)


@pytest.mark.parametrize(("channels", "features"), [(5, 6), (1, 6), (6, 1)])
@pytest.mark.parametrize("strides", [(1, 2), (2, 2)])
def test_conv_transpose_layer_is_the_adjoint_of_conv(strides, channels, features):
    rng = np.random.default_rng(0)
    small = (2, 6 // strides[0], 8 // strides[1], features)
    x, y = rng.standard_normal((2, 6, 8, channels)), rng.standard_normal(small)
    options = {"window": (4, 4), "strides": strides, "use_bias": False, "dtype": jnp.dtype("float64")}
    forward, backward = Conv(features, **options), ConvTranspose(channels, **options)
    image, variables = initialised(forward, x)
    adjoint = jax.jit(backward.apply)(variables, y)
    assert adjoint.shape == x.shape
    close(np.vdot(image, y), np.vdot(x, adjoint))


def test_initialised_layers_preserve_the_variance():
    x = np.random.default_rng(0).standard_normal((2, 16, 16, 256)).astype(np.float32)
    down, up = (initialised(layer, x)[0] for layer in (Conv(32, (4, 4), (2, 2)), ConvTranspose(32, (4, 4), (2, 2))))
    assert 0.9 < np.square(down[:, 2:-2, 2:-2]).mean() < 1.1
    # The initialisation counts 16 taps, of which 4 reach a pixel.
    assert 0.9 < 4 * np.square(up[:, 2:-2, 2:-2]).mean() < 1.1


def test_layers_compute_in_their_dtype_with_float32_parameters():
    x, half = np.ones((1, 4, 4, 5), np.float32), jnp.dtype("bfloat16")
    with jax.enable_x64(False):
        for layer in (Conv(6, (4, 4), (2, 2), dtype=half), ConvTranspose(6, (4, 4), dtype=half)):
            y, variables = initialised(layer, x)
            assert y.dtype == half
            assert all(leaf.dtype == np.float32 for leaf in jax.tree.leaves(variables))


def test_extra_channels_equal_a_concatenation():
    rng = np.random.default_rng(0)
    x, extra = (jnp.asarray(rng.standard_normal((2, 4, 6, channels)), jnp.float32) for channels in (5, 2))
    layer = Conv(3, (3, 3))
    apply = jax.jit(layer.apply)
    _, variables = initialised(layer, jnp.concatenate([x, extra], -1))
    concatenated = apply(variables, jnp.concatenate([x, extra], -1))
    np.testing.assert_allclose(apply(variables, x, extra=extra), concatenated, atol=1e-5)
    vector = jnp.asarray(rng.standard_normal((2, 4)), jnp.float32)
    flat = jnp.broadcast_to(vector[:, None, None], (2, 4, 6, 4))
    _, variables = initialised(layer, jnp.concatenate([x, flat, extra], -1))
    concatenated = apply(variables, jnp.concatenate([x, flat, extra], -1))
    np.testing.assert_allclose(apply(variables, x, vector, extra), concatenated, atol=1e-5)
