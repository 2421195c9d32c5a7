"""Tests of the U-Net without padding: published sizes, independence of where the input was cut, max pooling."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from qsep_jax.models.valid_unet import Extent, ValidUNet, extent, max_pool
from qsep_jax.systems.base import parameter_count

KEY = jax.random.key(0)
TINY = ValidUNet((3, 4, 5), 2)
LEVELS = 2


def shape_of(network: ValidUNet, rows: int, columns: int) -> tuple[int, ...]:
    image = jax.ShapeDtypeStruct((1, rows, columns), jnp.float32)
    return jax.eval_shape(lambda image: network.init_with_output(KEY, image)[0], image).shape


def test_the_published_size():
    time, frequency = extent(64, 4), extent(256, 4)
    assert (time, time.context) == (Extent(158, 66), 46)
    assert frequency == extent(257, 4) == Extent(350, 258)
    assert shape_of(ValidUNet(), 158, 350) == (1, 2, 66, 258)
    params = jax.eval_shape(lambda: ValidUNet().init(KEY, jnp.zeros((1, 158, 350))))
    assert parameter_count(params) == 958_596


@pytest.mark.parametrize("levels", [1, 2, 3])
@pytest.mark.parametrize("min_outputs", [1, 2, 9, 16, 17])
def test_extents_match_the_network_and_are_minimal(levels, min_outputs):
    size = extent(min_outputs, levels)
    network = ValidUNet((1,) * (levels + 1), 1)
    assert shape_of(network, size.inputs, size.inputs) == (1, 1, size.outputs, size.outputs)
    assert size.outputs >= min_outputs
    smaller = size.outputs - 2**levels
    assert smaller < max(min_outputs, 1)


@pytest.fixture(scope="module")
def initialised():
    """A network as a function, its parameters, and a spectrogram longer than the tests need."""
    image = jax.random.normal(KEY, (1, extent(18, LEVELS).inputs, extent(14, LEVELS).inputs))
    return jax.jit(TINY.apply), jax.jit(TINY.init)(KEY, image), image


def test_outputs_do_not_depend_on_where_the_input_was_cut(initialised):
    """The input is cut at multiples of the coarsest pooling window, along both axes."""
    apply, variables, image = initialised
    full, size, step = apply(variables, image), extent(10, LEVELS), 2**LEVELS
    assert full.shape == (1, 2, 18, 14)
    for row, column in ((0, 0), (step, 0), (2 * step, step)):
        part = apply(variables, image[:, row:, column:][:, : size.inputs, : size.inputs])
        expected = full[:, :, row:, column:][:, :, : size.outputs, : size.outputs]
        np.testing.assert_allclose(part, expected, atol=1e-5)
    assert np.ptp(full[0, 0]) > 0.1


def test_outputs_depend_exactly_on_their_extent(initialised):
    apply, variables, image = initialised
    size = extent(6, LEVELS)
    gradient = jax.jit(jax.grad(lambda image: apply(variables, image)[0, :, : size.outputs].sum()))(image)
    rows = np.flatnonzero(np.abs(gradient[0]).sum(-1))
    assert (rows.min(), rows.max()) == (0, size.inputs - 1)


def test_skips_are_cut_from_the_middle(initialised):
    """A rotated input with rotated kernels therefore gives the rotated output."""
    apply, variables, image = initialised
    rotated = jax.tree.map(lambda leaf: leaf[::-1, ::-1] if leaf.ndim == 4 else leaf, variables)
    expected = apply(variables, image)[:, :, ::-1, ::-1]
    np.testing.assert_allclose(apply(rotated, image[:, ::-1, ::-1]), expected, atol=1e-5)


def test_sources_have_different_maps_that_are_not_negative(initialised):
    apply, variables, image = initialised
    maps = apply(variables, image)
    assert maps.dtype == np.float32
    assert float(maps.min()) == 0.0
    assert np.abs(maps[:, 0] - maps[:, 1]).max() > 0.1


def reference_max_pool(x: jax.Array) -> jax.Array:
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")


@pytest.mark.parametrize("ties", [False, True])
def test_max_pool_and_its_gradient_equal_those_of_windows(ties):
    """The first of equal pixels in reading order gets the gradient, as in other frameworks."""
    rng = np.random.default_rng(0)
    x, weights = (rng.standard_normal(shape).astype(np.float32) for shape in ((2, 6, 8, 3), (2, 3, 4, 3)))
    x = np.round(x) if ties else x

    def value_and_gradient(function):
        value, pull = jax.vjp(function, x)
        return value, *pull(weights)

    run = jax.jit(value_and_gradient, static_argnums=0)
    actual, expected = (run(function) for function in (max_pool, reference_max_pool))
    np.testing.assert_array_equal(actual[0], expected[0])
    np.testing.assert_array_equal(actual[1], expected[1])
