"""Conditioning of feature maps by a vector: adaptive instance normalisation."""

import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from qsep_jax.nn.norms import instance_norm


class AdaIN(nn.Module):
    """Instance normalisation whose scale and bias are linear in a latent: `y_s · (x − μ)/σ + y_b`.

    `y_s = W_s z`, `y_b = W_b z`, both without bias of their own and without "1 +" on the scale
    (Lee et al. 2019, Eq. 1).
    """

    dtype: jnp.dtype = jnp.dtype("float32")

    @nn.compact
    def __call__(self, x: Array, latent: Array) -> Array:
        """`x` `[B, H, W, C]`, `latent` `[B, Z]` → `[B, H, W, C]`."""
        features = x.shape[-1]
        scale = nn.Dense(features, use_bias=False, dtype=self.dtype, name="scale")(latent)
        bias = nn.Dense(features, use_bias=False, dtype=self.dtype, name="bias")(latent)
        return instance_norm(x) * scale[:, None, None, :] + bias[:, None, None, :]
