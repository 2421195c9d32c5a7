"""The critic of Stoller et al. 2018: how much a spectrogram sounds like a real source (DCGAN, published code)."""

from operator import itemgetter
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array, lax

from qsep_jax.dsp.per_device import apply_per_device
from qsep_jax.nn.conv import Conv


class Critic(nn.Module):
    """Strided 4×4 convolutions until one axis is as small as `least`, then of the other axis alone; two dense layers.

    No normalisation: it would tie the examples of a batch together, which the gradient penalty takes one by one.

    Attributes:
      channels: of the first convolution; each further one of both axes doubles them.
    """

    channels: int = 32
    hidden: int = 32
    least: int = 4
    dtype: jnp.dtype = jnp.dtype("float32")

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """`[B, N, F]` → `[B]` float32. Both axes are powers of two times `least`."""
        x, features, number = x[..., None].astype(self.dtype), self.channels, 0
        while max(x.shape[1:3]) > self.least:
            halved = [x.shape[axis] > self.least for axis in (1, 2)]
            window, strides = ((4 if each else 2) for each in halved), ((2 if each else 1) for each in halved)
            layer = Conv(features, tuple(window), tuple(strides), dtype=self.dtype, name=f"down_{number}")  # pyright: ignore[reportArgumentType]
            x, number = nn.leaky_relu(layer(x), 0.2), number + 1
            features *= 2 if all(extent > self.least for extent in x.shape[1:3]) else 1
        x = x.reshape(x.shape[0], -1).astype(jnp.float32)
        x = nn.leaky_relu(nn.Dense(self.hidden, name="hidden")(x), 0.2)
        return nn.Dense(1, use_bias=False, name="score")(x)[:, 0]


def init_all(critic: Critic, key: Array, count: int, frames: int, bins: int) -> Any:
    """Parameters of `count` critics, each leaf `[K, …]`."""
    image = jnp.zeros((1, frames, bins))
    return jax.vmap(lambda key: critic.init(key, image)["params"])(jax.random.split(key, count))


def scores(critic: Critic, params: Any, x: Array) -> Array:
    """Each critic's scores of its own spectrograms: `[K, B, N, F]` → `[K, B]`.

    Together on accelerators. On CPU one after the other, where a convolution with a kernel for each critic is eight
    times slower.
    """

    def one(params: Any, x: Array) -> Array:
        return apply_per_device(critic.apply, {"params": params}, x)

    def one_by_one(params: Any, x: Array) -> Array:
        each = [jax.tree.map(itemgetter(k), params) for k in range(x.shape[0])]
        return jnp.stack([one(params, x[k]) for k, params in enumerate(each)])

    if x.shape[0] == 1:
        return one_by_one(params, x)
    return lax.platform_dependent(params, x, cpu=one_by_one, default=jax.vmap(one))
