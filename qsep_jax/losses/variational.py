"""The terms of a conditional variational autoencoder with latent regression (Zhu et al. 2017; Lee et al. 2019)."""

import jax
import jax.numpy as jnp
from jax import Array


def sample_normal(key: Array, mean: Array, log_variance: Array) -> Array:
    """A reparameterised draw `μ + σ·ε`, ε ~ N(0, I), of the shape of `mean`."""
    return mean + jnp.exp(0.5 * log_variance) * jax.random.normal(key, mean.shape, mean.dtype)


def kl_to_standard_normal(mean: Array, log_variance: Array) -> Array:
    """`KL(N(μ, σ²) ‖ N(0, I))`, summed over the latent `[..., Z]` and averaged over the batch (Lee Eq. 4).

    BicycleGAN's code sums over its batch of one as well; per example that is the same number.
    """
    divergence = -0.5 * (1.0 + log_variance - jnp.square(mean) - jnp.exp(log_variance))
    return divergence.sum(-1).mean()
