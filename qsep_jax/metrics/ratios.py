"""Ratios of energies in decibels, over whole signals: SI-SDR, SD-SDR and SNR, and the SDR of the MDX challenge."""

from collections.abc import Callable

import jax.numpy as jnp
from jax import Array

# Added to energies, so that silence gives a large number instead of NaN.
EPSILON = 1e-12
# The same, as the MDX challenge has it.
UTTERANCE_EPSILON = 1e-7


def si_sdr(reference: Array, estimate: Array) -> Array:
    """Scale-invariant signal-to-distortion ratio in dB over the last axis (Le Roux et al. 2019, without mean removal).

    `10 log₁₀(‖α s‖² / ‖α s − ŝ‖²)` with `α = ⟨ŝ, s⟩ / ‖s‖²`: `[..., T]`, `[..., T]` → `[...]` float32. Channels
    of one source belong on the last axis, laid end to end.

    Raises:
      ValueError: if the shapes differ.
    """
    reference, estimate = _pair(reference, estimate)
    target = _projection(reference, estimate)
    return _decibels(target, estimate - target)


def sd_sdr(reference: Array, estimate: Array) -> Array:
    """Scale-dependent signal-to-distortion ratio in dB over the last axis (Le Roux et al. 2019, without mean removal).

    `10 log₁₀(‖α s‖² / ‖s − ŝ‖²)` with α and shapes as in `si_sdr`; it is `snr` plus `10 log₁₀ α²`, so that an estimate
    which is too soft loses twice.

    Raises:
      ValueError: if the shapes differ.
    """
    reference, estimate = _pair(reference, estimate)
    return _decibels(_projection(reference, estimate), reference - estimate)


def snr(reference: Array, estimate: Array) -> Array:
    """Signal-to-noise ratio in dB over the last axis, all that is not the reference being noise: shapes as in `si_sdr`.

    `10 log₁₀(‖s‖² / ‖s − ŝ‖²)`. An estimate of silence has 0 dB.

    Raises:
      ValueError: if the shapes differ.
    """
    reference, estimate = _pair(reference, estimate)
    return _decibels(reference, reference - estimate)


def utterance_sdr(reference: Array, estimate: Array) -> Array:
    """SDR of whole songs in dB, as the Music Demixing Challenge 2021 ranks by (Mitsufuji et al. 2022): uSDR.

    `10 log₁₀((‖s‖² + ε) / (‖s − ŝ‖² + ε))`, ε = 1e-7, samples and channels together: `[..., T, C]` → `[...]` float32.
    A song's score is the mean over its stems, a system's the mean over songs; neither is taken here.

    Raises:
      ValueError: if the shapes differ or lack the axes T and C.
    """
    if reference.ndim < 2:
        raise ValueError(f"whole songs must be [..., T, C], not {reference.shape}")
    reference, estimate = (signal.reshape(*signal.shape[:-2], -1) for signal in _pair(reference, estimate))
    return _decibels(reference, reference - estimate, UTTERANCE_EPSILON)


def improvement(metric: Callable[[Array, Array], Array], reference: Array, estimate: Array, mixture: Array) -> Array:
    """`metric(s, ŝ) − metric(s, x)` in dB, the gain over the untouched mixture x; with `si_sdr` it is SI-SDRi."""
    return metric(reference, estimate) - metric(reference, mixture)


def _pair(reference: Array, estimate: Array) -> tuple[Array, Array]:
    if reference.shape != estimate.shape:
        raise ValueError(f"reference {reference.shape} and estimate {estimate.shape} differ in shape")
    return jnp.asarray(reference, jnp.float32), jnp.asarray(estimate, jnp.float32)


def _projection(reference: Array, estimate: Array) -> Array:
    """The reference at the level at which it is in the estimate, `α s`."""
    energy = jnp.sum(jnp.square(reference), -1, keepdims=True)
    return jnp.sum(reference * estimate, -1, keepdims=True) / (energy + EPSILON) * reference


def _decibels(signal: Array, distortion: Array, epsilon: float = EPSILON) -> Array:
    above, below = (jnp.sum(jnp.square(part), -1) + epsilon for part in (signal, distortion))
    return 10.0 * jnp.log10(above / below)
