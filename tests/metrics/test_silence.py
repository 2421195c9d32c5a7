"""PES and EPS: frames computed by hand, the lowest score, and comparison with a loop over frames in float64."""

import math

import numpy as np
import pytest

from qsep_jax.metrics.silence import energy_at_predicted_silence as eps
from qsep_jax.metrics.silence import predicted_energy_at_silence as pes

RATE = 10


def sounds(silent: slice) -> np.ndarray:
    """A signal `[1, 40, 1]` of ones, with zeros in one part."""
    signal = np.ones((1, 40, 1), np.float32)
    signal[:, silent] = 0
    return signal


def looped(silenced: np.ndarray, measured: np.ndarray, size: int, step: int, epsilon: float) -> list[float]:
    """Compute the definition in plain Python."""
    means = []
    for silence, sound in zip(silenced, measured, strict=True):
        levels = []
        start = 0
        while start + size <= len(silence):
            if all(sample == 0 for sample in silence[start : start + size].ravel()):
                energy = sum(float(sample) ** 2 for sample in sound[start : start + size].ravel())
                levels.append(10 * math.log10(energy + epsilon))
            start += step
        means.append(sum(levels) / len(levels) if levels else math.nan)
    return means


def test_by_hand():
    reference, estimate = sounds(slice(10, 20)), 3 * sounds(slice(25, 38))
    # Frame 1 of 4 has 10 samples of 3. The estimate is silent in parts of frames 2 and 3, but in no complete frame …
    np.testing.assert_allclose(pes(reference, estimate, RATE), 10 * np.log10(90), atol=1e-4)
    assert np.isnan(eps(reference, estimate, RATE)).all()
    # … with a hop of half a second, the frame from 25 to 35 is completely silent.
    np.testing.assert_allclose(eps(reference, estimate, RATE, hop=0.5), 10.0, atol=1e-4)


def test_levels_are_averaged_in_decibels():
    reference = np.zeros((1, 20, 1), np.float32)
    estimate = np.concatenate([np.full((1, 10, 1), 1.0), np.full((1, 10, 1), 0.01)], axis=1)
    np.testing.assert_allclose(pes(reference, estimate, RATE), (10 - 30) / 2, atol=1e-4)


@pytest.mark.parametrize(("epsilon", "floor"), [(1e-8, -80.0), (1e-12, -120.0)])
def test_a_silent_estimate_of_silence_has_the_lowest_score(epsilon, floor):
    silence = np.zeros((2, 40, 2), np.float32)
    for score in (pes, eps):
        np.testing.assert_allclose(score(silence, silence, RATE, epsilon=epsilon), floor, atol=1e-3)
    np.testing.assert_allclose(pes(silence, silence, RATE), -80.0, atol=1e-3)


def test_eps_counts_a_frame_in_which_the_reference_is_silent_too():
    reference, estimate = sounds(slice(10, 20)), sounds(slice(0, 20))
    np.testing.assert_allclose(eps(reference, estimate, RATE), (10 - 80) / 2, atol=1e-3)


def test_without_silence_the_score_is_nan():
    sound = sounds(slice(0))
    assert np.isnan(pes(sound, sound, RATE)).all()
    assert np.isnan(eps(sound, sound, RATE)).all()


@pytest.mark.parametrize("what", [1e-6, -1.0])
def test_soft_samples_and_cancelling_channels_are_not_silent(what):
    reference = np.zeros((1, 20, 2), np.float32)
    reference[0, 5] = (what, abs(what))
    estimate = np.concatenate([np.ones((1, 10, 2)), np.full((1, 10, 2), 0.1)], axis=1)
    np.testing.assert_allclose(pes(reference, estimate, RATE), 10 * np.log10(20 * 0.01), atol=1e-4)


@pytest.mark.parametrize(("window", "hop"), [(1.0, 1.0), (2.0, 1.5), (0.7, 0.3), (1.1, 2.0), (100.0, 1.0)])
@pytest.mark.parametrize("dtype", [np.float32, np.int16])
def test_equals_a_loop_over_frames(window, hop, dtype):
    rng = np.random.default_rng(0)
    references, estimates = rng.integers(-30000, 30000, (2, 3, 137, 2)).astype(dtype)
    references[0, 20:80] = estimates[0, 50:120] = estimates[1] = references[2] = 0
    size, step = min(137, round(window * RATE)), round(hop * RATE)
    for score, (silenced, measured) in {pes: (references, estimates), eps: (estimates, references)}.items():
        scores = score(references, estimates, RATE, window, hop)
        assert scores.shape == (3,)
        np.testing.assert_allclose(scores, looped(silenced, measured, size, step, 1e-8), atol=1e-3)


def test_sources_are_scored_separately():
    references, estimates = np.random.default_rng(1).standard_normal((2, 3, 40, 2)).astype(np.float32)
    references[:, 10:30] = 0
    alone = [float(pes(references[[i]], estimates[[i]], RATE)[0]) for i in range(3)]
    np.testing.assert_allclose(pes(references, estimates, RATE), alone, atol=1e-5)


@pytest.mark.parametrize("score", [pes, eps])
@pytest.mark.parametrize(
    ("references", "estimates", "options", "message"),
    [
        ((2, 20, 1), (1, 20, 1), {}, r"\(2, 20, 1\) and estimates \(1, 20, 1\) must both be \[S, T, C\]"),
        ((20, 1), (20, 1), {}, r"must both be \[S, T, C\]"),
        ((1, 0, 1), (1, 0, 1), {}, r"must both be \[S, T, C\]"),
        ((1, 20, 1), (1, 20, 1), {"window": 0.01}, "at least a sample long, not 0.01 and 1.0 s at 10 Hz"),
        ((1, 20, 1), (1, 20, 1), {"hop": 0.0}, "at least a sample long, not 1.0 and 0.0 s"),
    ],
)
def test_wrong_arguments_are_refused(score, references, estimates, options, message):
    with pytest.raises(ValueError, match=message):
        score(np.zeros(references), np.zeros(estimates), RATE, **options)
