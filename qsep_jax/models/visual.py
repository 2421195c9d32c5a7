"""Networks that summarise features of video frames in one context vector (Slizovskaia et al. 2021, §4.3)."""

from typing import Any, Literal

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import Array


class VisualContext(nn.Module):
    """Summarises the features of the frames of all players in one context vector.

    Attributes:
      kind: How features are summarised. `max` applies adaptive max pooling to each frame's features, then the maximum
        over all frames, without parameters. `lstm` is the last hidden state of an LSTM over the frames, slot by slot,
        each slot in order of time; as in the paper ("the obtained sequence of vectors") it reads the features directly,
        without that pooling.
      hidden: Length of the context vector.
      dtype: Compute type; parameters are float32.
    """

    kind: Literal["max", "lstm"] = "max"
    hidden: int = 1024
    dtype: jnp.dtype = jnp.dtype("float32")

    @nn.compact
    def __call__(self, features: Array, present: Array) -> Array:
        """Compute the context `[B, hidden]` float32.

        Args:
          features: features of n frames in each of S slots, `[B, S, n, D]`.
          present: whether a slot has a player, `[B, S]`. As in the paper, the features of empty slots count as zero.
        """
        features = jnp.where(present[..., None, None].astype(bool), features, 0.0).astype(self.dtype)
        frames = features.reshape(features.shape[0], -1, features.shape[-1])
        if self.kind == "max":
            return adaptive_max_pool(frames, self.hidden).max(1).astype(jnp.float32)
        uniform = _uniform(self.hidden**-0.5)
        cell = nn.OptimizedLSTMCell(
            self.hidden, kernel_init=uniform, recurrent_kernel_init=uniform, dtype=self.dtype, name="lstm"
        )
        states: Any = nn.RNN(cell)(frames)
        return states[:, -1].astype(jnp.float32)


class InstrumentLogits(nn.Module):
    """A dense layer that maps the context to the logits of the instruments that play: `[B, Z]` → `[B, K]` float32."""

    classes: int
    dtype: jnp.dtype = jnp.dtype("float32")

    @nn.compact
    def __call__(self, context: Array) -> Array:
        logits = nn.Dense(self.classes, dtype=self.dtype, name="classes")(context)
        return logits.astype(jnp.float32)


def adaptive_max_pool(x: Array, size: int) -> Array:
    """Pool the last axis by the maxima of `size` windows that cover it: `[..., D]` → `[..., size]`.

    As in PyTorch, window `i` reaches from `⌊i D / size⌋` up to but not including `⌈(i + 1) D / size⌉`: windows of
    D / size neighbours if that is an integer, and overlapping windows otherwise.
    """
    count = x.shape[-1]
    if count % size == 0:
        return x.reshape(*x.shape[:-1], size, count // size).max(-1)
    first = np.arange(size) * count // size
    last = -(-np.arange(1, size + 1) * count // size) - 1
    widest = int((last - first).max()) + 1
    window = np.minimum(
        first[:, None] + np.arange(widest), last[:, None]
    )  # repeating the last index does not change the maximum
    return x[..., window].max(-1)


def _uniform(bound: float) -> Any:
    """U(−bound, bound), PyTorch's initialisation of an LSTM."""
    symmetric = nn.initializers.uniform(2 * bound)
    return lambda key, shape, dtype=jnp.float32: symmetric(key, shape, dtype) - bound
