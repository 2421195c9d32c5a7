"""Tests that the magnitudes of a signal from Griffin-Lim approach the given ones as iterations increase."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qsep_jax.dsp.griffin_lim import griffin_lim
from qsep_jax.dsp.stft import stft
from qsep_jax.inference.synthesis import _griffin_lim

WINDOW, HOP, RATE = 512, 64, 8000


@functools.cache
def chord() -> np.ndarray:
    """One second of three decaying tones with partials."""
    time = np.arange(RATE // HOP * HOP) / RATE
    tones = [np.sin(2 * np.pi * base * part * time) / part for base in (220, 277, 330) for part in (1, 2, 3)]
    return (0.1 * np.sum(tones, 0) * np.exp(-3 * (time % 0.5))).astype(np.float32)[None]


def magnitude(signal) -> jax.Array:
    return jnp.abs(stft(jnp.asarray(signal), WINDOW, HOP))


@functools.cache
def reconstruct(iterations: int, momentum: float = 0.0) -> jax.Array:
    program = jax.jit(griffin_lim, static_argnums=(1, 2, 3, 4))
    return program(magnitude(chord()), WINDOW, HOP, iterations, momentum)


def convergence(signal: jax.Array) -> float:
    """Spectral convergence: distance of the magnitudes from the target magnitudes, relative to these."""
    target = magnitude(chord())
    return float(jnp.linalg.norm(magnitude(signal) - target) / jnp.linalg.norm(target))


def test_more_iterations_bring_the_magnitudes_closer():
    errors = [convergence(reconstruct(iterations)) for iterations in (0, 3, 30, 200)]
    assert reconstruct(200).shape == chord().shape
    assert reconstruct(200).dtype == jnp.float32
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > 0.3
    assert errors[-1] < 0.2


def test_momentum_converges_faster():
    plain, fast = convergence(reconstruct(30)), convergence(reconstruct(30, 0.99))
    assert fast < 0.8 * plain


def test_equals_a_loop_in_numpy():
    """The iteration equals a loop in numpy, with and without momentum."""
    from qsep_jax.dsp.stft import istft

    target = np.asarray(magnitude(chord()))
    for momentum in (0.0, 0.5):
        spectrogram, previous = target.astype(np.complex64), 0.0
        for _ in range(3):
            projected = np.asarray(stft(istft(jnp.asarray(spectrogram), WINDOW, HOP), WINDOW, HOP))
            spectrogram = target * np.exp(1j * np.angle(projected - momentum / (1 + momentum) * previous)).astype(
                np.complex64
            )
            previous = projected
        expected = istft(jnp.asarray(spectrogram), WINDOW, HOP)
        np.testing.assert_allclose(reconstruct(3, momentum), expected, atol=2e-3 * np.abs(expected).max())


def test_silence_gives_silence():
    for momentum in (0.0, 0.99):
        signal = griffin_lim(jnp.zeros((2, 20, WINDOW // 2 + 1)), WINDOW, HOP, 3, momentum)
        np.testing.assert_array_equal(signal, np.zeros((2, 20 * HOP), np.float32))
    sounding_then_silent = magnitude(chord()).at[:, 50:].set(0.0)
    assert np.isfinite(griffin_lim(sounding_then_silent, WINDOW, HOP, 3)).all()


def test_signals_are_independent_and_negative_magnitudes_count_as_zero():
    target = magnitude(chord())
    signals = griffin_lim(jnp.concatenate([target, 0.0 * target - 1.0]), WINDOW, HOP, 3)
    np.testing.assert_allclose(signals[0], reconstruct(3)[0], atol=1e-3)
    np.testing.assert_array_equal(signals[1], 0.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"iterations": -1}, "0 or more iterations, not -1"),
        ({"momentum": 1.0}, "at least 0 and below 1, not 1.0"),
        ({"momentum": -0.1}, "at least 0 and below 1, not -0.1"),
        ({"momentum": float("nan")}, "below 1, not nan"),
    ],
)
def test_refuses(options, message):
    with pytest.raises(ValueError, match=message):
        griffin_lim(jnp.zeros((1, 20, WINDOW // 2 + 1)), WINDOW, HOP, **options)


def test_refuses_another_number_of_bins():
    with pytest.raises(ValueError, match="a transform of 512 samples has 257 bins, not 256"):
        griffin_lim(jnp.zeros((1, 20, 256)), WINDOW, HOP)


def test_zero_padded_windows():
    """More bins than those of the window come from a longer transform, also where synthesis reconstructs a phase."""
    signal = np.sin(0.3 * np.arange(64 * 32, dtype=np.float32))
    magnitude = jnp.abs(stft(signal, 256, 64, 512))
    estimate = griffin_lim(magnitude, 256, 64, 30, fft_length=512)
    error = jnp.linalg.norm(jnp.abs(stft(estimate, 256, 64, 512)) - magnitude) / jnp.linalg.norm(magnitude)
    assert error < 0.25
    np.testing.assert_allclose(_griffin_lim(magnitude, 256, 64, 30, 0.0), estimate, atol=1e-4)
    with pytest.raises(ValueError, match="a transform of 256 samples has 129 bins, not 257"):
        griffin_lim(magnitude, 256, 64)
