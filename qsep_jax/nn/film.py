"""Layers that condition feature maps on a vector: adaptive instance normalisation and FiLM."""

import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from qsep_jax.nn.norms import instance_norm


class AdaIN(nn.Module):
    """Instance normalisation with scale and bias that are linear in a latent: `y_s · (x − μ)/σ + y_b`.

    `y_s = W_s z` and `y_b = W_b z`; the linear maps have no bias, and the scale has no "1 +" (Lee et al. 2019, Eq. 1).
    """

    dtype: jnp.dtype = jnp.dtype("float32")

    @nn.compact
    def __call__(self, x: Array, latent: Array) -> Array:
        """Condition `x` `[B, H, W, C]` on `latent` `[B, Z]`: `[B, H, W, C]`."""
        features = x.shape[-1]
        scale = nn.Dense(features, use_bias=False, dtype=self.dtype, name="scale")(latent)
        bias = nn.Dense(features, use_bias=False, dtype=self.dtype, name="bias")(latent)
        return instance_norm(x) * scale[:, None, None, :] + bias[:, None, None, :]


class FiLM(nn.Module):
    """`γ · x + β` with γ and β linear in a vector, one pair for every channel and frequency bin, constant over time.

    The scale has no "1 +". Perez et al. 2018; one pair per bin as in the code of Lin et al. 2021.
    """

    dtype: jnp.dtype = jnp.dtype("float32")

    @nn.compact
    def __call__(self, x: Array, condition: Array) -> Array:
        """Condition `x` `[B, N, F, C]` on `condition` `[B, Z]`: `[B, N, F, C]`."""
        bins, channels = x.shape[2:]

        def linear(name: str) -> Array:
            dense = nn.Dense(bins * channels, dtype=self.dtype, kernel_init=nn.initializers.xavier_uniform(), name=name)
            return dense(condition).reshape(-1, 1, bins, channels)

        return x * linear("scale") + linear("bias")


class ChannelFiLM(nn.Module):
    """`(1 + γ) · x + β` with γ and β linear in a vector, one pair for every channel, equal at all pixels.

    Perez et al. 2018. Departs from the paper: Eq. 9 of Slizovskaia et al. 2021 has no "1 +", but their code has it, and
    a bias that is initialised to 0.1.

    Attributes:
      offset: Constant that is added to γ; 0 gives Eq. 9.
      dtype: Compute type; parameters are float32.
    """

    offset: float = 1.0
    dtype: jnp.dtype = jnp.dtype("float32")

    @nn.compact
    def __call__(self, x: Array, condition: Array) -> Array:
        """Condition `x` `[B, H, W, C]` on `condition` `[B, Z]`: `[B, H, W, C]`."""
        dense = nn.Dense(
            2 * x.shape[-1],
            dtype=self.dtype,
            kernel_init=nn.initializers.xavier_uniform(),
            bias_init=nn.initializers.constant(0.1),
            name="linear",
        )
        scale, bias = jnp.split(dense(condition)[:, None, None, :], 2, axis=-1)
        return (self.offset + scale) * x + bias
