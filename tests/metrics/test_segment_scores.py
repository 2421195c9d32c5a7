"""Scores of segments: which of them each segment has, and that they are those of the segment alone."""

import numpy as np
import pytest

from qsep_jax.metrics.bss_eval import bss_eval
from qsep_jax.metrics.protocols import Protocol
from qsep_jax.metrics.segments import METRICS, segment_scores

SAMPLES = 3_000


@pytest.fixture(scope="module")
def case():
    """Three sources and a fourth that is nowhere, in two segments and a bit; in the second, one rests."""
    rng = np.random.default_rng(0)
    true = rng.standard_normal((4, 2 * SAMPLES + 700, 1)).astype(np.float32)
    true[3] = 0.0
    true[1, SAMPLES : 2 * SAMPLES] = 0.0
    made = 0.5 * true + 0.3 * rng.standard_normal(true.shape).astype(np.float32)
    return true, made, segment_scores(true, made, SAMPLES)


def test_where_there_is_a_score(case):
    _, _, scores = case
    assert tuple(scores) == METRICS == Protocol("segments").metrics
    there = {name: np.isfinite(values).tolist() for name, values in scores.items()}
    sounding = [[True, True], [True, False], [True, True], [False, False]]
    assert there["SI-SDR"] == there["SD-SDR"] == sounding
    assert there["PES"] == [[False, False], [False, True], [False, False], [True, True]]
    assert there["SDR"] == there["SIR"] == there["SAR"] == [[True, False]] * 3 + [[False, False]]


def test_by_their_formulas(case):
    true, made, scores = case
    for segment in range(2):
        s, e = (signals[:, segment * SAMPLES :][:, :SAMPLES, 0].astype(float) for signals in (true, made))
        target = (s * e).sum(1, keepdims=True) / np.maximum((s * s).sum(1, keepdims=True), 1e-9) * s
        for name, error in (("SI-SDR", target - e), ("SD-SDR", s - e)):
            with np.errstate(divide="ignore"):
                ratios = 10 * np.log10((target**2).sum(1) / (error**2).sum(1))
            found = scores[name][:, segment]
            np.testing.assert_allclose(found[np.isfinite(found)], ratios[np.isfinite(found)], atol=1e-3)
        silent = np.isfinite(scores["PES"][:, segment])
        np.testing.assert_allclose(
            scores["PES"][silent, segment], 10 * np.log10((e[silent] ** 2).sum(1) + 1e-8), atol=1e-3
        )
    expected = bss_eval(true[:3, :SAMPLES], made[:3, :SAMPLES], 1, "v3", metrics=("SDR", "SIR", "SAR"))
    for name, values in expected.items():
        np.testing.assert_allclose(scores[name][:3, 0], values[:, 0])


def test_silent_estimates():
    """They have neither a ratio nor BSS Eval, which the others then lack, too; silence that is met is the floor."""
    rng = np.random.default_rng(0)
    true = rng.standard_normal((3, SAMPLES, 1)) * np.array([1, 1, 0])[:, None, None]
    scores = segment_scores(true, true * np.array([1, 0, 0])[:, None, None] + 1e-10 * (true > 9), SAMPLES)
    assert scores["SI-SDR"][0, 0] > 100
    assert np.isnan(scores["SI-SDR"][1:, 0]).all()
    assert np.isnan(scores["SDR"]).all()
    np.testing.assert_allclose(scores["PES"][2, 0], -80.0, atol=1e-3)
    almost = np.concatenate([true[:1], np.full((1, SAMPLES, 1), 3e-9), true[2:]])  # 9e-6 in all
    scores = segment_scores(true, almost, SAMPLES)
    assert np.isfinite(scores["SI-SDR"][1, 0])
    assert np.isnan(scores["SDR"]).all()
    assert np.isfinite(segment_scores(true, 10 * almost, SAMPLES)["SDR"][:2]).all()


def test_by_its_protocol(case):
    true, made, scores = case
    protocol = Protocol("segments", SAMPLES / 8_000, SAMPLES / 8_000)
    assert str(protocol).startswith("segments of 0.375 s")
    assert protocol.framed
    for name, values in protocol.score(true, made, 8_000).items():
        np.testing.assert_array_equal(values, scores[name])


def test_refuses(case):
    true, made, _ = case
    with pytest.raises(ValueError, match=r"must both be \[K, T, 1\], of 3000 samples or more"):
        segment_scores(true[:, :100], made[:, :100], SAMPLES)
    with pytest.raises(ValueError, match=r"must both be \[K, T, 1\]"):
        segment_scores(true.repeat(2, 2), made.repeat(2, 2), SAMPLES)
    with pytest.raises(ValueError, match=r"must both be \[K, T, 1\]"):
        segment_scores(true[:2], made, SAMPLES)
