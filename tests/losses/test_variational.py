"""Tests of the KL divergence against quadrature and of the moments of reparameterised samples."""

import jax
import numpy as np
import pytest
from scipy import integrate, stats

from qsep_jax.losses.variational import kl_to_standard_normal, sample_normal


def test_kl_is_zero_at_the_prior_and_only_there():
    assert kl_to_standard_normal(np.zeros((3, 4)), np.zeros((3, 4))) == 0.0
    for mean, log_variance in [(0.1, 0.0), (0.0, 0.1), (0.0, -0.1), (-2.0, 3.0)]:
        assert kl_to_standard_normal(np.full((3, 4), mean), np.full((3, 4), log_variance)) > 0.0


def test_kl_is_the_integral_summed_over_the_latent_and_averaged_over_the_batch():
    mean = np.array([[0.3, -1.2], [2.0, 0.0], [0.5, 0.5]])
    log_variance = np.array([[0.5, -2.0], [0.0, 1.0], [-0.3, 0.2]])

    def divergence(mean: float, log_variance: float) -> float:
        posterior, prior = stats.norm(mean, np.exp(log_variance / 2)), stats.norm()
        low, high = mean - 10 * posterior.std(), mean + 10 * posterior.std()
        return integrate.quad(lambda z: posterior.pdf(z) * (posterior.logpdf(z) - prior.logpdf(z)), low, high)[0]

    expected = np.vectorize(divergence)(mean, log_variance).sum(axis=1).mean()
    assert float(kl_to_standard_normal(mean, log_variance)) == pytest.approx(expected, rel=1e-5)


def test_samples_have_the_requested_moments():
    mean = np.broadcast_to(np.array([0.0, 3.0, -1.0], np.float32), (20_000, 3))
    log_variance = np.broadcast_to(np.log(np.array([1.0, 0.25, 4.0], np.float32)), mean.shape)
    samples = np.asarray(sample_normal(jax.random.key(0), mean, log_variance))
    deviation = np.array([1.0, 0.5, 2.0])
    np.testing.assert_allclose(samples.mean(0), [0.0, 3.0, -1.0], atol=0.04)
    np.testing.assert_allclose(samples.std(0), deviation, rtol=0.03)
    # The samples are normal, and independent between dimensions.
    assert stats.kstest((samples[:, 2] + 1) / 2, "norm").pvalue > 1e-3
    assert np.abs(np.corrcoef(samples.T) - np.eye(3)).max() < 0.04


def test_gradient_reaches_mean_and_variance():
    mean, log_variance = np.zeros(5, np.float32), np.zeros(5, np.float32)
    pull = jax.grad(lambda mean, log_variance: sample_normal(jax.random.key(0), mean, log_variance).sum(), (0, 1))
    to_mean, to_variance = pull(mean, log_variance)
    np.testing.assert_allclose(to_mean, 1.0)
    np.testing.assert_allclose(to_variance, 0.5 * sample_normal(jax.random.key(0), mean, log_variance), rtol=1e-6)
