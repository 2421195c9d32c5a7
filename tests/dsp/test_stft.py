"""Tests that the STFT equals a loop over frames and that the inverse is exact up to rounding."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qsep_jax.dsp.stft import hann, istft, stft

SHAPES = [(512, 128), (1024, 256), (512, 256), (100, 30), (64, 48), (33, 10)]


def by_frames(signal: np.ndarray, window_length: int, hop_length: int) -> np.ndarray:
    """Reference STFT: frame n is centred on the middle of block n, and the signal is mirrored at its ends."""
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window_length) / window_length)
    frames = []
    for n in range(len(signal) // hop_length):
        positions = n * hop_length - (window_length - hop_length) // 2 + np.arange(window_length)
        positions = np.abs(positions)
        positions = np.where(positions >= len(signal), 2 * (len(signal) - 1) - positions, positions)
        frames.append(np.fft.rfft(signal[positions] * window))
    return np.stack(frames)


@pytest.mark.parametrize(("window_length", "hop_length"), SHAPES)
def test_equals_a_loop_over_frames(window_length, hop_length):
    signal = np.random.default_rng(0).standard_normal((2, 12 * hop_length)).astype(np.float32)
    expected = np.stack([by_frames(row, window_length, hop_length) for row in signal])
    spectrogram = jax.jit(stft, static_argnums=(1, 2))(signal, window_length, hop_length)
    assert spectrogram.shape == (2, 12, window_length // 2 + 1)
    np.testing.assert_allclose(spectrogram, expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize(("window_length", "hop_length"), SHAPES)
def test_perfect_reconstruction(window_length, hop_length):
    signal = np.random.default_rng(1).standard_normal((3, 2, 12 * hop_length)).astype(np.float32)
    back = jax.jit(lambda signal: istft(stft(signal, window_length, hop_length), window_length, hop_length))(signal)
    np.testing.assert_allclose(back, signal, atol=1e-5)


@pytest.mark.parametrize(
    ("window_length", "hop_length", "fft_length"), [(512, 128, 1024), (100, 30, 128), (64, 48, 64)]
)
def test_frames_are_padded_with_zeros_to_the_length_of_the_transform(window_length, hop_length, fft_length):
    signal = np.random.default_rng(2).standard_normal((2, 12 * hop_length)).astype(np.float32)
    spectrogram = stft(signal, window_length, hop_length, fft_length)
    assert spectrogram.shape == (2, 12, fft_length // 2 + 1)
    frames = np.fft.irfft(np.stack([by_frames(row, window_length, hop_length) for row in signal]), window_length)
    np.testing.assert_allclose(spectrogram, np.fft.rfft(frames, fft_length), atol=1e-4)
    np.testing.assert_allclose(istft(spectrogram, window_length, hop_length, fft_length), signal, atol=1e-5)


def test_a_transform_shorter_than_the_window_is_refused():
    for transform in (stft, istft):
        with pytest.raises(ValueError, match="at least as long as the window of 64, not 32"):
            transform(np.zeros((1, 256, 17), np.float32)[..., 0], 64, 16, 32)


def test_hann_is_periodic():
    np.testing.assert_allclose(hann(8) + np.roll(hann(8), 4), 1.0, atol=1e-7)
    assert hann(8)[0] == 0.0
    assert hann(8)[4] == 1.0


@pytest.mark.parametrize("length", [0, 100, 384, 4 * 128 + 1])
def test_refuses_lengths(length):
    with pytest.raises(ValueError, match=f"multiple of 128 samples and more than 448 samples, not {length}"):
        stft(np.zeros((1, length), np.float32), 1024, 128)


@pytest.mark.parametrize("hop_length", [0, -1, 512])
def test_refuses_hops(hop_length):
    with pytest.raises(ValueError, match=f"positive and below the window length 512, not {hop_length}"):
        stft(np.zeros((1, 5130), np.float32), 512, hop_length)


def test_gradient_of_the_magnitude_is_finite_at_silence():
    gradient = jax.jit(jax.grad(lambda signal: jnp.abs(stft(signal, 64, 16)).sum()))(np.zeros((1, 128), np.float32))
    assert np.isfinite(gradient).all()
