"""Griffin-Lim: the magnitudes of what it gives are those that were asked for, the nearer the longer it runs."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qsep_jax.dsp.griffin_lim import griffin_lim
from qsep_jax.dsp.stft import stft

WINDOW, HOP, RATE = 512, 64, 8000


@functools.cache
def chord() -> np.ndarray:
    """A second of three decaying tones with partials."""
    time = np.arange(RATE // HOP * HOP) / RATE
    tones = [np.sin(2 * np.pi * base * part * time) / part for base in (220, 277, 330) for part in (1, 2, 3)]
    return (0.1 * np.sum(tones, 0) * np.exp(-3 * (time % 0.5))).astype(np.float32)[None]


def magnitude(signal) -> jax.Array:
    return jnp.abs(stft(jnp.asarray(signal), WINDOW, HOP))


@functools.cache
def found(iterations: int, momentum: float = 0.0) -> jax.Array:
    program = jax.jit(griffin_lim, static_argnums=(1, 2, 3, 4))
    return program(magnitude(chord()), WINDOW, HOP, iterations, momentum)


def convergence(signal: jax.Array) -> float:
    """Spectral convergence: distance of the magnitudes from those asked for, relative to them."""
    wanted = magnitude(chord())
    return float(jnp.linalg.norm(magnitude(signal) - wanted) / jnp.linalg.norm(wanted))


def test_a_chord_comes_back_and_iterations_help():
    errors = [convergence(found(iterations)) for iterations in (0, 3, 30, 200)]
    assert found(200).shape == chord().shape
    assert found(200).dtype == jnp.float32
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > 0.3
    assert errors[-1] < 0.2


def test_momentum_converges_faster():
    plain, fast = convergence(found(30)), convergence(found(30, 0.99))
    assert fast < 0.8 * plain


def test_one_iteration_is_a_loop_of_numpy():
    """The phase of the inverse's transform, with the magnitude put back; and the same with momentum."""
    from qsep_jax.dsp.stft import istft

    wanted = np.asarray(magnitude(chord()))
    for momentum in (0.0, 0.5):
        spectrogram, before = wanted.astype(np.complex64), 0.0
        for _ in range(3):
            now = np.asarray(stft(istft(jnp.asarray(spectrogram), WINDOW, HOP), WINDOW, HOP))
            spectrogram = wanted * np.exp(1j * np.angle(now - momentum / (1 + momentum) * before)).astype(np.complex64)
            before = now
        expected = istft(jnp.asarray(spectrogram), WINDOW, HOP)
        np.testing.assert_allclose(found(3, momentum), expected, atol=2e-3 * np.abs(expected).max())


def test_silence_gives_silence():
    for momentum in (0.0, 0.99):
        signal = griffin_lim(jnp.zeros((2, 20, WINDOW // 2 + 1)), WINDOW, HOP, 3, momentum)
        np.testing.assert_array_equal(signal, np.zeros((2, 20 * HOP), np.float32))
    sounding_then_silent = magnitude(chord()).at[:, 50:].set(0.0)
    assert np.isfinite(griffin_lim(sounding_then_silent, WINDOW, HOP, 3)).all()


def test_each_signal_by_itself_and_negatives_are_nothing():
    wanted = magnitude(chord())
    both = griffin_lim(jnp.concatenate([wanted, 0.0 * wanted - 1.0]), WINDOW, HOP, 3)
    np.testing.assert_allclose(both[0], found(3)[0], atol=1e-3)
    np.testing.assert_array_equal(both[1], 0.0)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"iterations": -1}, "0 iterations or more, not -1"),
        ({"momentum": 1.0}, "at least 0 and below 1, not 1.0"),
        ({"momentum": -0.1}, "at least 0 and below 1, not -0.1"),
        ({"momentum": float("nan")}, "below 1, not nan"),
    ],
)
def test_refuses(options, says):
    with pytest.raises(ValueError, match=says):
        griffin_lim(jnp.zeros((1, 20, WINDOW // 2 + 1)), WINDOW, HOP, **options)


def test_refuses_another_window():
    with pytest.raises(ValueError, match="a window of 512 samples has 257 bins, not 256"):
        griffin_lim(jnp.zeros((1, 20, 256)), WINDOW, HOP)
