"""Phase reconstruction from magnitudes: Griffin-Lim (1984) and its fast version (Perraudin et al. 2013)."""

import jax
import jax.numpy as jnp
from jax import Array

from qsep_jax.dsp.stft import istft, stft

# A bin whose power is at most this has no phase.
_EMPTY = 1e-30


def griffin_lim(
    magnitude: Array,
    window_length: int,
    hop_length: int,
    iterations: int = 200,
    momentum: float = 0.0,
    fft_length: int = 0,
) -> Array:
    """Estimate a signal `[..., N · hop_length]` whose `stft` has approximately the given magnitudes.

    The phase starts at zero, as in the published code of Lin et al. 2021. Each iteration computes `Y = stft(istft(X))`,
    keeps the phase of `Y` and replaces its magnitude by the given one.

    Args:
      magnitude: `[..., N, F]`, with F as in `stft`; negative values count as 0.
      window_length: window length of the STFT in samples.
      hop_length: hop of the STFT in samples.
      iterations: number of iterations; each costs one `stft` and one `istft`.
      momentum: α of Perraudin et al.: the phase is that of `Y − α / (1 + α) · Y'`, where Y' is the Y of the previous
        iteration; librosa and torchaudio use the same form. 0 gives the algorithm of Griffin and Lim; the authors of
        the fast version recommend 0.99.
      fft_length: length of the transform in samples, with zeros after the window; 0: that of the window.

    Raises:
      ValueError: if `iterations` is negative, the momentum is outside 0 ≤ α < 1, the number of bins does not fit the
        transform, or there are too few frames for an STFT.
    """
    bins = (fft_length or window_length) // 2 + 1
    if iterations < 0:
        raise ValueError(f"Griffin-Lim needs 0 or more iterations, not {iterations}")
    if not 0.0 <= momentum < 1.0:
        raise ValueError(f"the momentum of Griffin-Lim must be at least 0 and below 1, not {momentum}")
    if magnitude.shape[-1] != bins:
        raise ValueError(
            f"a transform of {fft_length or window_length} samples has {bins} bins, not {magnitude.shape[-1]}"
        )
    magnitude = jnp.maximum(magnitude.astype(jnp.float32), 0.0)
    weight = momentum / (1.0 + momentum)

    def project(spectrogram: Array) -> Array:
        signal = istft(spectrogram, window_length, hop_length, fft_length)
        return stft(signal, window_length, hop_length, fft_length)

    def with_phase_of(spectrogram: Array) -> Array:
        # Scaling avoids the angle, whose sine and cosine would cost more than the transforms.
        power = jnp.square(spectrogram.real) + jnp.square(spectrogram.imag)
        gain = magnitude * jax.lax.rsqrt(jnp.maximum(power, _EMPTY))
        has_phase = power > _EMPTY
        real = jnp.where(has_phase, spectrogram.real * gain, magnitude)
        return jax.lax.complex(real, jnp.where(has_phase, spectrogram.imag * gain, 0.0))

    def plain(_: int, spectrogram: Array) -> Array:
        return with_phase_of(project(spectrogram))

    def fast(_: int, state: tuple[Array, Array]) -> tuple[Array, Array]:
        spectrogram, previous = state
        projected = project(spectrogram)
        return with_phase_of(projected - weight * previous), projected

    start = jax.lax.complex(magnitude, jnp.zeros_like(magnitude))
    if momentum:
        spectrogram, _ = jax.lax.fori_loop(0, iterations, fast, (start, jnp.zeros_like(start)))
    else:
        spectrogram = jax.lax.fori_loop(0, iterations, plain, start)
    return istft(spectrogram, window_length, hop_length, fft_length)
