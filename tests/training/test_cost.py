"""Tests of the cost of computations against formulas derived by hand."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn
from jax import lax

from benchmarks.timing.contestants import noise_batch
from qsep_jax.nn.conv import Conv, ConvTranspose
from qsep_jax.systems.cantisani2021 import Cantisani2021
from qsep_jax.training import cost
from tests.experiments import debug


def shape(*axes: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(axes, jnp.float32)


def flops(function, *args) -> float:
    return cost.total(cost.cost_of(function, *args)).flops


def test_a_matrix_product():
    product = cost.total(cost.cost_of(jnp.matmul, shape(3, 4), shape(4, 5)))
    assert product == cost.Cost(2 * 3 * 4 * 5, 4 * (12 + 20 + 15))


def test_products_in_a_loop_count_for_each_iteration():
    def loop(x, weights):
        return lax.scan(lambda x, w: (x @ w, None), x, weights)[0]

    assert flops(loop, shape(2, 8), shape(7, 8, 8)) == 7 * 2 * 2 * 8 * 8


@pytest.mark.parametrize(("strides", "frames"), [((1, 1), 16), ((2, 2), 8)])
def test_a_convolution_counts_as_the_plain_one_in_every_form(strides, frames):
    layer = Conv(6, (3, 5), strides, name="layer")
    variables = jax.eval_shape(layer.init, jax.random.key(0), shape(2, 16, 16, 4))
    assert flops(layer.apply, variables, shape(2, 16, 16, 4)) == 2 * (2 * frames * frames * 6) * (3 * 5 * 4)


def test_a_transposed_convolution_excludes_zeros():
    layer = ConvTranspose(6, (4, 4), (2, 2), name="layer")
    variables = jax.eval_shape(layer.init, jax.random.key(0), shape(2, 8, 8, 4))
    # Every input element is multiplied once by every tap.
    assert flops(layer.apply, variables, shape(2, 8, 8, 4)) == pytest.approx(
        2 * (2 * 8 * 8 * 4) * (4 * 4 * 6), rel=0.15
    )


def test_a_fourier_transform():
    assert flops(jnp.fft.rfft, shape(3, 64)) == 3 * 2.5 * 64 * 6
    assert flops(lambda x: jnp.fft.irfft(x, 64), jax.ShapeDtypeStruct((3, 33), jnp.complex64)) == 3 * 2.5 * 64 * 6


def test_costs_are_counted_by_module():
    class Two(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Dense(2, name="second")(nn.Dense(8, name="first")(x))

    variables = jax.eval_shape(Two().init, jax.random.key(0), shape(5, 4))
    costs = cost.cost_of(Two().apply, variables, shape(5, 4))
    assert {name.split("/")[-1]: module.flops for name, module in costs.items()} == {"first": 320.0, "second": 160.0}


def test_conv_tasnet_equals_its_formula():
    system = Cantisani2021()
    batch = jax.tree.map(lambda leaf: shape(*leaf.shape), noise_batch(system, 2))
    variables = jax.eval_shape(lambda: system.init(jax.random.key(0), {}))
    frames = system.samples // (system.window // 2) - 1
    size, stems = system.window * system.channels, len(system.stems)
    block = 2 * system.bottleneck * system.hidden
    products = size * system.filters + system.filters * system.bottleneck + system.repeats * system.blocks * block
    products += system.bottleneck * stems * system.filters + stems * system.filters * size
    forward = cost.total(cost.forward(system, variables, batch)).flops
    assert forward == pytest.approx(2 * 2 * frames * products, rel=1e-6)
    assert cost.total(cost.step(system, variables, batch)).flops == pytest.approx(3 * forward)


@pytest.mark.slow
def test_repeats_of_a_phase_are_counted():
    def with_updates(count: int) -> float:
        system = dataclasses.replace(debug("stoller2018.py:va").system, critic_updates=count)
        batch = jax.tree.map(lambda leaf: shape(*leaf.shape), noise_batch(system, 2))
        variables = jax.eval_shape(lambda: system.init(jax.random.key(0), batch))
        return cost.total(cost.forward(system, variables, batch)).flops

    two, three, five = (with_updates(count) for count in (2, 3, 5))
    assert three > two
    assert five - three == pytest.approx(2 * (three - two))
