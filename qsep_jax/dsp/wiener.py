"""Multichannel Wiener filter: estimates of the sources are refined until they share out the mixture between them.

Local Gaussian model: in frame `n` and bin `f`, source `s` is Gaussian with covariance `v_s(n, f) R_s(f)`, a power times
a spatial covariance `[C, C]` that stays the same over time. Scheme and constants agree with norbert 0.2.1.
"""

import jax
import jax.numpy as jnp
from jax import Array

EPSILON = 2.0**-23  # of float32
NOISE = EPSILON**0.5  # white noise in the model of the mixture: makes its covariance invertible
PEAK = 10.0  # largest magnitude of the mixture that is filtered as it is; what is louder is scaled down first


def wiener(estimates: Array, mixture: Array, iterations: int) -> Array:
    """Sources `y_s = v_s R_s (Σ_r v_r R_r + √ε I)⁻¹ x`, where `v` and `R` are those of the iteration before.

    `v_s = |y_s|² / C` and `R_s = Σ_n y_s y_sᴴ / (ε + Σ_n v_s)`, expectation maximization of the local Gaussian model
    (Duong et al. 2010) weighted by power (Nugraha et al. 2016). `R` and the scale come from all frames given: the parts
    of a signal filtered one by one differ from the whole.

    Args:
      estimates: complex64 `[S, N, F, C]`, such as masked mixtures.
      mixture: complex64 `[N, F, C]`, any number of channels.
      iterations: static; 0 returns the estimates.

    Returns:
      Complex64 `[S, N, F, C]`, in the unit of the mixture. The sources add up to it but for the noise.

    Raises:
      ValueError: if `iterations` is negative or the shapes do not go together.
    """
    if iterations < 0:
        raise ValueError(f"the Wiener filter takes 0 iterations or more, not {iterations}")
    if mixture.ndim != 3 or estimates.shape[1:] != mixture.shape:
        raise ValueError(
            f"the Wiener filter takes estimates [S, N, F, C] of a mixture [N, F, C], not {estimates.shape} of "
            f"{mixture.shape}"
        )
    if iterations == 0:
        return estimates
    scale = jnp.maximum(jnp.abs(mixture).max() / PEAK, 1.0)
    mixture = mixture / scale
    return scale * jax.lax.fori_loop(0, iterations, lambda _, sources: _filter(sources, mixture), estimates / scale)


def _filter(sources: Array, mixture: Array) -> Array:
    """One iteration: the model of the sources, then the mean of each given the mixture."""
    power = (jnp.square(sources.real) + jnp.square(sources.imag)).mean(-1)
    # Departs from the paper: covariance and power are those of the estimates alone, without the covariance that is left
    # once the mixture is known. So does norbert.
    spatial = jnp.einsum("snfc,snfd->sfcd", sources, sources.conj(), precision="highest")
    spatial = spatial / (EPSILON + power.sum(1))[..., None, None]
    covariance = jnp.einsum("snf,sfcd->nfcd", power, spatial, precision="highest")
    weights = _solve(covariance, mixture)
    return power[..., None] * jnp.einsum("sfcd,nfd->snfc", spatial, weights, precision="highest")


def _solve(covariance: Array, vector: Array) -> Array:
    """`(covariance + NOISE · I)⁻¹ vector` of `[..., C, C]` and `[..., C]`, by elimination: elementwise in `...`.

    The noise joins each pivot when its turn comes; but for rounding, no pivot is below it. Added to the covariance of a
    loud cell it would be lost in float32, and where channels are equal a closed form would be off by a hundredth.
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
