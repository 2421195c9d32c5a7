"""Query-net, which maps an audio example to mean and log-variance of a latent (Lee et al. 2019, §3.1 and §4.2)."""

from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from qsep_jax.nn.conv import Conv
from qsep_jax.nn.norms import instance_norm


class QueryNet(nn.Module):
    """Strided convolutions with instance norm and ReLU, a GRU over their stacked maps, and two linear heads.

    Every convolution halves frequency and every second one halves time. The heads read the last state of the GRU.

    Attributes:
      channels: Output channels of the convolutions.
      hidden: Size of the GRU's state.
      latent_size: Size Z of the latent.
      initial_log_variance: Initial bias of the head of the log-variance.
      dtype: Compute type; parameters are float32.
    """

    channels: tuple[int, ...] = (32, 32, 64, 64, 128, 128)
    hidden: int = 128
    latent_size: int = 32
    initial_log_variance: float = 0.0
    dtype: jnp.dtype = jnp.dtype("float32")

    @nn.compact
    def __call__(self, magnitude: Array) -> tuple[Array, Array]:
        """Map magnitudes `[B, N, F]` to mean and log-variance, each `[B, Z]` float32."""
        x = magnitude[..., None]
        for layer, features in enumerate(self.channels):
            strides = (1 if layer % 2 == 0 else 2, 2)
            # A bias before a normalisation would cancel, and Adam would amplify the noise of its gradient.
            x = Conv(features, (4, 4), strides, use_bias=False, dtype=self.dtype, name=f"conv_{layer}")(x)
            x = nn.relu(instance_norm(x))
        x = x.swapaxes(2, 3).reshape(*x.shape[:2], -1)  # [B, N', C·F'], frequency innermost
        states: Any = nn.RNN(nn.GRUCell(self.hidden, dtype=self.dtype, name="gru"))(x)
        state = states[:, -1]

        mean = nn.Dense(self.latent_size, dtype=self.dtype, name="mean")(state)
        start = nn.initializers.constant(self.initial_log_variance)
        log_variance = nn.Dense(self.latent_size, dtype=self.dtype, bias_init=start, name="log_variance")(state)
        return mean.astype(jnp.float32), log_variance.astype(jnp.float32)
