"""Tests of the cross-entropy of frames."""

import jax.numpy as jnp
import numpy as np
import pytest

from qsep_jax.losses.transcription import frame_cross_entropy


def test_uniform_logits_give_the_logarithm_of_the_number_of_classes():
    assert frame_cross_entropy(jnp.zeros((2, 3, 89)), jnp.zeros((2, 3), jnp.int32)) == pytest.approx(
        np.log(89), rel=1e-6
    )


def test_the_correct_class_gives_zero():
    classes = jnp.array([[3, 88]])
    logits = 100.0 * jnp.eye(89)[classes]
    assert frame_cross_entropy(logits, classes) == pytest.approx(0.0, abs=1e-6)
    assert frame_cross_entropy(logits, classes[:, ::-1]) > 50
