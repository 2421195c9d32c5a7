"""A signal for a magnitude spectrogram: Griffin-Lim (1984), and the fast version of Perraudin et al. (2013)."""

import jax
import jax.numpy as jnp
from jax import Array

from qsep_jax.dsp.stft import istft, stft

# Power below which a bin has no phase.
_EMPTY = 1e-30


def griffin_lim(
    magnitude: Array, window_length: int, hop_length: int, iterations: int = 200, momentum: float = 0.0
) -> Array:
    """Signal `[..., N · hop_length]` whose `stft` has about the magnitudes `[..., N, window_length // 2 + 1]`.

    From zero phase, as in the published code of Lin et al. 2021, each iteration takes the phase of `stft(istft(X))`
    and puts the magnitude back. Magnitudes below 0 count as 0.

    Args:
      iterations: each costs one `stft` and one `istft`.
      momentum: α of Perraudin et al.: the phase is that of `Y − α / (1 + α) · Y'`, Y' being the Y of the iteration
        before, which is how librosa and torchaudio have it. 0 is Griffin and Lim's; 0.99 is the authors' advice.

    Raises:
      ValueError: for fewer than 0 iterations, a momentum outside 0 ≤ α < 1, magnitudes of another window length, or
        too few frames to be transformed.
    """
    bins = window_length // 2 + 1
    if iterations < 0:
        raise ValueError(f"Griffin-Lim takes 0 iterations or more, not {iterations}")
    if not 0.0 <= momentum < 1.0:
        raise ValueError(f"the momentum of Griffin-Lim must be at least 0 and below 1, not {momentum}")
    if magnitude.shape[-1] != bins:
        raise ValueError(f"a window of {window_length} samples has {bins} bins, not {magnitude.shape[-1]}")
    magnitude = jnp.maximum(magnitude.astype(jnp.float32), 0.0)
    weight = momentum / (1.0 + momentum)

    def rebuilt(spectrogram: Array) -> Array:
        return stft(istft(spectrogram, window_length, hop_length), window_length, hop_length)

    def with_phase_of(spectrogram: Array) -> Array:
        # Not by way of an angle: its sines would cost more than the transforms.
        power = jnp.square(spectrogram.real) + jnp.square(spectrogram.imag)
        gain = magnitude * jax.lax.rsqrt(jnp.maximum(power, _EMPTY))
        there = power > _EMPTY
        real = jnp.where(there, spectrogram.real * gain, magnitude)
        return jax.lax.complex(real, jnp.where(there, spectrogram.imag * gain, 0.0))

    def plain(_: int, spectrogram: Array) -> Array:
        return with_phase_of(rebuilt(spectrogram))

    def fast(_: int, state: tuple[Array, Array]) -> tuple[Array, Array]:
        spectrogram, before = state
        now = rebuilt(spectrogram)
        return with_phase_of(now - weight * before), now

    start = jax.lax.complex(magnitude, jnp.zeros_like(magnitude))
    if momentum:
        found, _ = jax.lax.fori_loop(0, iterations, fast, (start, jnp.zeros_like(start)))
    else:
        found = jax.lax.fori_loop(0, iterations, plain, start)
    return istft(found, window_length, hop_length)
