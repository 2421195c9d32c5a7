"""Multichannel Wiener filter, which refines estimates so that their sum is close to the mixture.

It assumes the local Gaussian model: in frame `n` and bin `f`, source `s` is Gaussian with covariance
`v_s(n, f) R_s(f)`, the product of a power and of a spatial covariance `[C, C]` that is constant over time. Scheme and
constants agree with norbert 0.2.1.
"""

import jax
import jax.numpy as jnp
from jax import Array

EPSILON = 2.0**-23  # the machine epsilon of float32
NOISE = EPSILON**0.5  # variance of white noise in the model of the mixture, which makes its covariance invertible
PEAK = 10.0  # mixtures with a larger peak magnitude are scaled down to it before they are filtered


def wiener(estimates: Array, mixture: Array, iterations: int) -> Array:
    """Filter a mixture into sources `y_s = v_s R_s (Σ_r v_r R_r + √ε I)⁻¹ x`.

    Each iteration computes `v_s = |y_s|² / C` and `R_s = Σ_n y_s y_sᴴ / (ε + Σ_n v_s)` from the sources of the previous
    one: expectation maximization of the local Gaussian model (Duong et al. 2010), weighted by power (Nugraha et al.
    2016). `R` and the scale are computed over all frames, so filtering a signal in parts gives another result than
    filtering it in one piece.

    Args:
      estimates: complex64 `[S, N, F, C]`, such as masked mixtures.
      mixture: complex64 `[N, F, C]`, with any number of channels.
      iterations: number of iterations, static; 0 returns the estimates.

    Returns:
      The sources, complex64 `[S, N, F, C]`, in the unit of the mixture. They sum to the mixture except for the noise.

    Raises:
      ValueError: if `iterations` is negative, or if the shapes of estimates and mixture do not match.
    """
    if iterations < 0:
        raise ValueError(f"the Wiener filter needs 0 or more iterations, not {iterations}")
    if mixture.ndim != 3 or estimates.shape[1:] != mixture.shape:
        raise ValueError(
            f"the Wiener filter needs estimates [S, N, F, C] and a mixture [N, F, C], not {estimates.shape} and "
            f"{mixture.shape}"
        )
    if iterations == 0:
        return estimates
    scale = jnp.maximum(jnp.abs(mixture).max() / PEAK, 1.0)
    mixture = mixture / scale
    return scale * jax.lax.fori_loop(0, iterations, lambda _, sources: _filter(sources, mixture), estimates / scale)


def _filter(sources: Array, mixture: Array) -> Array:
    """Do one iteration: fit the model to the sources, then return their posterior mean given the mixture."""
    power = (jnp.square(sources.real) + jnp.square(sources.imag)).mean(-1)
    # Departs from the paper: covariance and power are computed from the estimates alone, without the posterior
    # covariance given the mixture. norbert does the same.
    spatial = jnp.einsum("snfc,snfd->sfcd", sources, sources.conj(), precision="highest")
    spatial = spatial / (EPSILON + power.sum(1))[..., None, None]
    covariance = jnp.einsum("snf,sfcd->nfcd", power, spatial, precision="highest")
    weights = _solve(covariance, mixture)
    return power[..., None] * jnp.einsum("sfcd,nfd->snfc", spatial, weights, precision="highest")


def _solve(covariance: Array, vector: Array) -> Array:
    """Compute `(covariance + NOISE · I)⁻¹ vector` of `[..., C, C]` and `[..., C]` by Gaussian elimination.

    The noise is added to each pivot when its row is eliminated; except for rounding, no pivot is then below the noise.
    Added to the covariance of a loud cell beforehand, it would be lost in float32; and where channels are equal, a
    closed form would be off by a hundredth.
    """
    channels = vector.shape[-1]
    rows = [jnp.concatenate([covariance[..., c, :], vector[..., c : c + 1]], -1) for c in range(channels)]
    for k in range(channels):
        rows[k] = rows[k] / (jnp.maximum(rows[k][..., k : k + 1].real, 0.0) + NOISE)
        for i in range(k + 1, channels):
            rows[i] = rows[i] - rows[i][..., k : k + 1] * rows[k]
    solution = rows[-1][..., -1:]
    for k in reversed(range(channels - 1)):
        known = (rows[k][..., k + 1 : -1] * solution).sum(-1, keepdims=True)
        solution = jnp.concatenate([rows[k][..., -1:] - known, solution], -1)
    return solution
