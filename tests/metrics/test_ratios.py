"""SI-SDR: known values, scale freedom, silence."""

import numpy as np
import pytest

from qsep_jax.metrics.ratios import si_sdr, si_sdr_improvement

RNG = np.random.default_rng(0)


def signal_and_orthogonal_noise(length: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    """Two orthogonal signals of equal energy."""
    signal, noise = RNG.standard_normal((2, 3, length))
    noise -= (noise * signal).sum(-1, keepdims=True) / np.square(signal).sum(-1, keepdims=True) * signal
    noise *= np.linalg.norm(signal, axis=-1, keepdims=True) / np.linalg.norm(noise, axis=-1, keepdims=True)
    return signal.astype(np.float32), noise.astype(np.float32)


@pytest.mark.parametrize("level", [-20.0, 0.0, 6.0, 40.0])
def test_orthogonal_noise_gives_its_level(level):
    signal, noise = signal_and_orthogonal_noise()
    ratio = si_sdr(signal, signal + 10 ** (-level / 20) * noise)
    assert ratio.shape == (3,)
    np.testing.assert_allclose(ratio, level, atol=1e-2)


@pytest.mark.parametrize("scale", [-1.0, 1e-3, 0.3, 100.0])
def test_free_of_the_scale_of_either_signal(scale):
    signal, noise = signal_and_orthogonal_noise()
    estimate = signal + 0.2 * noise
    expected = si_sdr(signal, estimate)
    np.testing.assert_allclose(si_sdr(signal, scale * estimate), expected, atol=1e-2)
    np.testing.assert_allclose(si_sdr(scale * signal, estimate), expected, atol=1e-2)


def test_a_constant_offset_is_distortion():
    """Means are not removed: half the energy of a signal as an offset gives 3 dB."""
    signal = np.tile(np.array([1.0, -1.0], np.float32), 500)
    np.testing.assert_allclose(si_sdr(signal, signal + np.sqrt(0.5, dtype=np.float32)), 10 * np.log10(2), atol=1e-3)


def test_silence_and_perfection_are_finite_and_far_away():
    signal, silence = RNG.standard_normal(1000).astype(np.float32), np.zeros(1000, np.float32)
    assert 100 < si_sdr(signal, signal) < np.inf
    assert -np.inf < si_sdr(silence, signal) < -100
    assert si_sdr(silence, silence) == 0
    # Nothing estimated: neither target nor distortion is there.
    assert si_sdr(signal, silence) == 0


def test_improvement_is_the_difference_from_the_mixture():
    signal, noise = signal_and_orthogonal_noise()
    improvement = si_sdr_improvement(signal, signal + 0.1 * noise, signal + noise)
    np.testing.assert_allclose(improvement, 20.0, atol=1e-2)
    np.testing.assert_array_equal(si_sdr_improvement(signal, signal + noise, signal + noise), 0.0)


def test_refuses_signals_of_different_shapes():
    with pytest.raises(ValueError, match=r"\(2, 5\) and estimate \(2, 6\)"):
        si_sdr(np.zeros((2, 5)), np.zeros((2, 6)))
    with pytest.raises(ValueError, match="differ in shape"):
        si_sdr(np.zeros((2, 5)), np.zeros(5))
