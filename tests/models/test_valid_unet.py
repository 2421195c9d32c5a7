"""The U-Net without padding: sizes as published, no output knows where its input was cut, and its maxima."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from qsep_jax.models.valid_unet import Extent, ValidUNet, extent, maxima
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
@pytest.mark.parametrize("wanted", [1, 2, 9, 16, 17])
def test_extents_are_what_the_network_gives_and_the_smallest(levels, wanted):
    found = extent(wanted, levels)
    network = ValidUNet((1,) * (levels + 1), 1)
    assert shape_of(network, found.inputs, found.inputs) == (1, 1, found.outputs, found.outputs)
    assert found.outputs >= wanted
    smaller = found.outputs - 2**levels
    assert smaller < max(wanted, 1)


@pytest.fixture(scope="module")
def fresh():
    """A network as a function, its parameters, and a spectrogram that is longer than it need be."""
    image = jax.random.normal(KEY, (1, extent(18, LEVELS).inputs, extent(14, LEVELS).inputs))
    return jax.jit(TINY.apply), jax.jit(TINY.init)(KEY, image), image


def test_no_output_knows_where_the_input_was_cut(fresh):
    """In steps of the coarsest level, along both axes."""
    apply, variables, image = fresh
    whole, size, step = apply(variables, image), extent(10, LEVELS), 2**LEVELS
    assert whole.shape == (1, 2, 18, 14)
    for row, column in ((0, 0), (step, 0), (2 * step, step)):
        part = apply(variables, image[:, row:, column:][:, : size.inputs, : size.inputs])
        expected = whole[:, :, row:, column:][:, :, : size.outputs, : size.outputs]
        np.testing.assert_allclose(part, expected, atol=1e-5)
    assert np.ptp(whole[0, 0]) > 0.1


def test_outputs_see_their_extent_and_no_further(fresh):
    apply, variables, image = fresh
    size = extent(6, LEVELS)
    reach = jax.jit(jax.grad(lambda image: apply(variables, image)[0, :, : size.outputs].sum()))(image)
    seen = np.flatnonzero(np.abs(reach[0]).sum(-1))
    assert (seen.min(), seen.max()) == (0, size.inputs - 1)


def test_skips_are_cut_from_the_middle(fresh):
    """So that what is turned round comes out turned round."""
    apply, variables, image = fresh
    turned = jax.tree.map(lambda leaf: leaf[::-1, ::-1] if leaf.ndim == 4 else leaf, variables)
    expected = apply(variables, image)[:, :, ::-1, ::-1]
    np.testing.assert_allclose(apply(turned, image[:, ::-1, ::-1]), expected, atol=1e-5)


def test_every_source_has_maps_of_its_own_from_0_on(fresh):
    apply, variables, image = fresh
    maps = apply(variables, image)
    assert maps.dtype == np.float32
    assert float(maps.min()) == 0.0
    assert np.abs(maps[:, 0] - maps[:, 1]).max() > 0.1


def of_windows(x: jax.Array) -> jax.Array:
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")


@pytest.mark.parametrize("ties", [False, True])
def test_maxima_and_their_gradient_are_those_of_windows(ties):
    """Of equal pixels the first in reading order takes the gradient, as in other frameworks."""
    rng = np.random.default_rng(0)
    x, weights = (rng.standard_normal(shape).astype(np.float32) for shape in ((2, 6, 8, 3), (2, 3, 4, 3)))
    x = np.round(x) if ties else x

    def pulled_back(function):
        value, pull = jax.vjp(function, x)
        return value, *pull(weights)

    ours, theirs = (jax.jit(pulled_back, static_argnums=0)(function) for function in (maxima, of_windows))
    np.testing.assert_array_equal(ours[0], theirs[0])
    np.testing.assert_array_equal(ours[1], theirs[1])
