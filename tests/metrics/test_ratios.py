"""SI-SDR, SD-SDR, SNR and uSDR: known values, invariances and silence."""

import jax.numpy as jnp
import numpy as np
import pytest

from qsep_jax.metrics.ratios import improvement, sd_sdr, si_sdr, snr, utterance_sdr

RNG = np.random.default_rng(0)
RATIOS = (si_sdr, sd_sdr, snr)


def signal_and_orthogonal_noise(length: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    """Draw three pairs of orthogonal signals of equal energy."""
    signal, noise = RNG.standard_normal((2, 3, length))
    noise -= (noise * signal).sum(-1, keepdims=True) / np.square(signal).sum(-1, keepdims=True) * signal
    noise *= np.linalg.norm(signal, axis=-1, keepdims=True) / np.linalg.norm(noise, axis=-1, keepdims=True)
    return signal.astype(np.float32), noise.astype(np.float32)


@pytest.mark.parametrize("ratio", RATIOS)
@pytest.mark.parametrize("level", [-20.0, 0.0, 6.0, 40.0])
def test_orthogonal_noise_gives_its_level(level, ratio):
    signal, noise = signal_and_orthogonal_noise()
    ratios = ratio(signal, signal + 10 ** (-level / 20) * noise)
    assert ratios.shape == (3,)
    np.testing.assert_allclose(ratios, level, atol=1e-2)


@pytest.mark.parametrize("scale", [-1.0, 1e-8, 1e-3, 0.3, 100.0])
def test_si_sdr_does_not_depend_on_scales(scale):
    signal, noise = signal_and_orthogonal_noise()
    estimate = signal + 0.2 * noise
    expected = si_sdr(signal, estimate)
    np.testing.assert_allclose(si_sdr(signal, scale * estimate), expected, atol=1e-2)
    if abs(scale) > 1e-4:  # a reference of this level counts as silent
        np.testing.assert_allclose(si_sdr(scale * signal, estimate), expected, atol=1e-2)


@pytest.mark.parametrize("scale", [0.1, 0.5, 2.0])
def test_a_wrong_scale_lowers_snr_and_sd_sdr(scale):
    """The error gains `(1 − scale)²` times the signal; the target of SD-SDR is also scaled by `scale²`."""
    signal, noise = signal_and_orthogonal_noise()
    estimate = scale * signal + 0.1 * noise
    expected = -10 * np.log10((1 - scale) ** 2 + 0.01)
    np.testing.assert_allclose(snr(signal, estimate), expected, atol=1e-3)
    np.testing.assert_allclose(sd_sdr(signal, estimate), expected + 20 * np.log10(scale), atol=1e-3)


@pytest.mark.parametrize("ratio", [sd_sdr, snr])
def test_a_common_scale_does_not_matter(ratio):
    signal, noise = signal_and_orthogonal_noise()
    estimate = 0.7 * signal + 0.2 * noise
    np.testing.assert_allclose(ratio(0.01 * signal, 0.01 * estimate), ratio(signal, estimate), atol=1e-3)


@pytest.mark.parametrize("ratio", RATIOS)
def test_a_constant_offset_is_distortion(ratio):
    """Means are not removed: half the energy of a signal as an offset gives 3 dB."""
    signal = np.tile(np.array([1.0, -1.0], np.float32), 500)
    np.testing.assert_allclose(ratio(signal, signal + np.sqrt(0.5, dtype=np.float32)), 10 * np.log10(2), atol=1e-3)


@pytest.mark.parametrize("ratio", RATIOS)
def test_silence_and_perfect_estimates_are_finite(ratio):
    signal, silence = RNG.standard_normal(1000).astype(np.float32), np.zeros(1000, np.float32)
    assert 100 < ratio(signal, signal) < np.inf
    assert -np.inf < ratio(silence, signal) < -100
    assert ratio(silence, silence) == 0


def test_a_silent_estimate():
    signal, silence = RNG.standard_normal(1000).astype(np.float32), np.zeros(1000, np.float32)
    # SI-SDR has neither target nor distortion; SD-SDR has distortion alone; the noise of SNR is as loud as the signal.
    assert si_sdr(signal, silence) == 0
    assert -np.inf < sd_sdr(signal, silence) < -100
    assert snr(signal, silence) == 0


def test_utterance_sdr_by_hand():
    reference = np.array([[[1.0, 2.0], [0.0, 2.0]], [[3.0, 0.0], [0.0, 1.0]]])
    estimate = reference + np.array([[[0.0, 0.3], [0.0, 0.0]], [[0.0, 0.0], [1.0, 0.0]]])
    ratios = utterance_sdr(reference, estimate)
    assert ratios.shape == (2,)
    assert ratios.dtype == jnp.float32
    np.testing.assert_allclose(ratios, 10 * np.log10([9 / 0.09, 10 / 1]), atol=1e-4)


def test_utterance_sdr_pools_channels():
    reference, error = RNG.standard_normal((2, 4, 500, 2))
    error[..., 0] *= 0.01
    pooled = utterance_sdr(reference, reference + error)
    by_channel = snr(reference.swapaxes(-1, -2), (reference + error).swapaxes(-1, -2)).mean(-1)
    concatenated = snr(reference.reshape(4, -1), (reference + error).reshape(4, -1))
    np.testing.assert_allclose(pooled, concatenated, atol=1e-3)
    assert (np.abs(pooled - by_channel) > 5).all()


def test_utterance_sdr_of_silence():
    """ε = 1e-7 is added to both energies: 9e-7 and 1e-7 become 10 ε and 2 ε."""
    silence = np.zeros((2, 1))
    assert utterance_sdr(silence, silence) == 0
    np.testing.assert_allclose(utterance_sdr(silence, silence + np.sqrt(4.5e-7)), -10, atol=1e-3)
    reference = np.array([[np.sqrt(9e-7)], [0.0]])
    np.testing.assert_allclose(utterance_sdr(reference, reference), 10, atol=1e-3)
    estimate = np.array([[np.sqrt(9e-7)], [np.sqrt(1e-7)]])
    np.testing.assert_allclose(utterance_sdr(reference, estimate), 10 * np.log10(5), atol=1e-3)


@pytest.mark.parametrize("ratio", RATIOS)
def test_improvement_is_the_difference_from_the_mixture(ratio):
    signal, noise = signal_and_orthogonal_noise()
    gain = improvement(ratio, signal, signal + 0.1 * noise, signal + noise)
    np.testing.assert_allclose(gain, 20.0, atol=1e-2)
    np.testing.assert_array_equal(improvement(ratio, signal, signal + noise, signal + noise), 0.0)


@pytest.mark.parametrize("ratio", [*RATIOS, utterance_sdr])
def test_different_shapes_are_refused(ratio):
    with pytest.raises(ValueError, match=r"\(2, 5\) and estimate \(2, 6\)"):
        ratio(np.zeros((2, 5)), np.zeros((2, 6)))
    with pytest.raises(ValueError, match="differ in shape"):
        ratio(np.zeros((2, 5)), np.zeros(5))


def test_utterance_sdr_refuses_a_signal_without_channels():
    with pytest.raises(ValueError, match=r"must be \[..., T, C\], not \(5,\)"):
        utterance_sdr(np.zeros(5), np.zeros(5))
