"""Tests that notes become frames on the device as in numpy."""

import jax.numpy as jnp
import numpy as np

from data_pipelines.annotations import notes as by_numpy
from data_pipelines.schema import SILENCE_CLASS
from qsep_jax.dsp.rolls import frame_classes


def test_equals_numpy():
    rng = np.random.default_rng(0)
    onsets = np.sort(np.round(rng.uniform(0, 3, (4, 10)), 2), axis=1)
    lengths = np.round(rng.uniform(0.01, 0.5, (4, 10)), 2)
    rows = np.stack([onsets, onsets + lengths, rng.integers(21, 109, (4, 10))], axis=-1).astype(np.float32)
    classes = frame_classes(jnp.asarray(rows), 300, 100.0)
    assert classes.dtype == jnp.int32
    for row, of_row in zip(rows, classes, strict=True):
        np.testing.assert_array_equal(of_row, by_numpy.frame_classes(row, 300, 100.0))


def test_rows_without_duration_are_padding():
    rows = jnp.array([[0.1, 0.2, 69.0], [0.0, 0.0, 0.0], [0.15, 0.15, 50.0]])
    classes = frame_classes(rows, 4, 10.0)
    assert classes.tolist() == [SILENCE_CLASS, 69 - 21, SILENCE_CLASS, SILENCE_CLASS]


def test_a_short_note_has_a_frame_and_later_notes_overwrite():
    rows = jnp.array([[0.0, 0.5, 60.0], [0.21, 0.22, 72.0]])
    assert frame_classes(rows, 6, 10.0).tolist() == [39, 39, 51, 39, 39, SILENCE_CLASS]
