"""Scores of segments: which scores each segment has, and that they depend on the segment alone."""

import numpy as np
import pytest

from qsep_jax.metrics.bss_eval import bss_eval
from qsep_jax.metrics.protocols import Protocol
from qsep_jax.metrics.segments import METRICS, segment_scores

SAMPLES = 3_000


@pytest.fixture(scope="module")
def case():
    """Three sources and a fourth that is absent, two segments and a remainder; one source is silent in the second."""
    rng = np.random.default_rng(0)
    references = rng.standard_normal((4, 2 * SAMPLES + 700, 1)).astype(np.float32)
    references[3] = 0.0
    references[1, SAMPLES : 2 * SAMPLES] = 0.0
    estimates = 0.5 * references + 0.3 * rng.standard_normal(references.shape).astype(np.float32)
    return references, estimates, segment_scores(references, estimates, SAMPLES)


def test_which_segments_have_a_score(case):
    _, _, scores = case
    assert tuple(scores) == METRICS == Protocol("segments").metrics
    scored = {name: np.isfinite(values).tolist() for name, values in scores.items()}
    sounding = [[True, True], [True, False], [True, True], [False, False]]
    assert scored["SI-SDR"] == scored["SD-SDR"] == sounding
    assert scored["PES"] == [[False, False], [False, True], [False, False], [True, True]]
    assert scored["SDR"] == scored["SIR"] == scored["SAR"] == [[True, False]] * 3 + [[False, False]]


def test_scores_follow_their_formulas(case):
    references, estimates, scores = case
    for segment in range(2):
        s, e = (signals[:, segment * SAMPLES :][:, :SAMPLES, 0].astype(float) for signals in (references, estimates))
        target = (s * e).sum(1, keepdims=True) / np.maximum((s * s).sum(1, keepdims=True), 1e-9) * s
        for name, error in (("SI-SDR", target - e), ("SD-SDR", s - e)):
            with np.errstate(divide="ignore"):
                ratios = 10 * np.log10((target**2).sum(1) / (error**2).sum(1))
            computed = scores[name][:, segment]
            np.testing.assert_allclose(computed[np.isfinite(computed)], ratios[np.isfinite(computed)], atol=1e-3)
        silent = np.isfinite(scores["PES"][:, segment])
        np.testing.assert_allclose(
            scores["PES"][silent, segment], 10 * np.log10((e[silent] ** 2).sum(1) + 1e-8), atol=1e-3
        )
    expected = bss_eval(references[:3, :SAMPLES], estimates[:3, :SAMPLES], 1, "v3", metrics=("SDR", "SIR", "SAR"))
    for name, values in expected.items():
        np.testing.assert_allclose(scores[name][:3, 0], values[:, 0])


def test_silent_estimates():
    """A silent estimate has no ratio, and no stem has BSS Eval; a silent estimate of silence has the lowest PES."""
    rng = np.random.default_rng(0)
    references = rng.standard_normal((3, SAMPLES, 1)) * np.array([1, 1, 0])[:, None, None]
    scores = segment_scores(
        references, references * np.array([1, 0, 0])[:, None, None] + 1e-10 * (references > 9), SAMPLES
    )
    assert scores["SI-SDR"][0, 0] > 100
    assert np.isnan(scores["SI-SDR"][1:, 0]).all()
    assert np.isnan(scores["SDR"]).all()
    np.testing.assert_allclose(scores["PES"][2, 0], -80.0, atol=1e-3)
    almost = np.concatenate([references[:1], np.full((1, SAMPLES, 1), 3e-9), references[2:]])  # 9e-6 in all
    scores = segment_scores(references, almost, SAMPLES)
    assert np.isfinite(scores["SI-SDR"][1, 0])
    assert np.isnan(scores["SDR"]).all()
    assert np.isfinite(segment_scores(references, 10 * almost, SAMPLES)["SDR"][:2]).all()


def test_the_protocol_gives_the_same_scores(case):
    references, estimates, scores = case
    protocol = Protocol("segments", SAMPLES / 8_000, SAMPLES / 8_000)
    assert str(protocol).startswith("segments of 0.375 s")
    assert protocol.framed
    for name, values in protocol.score(references, estimates, 8_000).items():
        np.testing.assert_array_equal(values, scores[name])


def test_unusable_shapes_are_refused(case):
    references, estimates, _ = case
    with pytest.raises(ValueError, match=r"must both be \[K, T, 1\], T at least 3000 samples"):
        segment_scores(references[:, :100], estimates[:, :100], SAMPLES)
    with pytest.raises(ValueError, match=r"must both be \[K, T, 1\]"):
        segment_scores(references.repeat(2, 2), estimates.repeat(2, 2), SAMPLES)
    with pytest.raises(ValueError, match=r"must both be \[K, T, 1\]"):
        segment_scores(references[:2], estimates, SAMPLES)
