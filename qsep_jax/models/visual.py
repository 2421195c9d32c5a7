"""From what a network made of each video frame to one vector for the whole mixture (Slizovskaia et al. 2021, §4.3)."""

from typing import Any, Literal

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import Array


class VisualContext(nn.Module):
    """Features of the frames of all players → one context vector.

    Attributes:
      kind: `max`: adaptive max pooling of each frame's features, then the maximum over all frames; no parameters.
        `lstm`: the last hidden state of an LSTM over the frames, slot by slot, each slot in order of time. As "the
        obtained sequence of vectors" the paper passes the features themselves into it, without that pooling.
      hidden: length of the context.
    """

    kind: Literal["max", "lstm"] = "max"
    hidden: int = 1024
    dtype: jnp.dtype = jnp.dtype("float32")

    @nn.compact
    def __call__(self, features: Array, present: Array) -> Array:
        """`features` `[B, S, n, D]`, `present` `[B, S]`, whether there is anyone in a slot → `[B, hidden]` float32.

        Empty slots count as frames whose features are zero, as in the paper.
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
    """A dense layer on the context: which instruments play, before the softmax, `[B, Z]` → `[B, K]` float32."""

    classes: int
    dtype: jnp.dtype = jnp.dtype("float32")

    @nn.compact
    def __call__(self, context: Array) -> Array:
        logits = nn.Dense(self.classes, dtype=self.dtype, name="classes")(context)
        return logits.astype(jnp.float32)


def adaptive_max_pool(x: Array, size: int) -> Array:
    """Maxima of `size` windows that cover the last axis, `[..., D]` → `[..., size]`.

    Window `i` is `⌊i D / size⌋ … ⌈(i + 1) D / size⌉`, the last one left out, as in PyTorch: D / size neighbours where
    that comes out even, overlapping windows elsewhere.
    """
    count = x.shape[-1]
    if count % size == 0:
        return x.reshape(*x.shape[:-1], size, count // size).max(-1)
    first = np.arange(size) * count // size
    last = -(-np.arange(1, size + 1) * count // size) - 1
    widest = int((last - first).max()) + 1
    window = np.minimum(first[:, None] + np.arange(widest), last[:, None])  # the last one again changes no maximum
    return x[..., window].max(-1)


def _uniform(bound: float) -> Any:
    """U(−bound, bound), what PyTorch begins an LSTM with."""
    symmetric = nn.initializers.uniform(2 * bound)
    return lambda key, shape, dtype=jnp.float32: symmetric(key, shape, dtype) - bound
