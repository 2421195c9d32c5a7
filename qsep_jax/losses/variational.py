"""Loss terms of a conditional variational autoencoder with latent regression (Zhu et al. 2017; Lee et al. 2019)."""

import jax
import jax.numpy as jnp
from jax import Array


def sample_normal(key: Array, mean: Array, log_variance: Array) -> Array:
    """Draw a reparameterised sample `μ + σ·ε`, ε ~ N(0, I), in the shape of `mean`."""
    return mean + jnp.exp(0.5 * log_variance) * jax.random.normal(key, mean.shape, mean.dtype)


def kl_to_standard_normal(mean: Array, log_variance: Array) -> Array:
    """Compute `KL(N(μ, σ²) ‖ N(0, I))`, summed over the latent `[..., Z]` and averaged over the batch (Lee, Eq. 4).

    BicycleGAN's code also sums over its batch, which has one example, so the values per example agree.
    """
    divergence = -0.5 * (1.0 + log_variance - jnp.square(mean) - jnp.exp(log_variance))
    return divergence.sum(-1).mean()
