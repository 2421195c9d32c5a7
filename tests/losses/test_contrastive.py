"""Tests of the contrastive loss of queries against values computed by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qsep_jax.losses.contrastive import query_loss

ANCHOR = jnp.zeros((1, 4))


@pytest.mark.parametrize(
    ("same", "other", "form", "expected"),
    [
        (0.0, 1.0, "squared", 0.0),
        (0.5, 1.0, "squared", 0.25),
        (0.0, 0.1, "squared", 0.125 - 0.01),
        (0.5, 1.0, "norm", 1.0),  # √(4 · 0.25)
        (0.0, 0.05, "norm", 0.125 - 0.1),
    ],
)
def test_values_by_hand(same, other, form, expected):
    value = query_loss(ANCHOR, jnp.full((1, 4), same), jnp.full((1, 4), other), 0.125, form)
    assert value == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("form", ["squared", "norm"])
def test_equal_queries_have_a_finite_gradient(form):
    gradient = jax.grad(lambda x: query_loss(x, ANCHOR, ANCHOR, 0.125, form))(ANCHOR)
    assert np.isfinite(gradient).all()
