"""Summaries of scores."""

import numpy as np
import pytest

from qsep_jax.metrics.aggregate import Summary, summarize


def test_numbers():
    summary = summarize(np.array([1.0, 2.0, 3.0, 10.0]))
    half = 1.96 * np.sqrt((9 + 4 + 1 + 36) / 3) / 2
    assert (summary.mean, summary.median, summary.count) == (4.0, 2.5, 4)
    assert summary.ci95 == pytest.approx(half)


def test_what_is_not_finite_is_left_out():
    assert summarize(np.array([np.nan, 1.0, np.inf, 3.0, -np.inf])) == summarize(np.array([1.0, 3.0]))


def test_one_score_has_no_spread():
    assert summarize(np.array([2.0])) == Summary(2.0, 2.0, 0.0, 1)


@pytest.mark.parametrize("scores", [[], [np.nan, np.inf]])
def test_refuses_nothing(scores):
    with pytest.raises(ValueError, match="no finite score"):
        summarize(np.array(scores))
