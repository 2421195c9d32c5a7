"""Tests of the losses of Wasserstein critics against values computed by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qsep_jax.losses.adversarial import gradient_norms, gradient_penalty, wasserstein


def test_distance_is_the_difference_of_mean_scores():
    real, fake = jnp.array([[3.0, 5.0], [0.0, 1.0]]), jnp.array([[1.0, 1.0], [2.0, 1.0]])
    np.testing.assert_allclose(wasserstein(real, fake), [3.0, -1.0])


def test_norms_are_computed_for_each_example():
    gradients = jnp.zeros((2, 2, 3, 4)).at[0, 1, 0, 0].set(3.0).at[0, 1, 2, 3].set(-4.0).at[1, 0].set(1.0)
    np.testing.assert_allclose(gradient_norms(gradients), [[0.0, 5.0], [12**0.5, 0.0]], atol=1e-5)


def test_norm_of_zero_has_a_finite_gradient():
    gradient = jax.grad(lambda x: gradient_norms(x).sum())(jnp.zeros((2, 3, 4)))
    np.testing.assert_array_equal(gradient, np.zeros((2, 3, 4)))


@pytest.mark.parametrize(("sides", "expected"), [("one", [4.5, 0.0]), ("two", [5.0, 0.25])])
def test_penalty_has_one_side_or_two(sides, expected):
    steepness = jnp.array([[4.0, 0.0], [0.5, 0.5]])
    np.testing.assert_allclose(gradient_penalty(steepness, sides), expected)


@pytest.mark.parametrize("scale", [0.5, 3.0])
@pytest.mark.parametrize("sides", ["one", "two"])
def test_penalty_of_a_linear_critic(scale, sides):
    """`D(x) = w · x` has the gradient w for every x."""
    weights = jax.random.normal(jax.random.key(0), (3, 4))
    weights = scale * weights / jnp.linalg.norm(weights)
    x = jax.random.normal(jax.random.key(1), (5, 3, 4))

    def penalty(weights):
        return gradient_penalty(gradient_norms(jax.grad(lambda x: jnp.einsum("bnf,nf->", x, weights))(x)), sides)

    value, gradient = jax.jit(jax.value_and_grad(penalty))(weights)
    excess = scale - 1.0 if sides == "two" else max(scale - 1.0, 0.0)
    assert float(value) == pytest.approx(excess**2, abs=1e-6)
    np.testing.assert_allclose(gradient, 2 * excess * weights / scale, atol=1e-5)
