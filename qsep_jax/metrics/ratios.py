"""Signal ratios in decibels, over whole signals."""

import jax.numpy as jnp
from jax import Array

# Added to energies, so that silence gives a large number instead of NaN.
EPSILON = 1e-12


def si_sdr(reference: Array, estimate: Array) -> Array:
    """Scale-invariant signal-to-distortion ratio in dB over the last axis (Le Roux et al. 2019, without mean removal).

    `10 log₁₀(‖α s‖² / ‖α s − ŝ‖²)` with `α = ⟨ŝ, s⟩ / ‖s‖²`: `[..., T]`, `[..., T]` → `[...]` float32. Channels
    of one source belong on the last axis, laid end to end.

    Raises:
      ValueError: if the shapes differ.
    """
    if reference.shape != estimate.shape:
        raise ValueError(f"reference {reference.shape} and estimate {estimate.shape} differ in shape")
    reference, estimate = reference.astype(jnp.float32), estimate.astype(jnp.float32)
    energy = jnp.sum(jnp.square(reference), -1, keepdims=True)
    target = jnp.sum(reference * estimate, -1, keepdims=True) / (energy + EPSILON) * reference
    distortion = jnp.sum(jnp.square(estimate - target), -1)
    return 10.0 * jnp.log10((jnp.sum(jnp.square(target), -1) + EPSILON) / (distortion + EPSILON))


def si_sdr_improvement(reference: Array, estimate: Array, mixture: Array) -> Array:
    """`si_sdr` of the estimate less that of the untouched mixture, in dB: three `[..., T]` → `[...]`."""
    return si_sdr(reference, estimate) - si_sdr(reference, mixture)
