"""Losses of Wasserstein critics, worked out by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qsep_jax.losses.adversarial import gradient_penalty, norms, wasserstein


def test_distance_is_how_much_better_real_ones_score():
    real, fake = jnp.array([[3.0, 5.0], [0.0, 1.0]]), jnp.array([[1.0, 1.0], [2.0, 1.0]])
    np.testing.assert_allclose(wasserstein(real, fake), [3.0, -1.0])


def test_norms_are_of_each_example():
    gradients = jnp.zeros((2, 2, 3, 4)).at[0, 1, 0, 0].set(3.0).at[0, 1, 2, 3].set(-4.0).at[1, 0].set(1.0)
    np.testing.assert_allclose(norms(gradients), [[0.0, 5.0], [12**0.5, 0.0]], atol=1e-5)


def test_norm_of_nothing_has_a_gradient():
    gradient = jax.grad(lambda x: norms(x).sum())(jnp.zeros((2, 3, 4)))
    np.testing.assert_array_equal(gradient, np.zeros((2, 3, 4)))


@pytest.mark.parametrize(("sides", "expected"), [("one", [4.5, 0.0]), ("two", [5.0, 0.25])])
def test_penalty_is_of_steep_gradients_or_of_flat_ones_too(sides, expected):
    steepness = jnp.array([[4.0, 0.0], [0.5, 0.5]])
    np.testing.assert_allclose(gradient_penalty(steepness, sides), expected)


@pytest.mark.parametrize("scale", [0.5, 3.0])
@pytest.mark.parametrize("sides", ["one", "two"])
def test_a_linear_critic_is_as_steep_everywhere(scale, sides):
    """`D(x) = w · x` has the gradient w, whatever x."""
    weights = jax.random.normal(jax.random.key(0), (3, 4))
    weights = scale * weights / jnp.linalg.norm(weights)
    x = jax.random.normal(jax.random.key(1), (5, 3, 4))

    def penalty(weights):
        return gradient_penalty(norms(jax.grad(lambda x: jnp.einsum("bnf,nf->", x, weights))(x)), sides)

    value, gradient = jax.jit(jax.value_and_grad(penalty))(weights)
    excess = scale - 1.0 if sides == "two" else max(scale - 1.0, 0.0)
    assert float(value) == pytest.approx(excess**2, abs=1e-6)
    np.testing.assert_allclose(gradient, 2 * excess * weights / scale, atol=1e-5)
