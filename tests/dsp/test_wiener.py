"""Tests that the Wiener filter equals norbert in double precision and that its sources sum to the mixture."""

import warnings
from functools import partial

import jax
import numpy as np
import pytest

from qsep_jax.dsp import wiener as wiener_module
from qsep_jax.dsp.wiener import EPSILON, NOISE, wiener

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # norbert imports from a deprecated namespace of SciPy
    import norbert

filtered = jax.jit(wiener, static_argnames="iterations")


def spectrograms(channels: int, peak: float, kind: str = "reverberant", seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Mixtures under soft masks `[3, 20, 9, C]`, and the mixture `[20, 9, C]`."""
    rng = np.random.default_rng(seed)
    sources = rng.standard_normal((3, 20, 9, channels)) + 1j * rng.standard_normal((3, 20, 9, channels))
    if kind != "reverberant":
        gains = rng.uniform(0.2, 1.0, (3, 1, 1, channels)) if kind == "panned" else np.ones(channels)
        sources = sources[..., :1] * gains
    sources *= rng.lognormal(0.0, 1.5, (3, 20, 9, 1))
    sources *= peak / np.abs(sources.sum(0)).max()
    energy = np.square(np.abs(sources))
    mixture = sources.sum(0)
    return ((0.1 + 0.7 * energy / energy.sum(0)) * mixture).astype(np.complex64), mixture.astype(np.complex64)


def close(actual: jax.Array, expected: np.ndarray, tolerance: float) -> None:
    assert actual.dtype == np.complex64
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * np.abs(expected).max())


@pytest.mark.parametrize("iterations", [1, 2])
@pytest.mark.parametrize("kind", ["reverberant", "panned", "equal"])
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_equals_norbert(channels, kind, iterations):
    estimates, mixture = spectrograms(channels, 9.0, kind)  # quiet enough not to be scaled
    sources = np.moveaxis(estimates, 0, -1).astype(np.complex128)
    expected, _, _ = norbert.expectation_maximization(sources, mixture.astype(np.complex128), iterations, eps=EPSILON)
    close(filtered(estimates, mixture, iterations), np.moveaxis(expected, -1, 0), 1e-4)


@pytest.mark.parametrize("peak", [0.1, 300.0])
@pytest.mark.parametrize("channels", [1, 2])
def test_equals_norbert_at_any_level(channels, peak):
    estimates, mixture = spectrograms(channels, peak)
    magnitudes = np.moveaxis(np.abs(estimates), 0, -1).astype(np.float64)
    expected = norbert.wiener(magnitudes, mixture.astype(np.complex128), 2, use_softmask=False, eps=EPSILON)
    close(filtered(estimates, mixture, 2), np.moveaxis(expected, -1, 0), 1e-4)  # for 1 channel norbert adds ε once more


@pytest.mark.parametrize("iterations", [1, 3])
@pytest.mark.parametrize("channels", [1, 2, 4])
def test_sources_add_up_to_the_mixture(channels, iterations):
    estimates, mixture = spectrograms(channels, 300.0)
    estimates *= np.array([0.5, 1.0, 2.0], np.float32)[:, None, None, None]
    assert np.abs(estimates.sum(0) - mixture).max() > 50.0
    close(filtered(estimates, mixture, iterations).sum(0), mixture, 0.02)


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_a_single_source_is_the_mixture(channels):
    _, mixture = spectrograms(channels, 300.0)
    close(filtered(0.5 * mixture[None], mixture, 2), mixture[None], 0.005)


def test_separates_hard_panned_sources():
    rng = np.random.default_rng(0)
    mixture = (rng.standard_normal((50, 4, 2)) + 1j * rng.standard_normal((50, 4, 2))).astype(np.complex64)
    sources = np.eye(2, dtype=np.float32)[:, None, None] * mixture
    estimates = 0.8 * sources + 0.1 * mixture
    before, after = (np.square(np.abs(y - sources)).sum() for y in (estimates, filtered(estimates, mixture, 3)))
    assert after < 0.05 * before


def test_zero_iterations_return_the_estimates():
    estimates, mixture = spectrograms(2, 300.0)
    np.testing.assert_array_equal(filtered(estimates, mixture, 0), estimates)


def test_silence_stays_silent():
    estimates, mixture = spectrograms(2, 300.0)
    estimates[:, 5:8] = mixture[5:8] = 0  # silent frames
    estimates[:, :, 3] = mixture[:, 3] = 0  # a silent bin
    estimates[1] = 0  # a silent source
    sources = np.asarray(filtered(estimates, mixture, 3))
    assert np.isfinite(sources).all()
    assert not sources[:, 5:8].any()
    assert not sources[:, :, 3].any()
    assert not sources[1].any()
    assert not np.asarray(filtered(0 * estimates, 0 * mixture, 3)).any()


@pytest.mark.parametrize("channels", [2, 3])
def test_far_too_loud_estimates_still_sum_to_the_mixture(channels):
    estimates, mixture = spectrograms(channels, 10.0, "equal")
    sources = filtered(1000 * estimates, mixture, 1)
    close(sources.sum(0), mixture, 0.01)


def test_a_covariance_made_indefinite_by_rounding_has_a_bounded_solution():
    covariance = np.array([[1.0, 1.0], [1.0, 1.0 - 2 * NOISE]], np.complex64)  # its second pivot plus NOISE is zero
    solution = wiener_module._solve(covariance, np.array([1.0, -1.0], np.complex64))
    assert np.abs(solution).max() < 3.0 / NOISE


def test_maps_over_a_batch():
    batch = [spectrograms(2, peak, seed=seed) for seed, peak in enumerate((1.0, 30.0, 900.0))]
    estimates, mixtures = (np.stack(arrays) for arrays in zip(*batch, strict=True))
    mapped = jax.jit(jax.vmap(partial(wiener, iterations=2)))(estimates, mixtures)
    for i in range(len(batch)):
        close(mapped[i], np.asarray(filtered(estimates[i], mixtures[i], 2)), 1e-5)


def test_refuses():
    estimates, mixture = spectrograms(2, 1.0)
    with pytest.raises(ValueError, match="0 or more iterations, not -1"):
        wiener(estimates, mixture, -1)
    with pytest.raises(ValueError, match=r"not \(3, 20, 9, 2\) and \(20, 9, 1\)"):
        wiener(estimates, mixture[..., :1], 1)
