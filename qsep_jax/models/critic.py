"""The critic of Stoller et al. 2018, which scores whether a spectrogram is a real source (DCGAN, published code)."""

from operator import itemgetter
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array, lax

from qsep_jax.dsp.per_device import apply_per_device
from qsep_jax.nn.conv import Conv


class Critic(nn.Module):
    """Strided 4×4 convolutions, then two dense layers.

    Convolutions halve both axes until one axis has the size `least`, then only the other axis. There is no
    normalisation, because it would make the examples of a batch depend on each other, while the gradient penalty treats
    them independently.

    Attributes:
      channels: Output channels of the first convolution; each further convolution that halves both axes doubles them.
      hidden: Features of the first dense layer.
      least: Size at which an axis is no longer halved.
      dtype: Compute type; parameters are float32.
    """

    channels: int = 32
    hidden: int = 32
    least: int = 4
    dtype: jnp.dtype = jnp.dtype("float32")

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Score spectrograms `[B, N, F]`: `[B]` float32. Both axes must be powers of two times `least`."""
        x, features, number = x[..., None].astype(self.dtype), self.channels, 0
        while max(x.shape[1:3]) > self.least:
            halved = [x.shape[axis] > self.least for axis in (1, 2)]
            window, strides = ((4 if halves else 2) for halves in halved), ((2 if halves else 1) for halves in halved)
            layer = Conv(features, tuple(window), tuple(strides), dtype=self.dtype, name=f"down_{number}")  # pyright: ignore[reportArgumentType]
            x, number = nn.leaky_relu(layer(x), 0.2), number + 1
            features *= 2 if all(extent > self.least for extent in x.shape[1:3]) else 1
        x = x.reshape(x.shape[0], -1).astype(jnp.float32)
        x = nn.leaky_relu(nn.Dense(self.hidden, name="hidden")(x), 0.2)
        return nn.Dense(1, use_bias=False, name="score")(x)[:, 0]


def init_all(critic: Critic, key: Array, count: int, frames: int, bins: int) -> Any:
    """Initialise the parameters of `count` critics, stacked along the first axis of each leaf."""
    image = jnp.zeros((1, frames, bins))
    return jax.vmap(lambda key: critic.init(key, image)["params"])(jax.random.split(key, count))


def scores(critic: Critic, params: Any, x: Array) -> Array:
    """Score the spectrograms of each source by its own critic: `[S, B, N, F]` → `[S, B]`.

    On accelerators all critics are computed together. On CPU they are computed in sequence, because a convolution with
    a different kernel for each critic is eight times slower there.
    """

    def score(params: Any, x: Array) -> Array:
        return apply_per_device(critic.apply, {"params": params}, x)

    def in_sequence(params: Any, x: Array) -> Array:
        separate = [jax.tree.map(itemgetter(source), params) for source in range(x.shape[0])]
        return jnp.stack([score(params, x[source]) for source, params in enumerate(separate)])

    if x.shape[0] == 1:
        return in_sequence(params, x)
    return lax.platform_dependent(params, x, cpu=in_sequence, default=jax.vmap(score))
