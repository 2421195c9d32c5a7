"""Ratios of energies in decibels over complete signals: SI-SDR, SD-SDR, SNR, and the SDR of the MDX challenge."""

from collections.abc import Callable

import jax.numpy as jnp
from jax import Array

# Added to energies, so that silence gives a large number instead of NaN.
EPSILON = 1e-12
# The value that the MDX challenge uses for the same purpose.
UTTERANCE_EPSILON = 1e-7


def si_sdr(reference: Array, estimate: Array) -> Array:
    """Scale-invariant signal-to-distortion ratio in dB over the last axis (Le Roux et al. 2019, without mean removal).

    `10 log₁₀(‖α s‖² / ‖α s − ŝ‖²)` with `α = ⟨ŝ, s⟩ / ‖s‖²`: `[..., T]`, `[..., T]` → `[...]` float32. To score a
    source of several channels, concatenate the channels on the last axis.

    The estimate is brought to the energy of the reference first, so that `EPSILON` weighs the same in very soft
    estimates and the result does not depend on their level. A silent estimate has 0 dB.

    Raises:
      ValueError: if the shapes differ.
    """
    reference, estimate = _pair(reference, estimate)
    estimate = _at_energy_of(reference, estimate)
    target = _projection(reference, estimate)
    return _decibels(target, estimate - target)


def sd_sdr(reference: Array, estimate: Array) -> Array:
    """Scale-dependent signal-to-distortion ratio in dB over the last axis (Le Roux et al. 2019, without mean removal).

    `10 log₁₀(‖α s‖² / ‖s − ŝ‖²)` with α and shapes as in `si_sdr`. It equals `snr` plus `10 log₁₀ α²`, so an estimate
    that is too soft is penalised twice.

    Raises:
      ValueError: if the shapes differ.
    """
    reference, estimate = _pair(reference, estimate)
    return _decibels(_projection(reference, estimate), reference - estimate)


def snr(reference: Array, estimate: Array) -> Array:
    """Signal-to-noise ratio in dB over the last axis, with shapes as in `si_sdr`.

    `10 log₁₀(‖s‖² / ‖s − ŝ‖²)`: everything in the estimate that is not the reference is noise. A silent estimate has
    0 dB.

    Raises:
      ValueError: if the shapes differ.
    """
    reference, estimate = _pair(reference, estimate)
    return _decibels(reference, reference - estimate)


def utterance_sdr(reference: Array, estimate: Array) -> Array:
    """SDR of complete songs in dB, by which the Music Demixing Challenge 2021 ranks (Mitsufuji et al. 2022): uSDR.

    `10 log₁₀((‖s‖² + ε) / (‖s − ŝ‖² + ε))`, ε = 1e-7, over samples and channels: `[..., T, C]` → `[...]` float32. The
    challenge averages it over the stems of a song and then over songs; this function does not average.

    Raises:
      ValueError: if the shapes differ or lack the axes T and C.
    """
    if reference.ndim < 2:
        raise ValueError(f"songs must be [..., T, C], not {reference.shape}")
    reference, estimate = (signal.reshape(*signal.shape[:-2], -1) for signal in _pair(reference, estimate))
    return _decibels(reference, reference - estimate, UTTERANCE_EPSILON)


def improvement(metric: Callable[[Array, Array], Array], reference: Array, estimate: Array, mixture: Array) -> Array:
    """The improvement over the mixture x, `metric(s, ŝ) − metric(s, x)` in dB; with `si_sdr` it is SI-SDRi."""
    return metric(reference, estimate) - metric(reference, mixture)


def _pair(reference: Array, estimate: Array) -> tuple[Array, Array]:
    if reference.shape != estimate.shape:
        raise ValueError(f"reference {reference.shape} and estimate {estimate.shape} differ in shape")
    return jnp.asarray(reference, jnp.float32), jnp.asarray(estimate, jnp.float32)


def _at_energy_of(reference: Array, estimate: Array) -> Array:
    """Scale the estimate to the energy of the reference, unless one of them is silent."""
    peak = jnp.max(jnp.abs(estimate), -1, keepdims=True)
    shape = estimate / jnp.where(peak > 0, peak, 1.0)  # the squares of a very soft estimate would underflow
    energy, wanted = (jnp.sum(jnp.square(signal), -1, keepdims=True) for signal in (shape, reference))
    audible = (energy > 0) & (wanted > 0)
    return jnp.where(audible, jnp.sqrt(wanted / jnp.where(audible, energy, 1.0)) * shape, estimate)


def _projection(reference: Array, estimate: Array) -> Array:
    """Scale the reference to its level in the estimate: `α s`."""
    energy = jnp.sum(jnp.square(reference), -1, keepdims=True)
    return jnp.sum(reference * estimate, -1, keepdims=True) / (energy + EPSILON) * reference


def _decibels(signal: Array, distortion: Array, epsilon: float = EPSILON) -> Array:
    above, below = (jnp.sum(jnp.square(part), -1) + epsilon for part in (signal, distortion))
    return 10.0 * jnp.log10(above / below)
