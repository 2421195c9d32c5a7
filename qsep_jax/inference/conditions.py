"""Conditions from audio, from class means, and in between (Lee et al. 2019, §3.3 and §4.4 to 4.6).

A condition is a tree of `[1, …]`, so everything here is a map over trees.
"""

import itertools
import warnings
from collections.abc import Callable, Iterable, Iterator
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from qsep_jax.inference.model import Model
from qsep_jax.inference.separation import separate_blocks
from qsep_jax.nn import xla
from qsep_jax.systems.base import Condition, System, Variables

# Root mean square below which a window of a query counts as silent (-80 dB re full scale).
SILENCE = 1e-4
BATCH = 8
# A mixture at the model's rate: gives its blocks `[n, C]` from the beginning at each call.
Mixture = Callable[[], Iterable[np.ndarray]]


def windows(blocks: Iterable[np.ndarray], samples: int, name: str = "the query") -> Iterator[np.ndarray]:
    """The sounding windows of a signal in blocks `[n, C]`, mixed down: each `[samples, 1]`; the last reaches back.

    Audio shorter than a window is padded with zeros, with a warning.

    Raises:
      ValueError: if nothing of it is louder than -80 dB re full scale.
    """
    held, heard, length = np.zeros((0, 1), np.float32), False, 0
    last = held  # the `samples` before `held`
    for block in blocks:
        length += len(block)
        held = np.concatenate([held, block.mean(axis=1, keepdims=True, dtype=np.float32)])
        while len(held) >= samples:
            last, held = held[:samples], held[samples:]
            if is_loud(last):
                heard = True
                yield last
    if length < samples:
        warnings.warn(f"{name} has {length} samples, fewer than a window of {samples}: padded with zeros", stacklevel=2)
        held = np.pad(held, ((0, samples - length), (0, 0)))
    elif len(held):
        held = np.concatenate([last, held])[-samples:]
    if len(held) and is_loud(held):
        heard = True
        yield held
    if not heard:
        raise ValueError(f"{name} is silent: give one in which the source can be heard")


def is_loud(audio: np.ndarray) -> bool:
    return bool(np.sqrt(np.square(audio).mean()) > SILENCE)


@partial(xla.jit, static_argnums=0)
def _encode(system: System, variables: Variables, queries: Array) -> Condition:
    return system.condition(variables, {"query": queries})


def encode_all(model: Model, cut: Iterable[np.ndarray]) -> Iterator[Condition]:
    """One condition for each window `[query_samples, 1]`."""
    cut = iter(cut)
    while group := list(itertools.islice(cut, BATCH)):
        filled = np.stack(group + group[:1] * (BATCH - len(group)))  # one compiled shape
        together = jax.device_get(_encode(model.system, model.variables, filled))
        for row in range(len(group)):
            yield jax.tree.map(lambda leaf, row=row: leaf[row : row + 1], together)


def encode(model: Model, audio: np.ndarray, name: str = "the query") -> Condition:
    """The condition of a query `[T, C]` at the model's rate: the mean over its windows, a tree of `[1, …]`."""
    return encode_blocks(model, [audio], name)


def encode_blocks(model: Model, blocks: Iterable[np.ndarray], name: str = "the query") -> Condition:
    """The condition of a query that comes in blocks `[n, C]` at the model's rate."""
    return mean(list(encode_all(model, windows(blocks, model.system.query_samples, name))))


def mean(conditions: list[Condition]) -> Condition:
    """The mean of several conditions."""
    return jax.tree.map(lambda *leaves: sum(leaves[1:], leaves[0]) / len(leaves), *conditions)


def slerp(first: Condition, second: Condition, alpha: float) -> Condition:
    """Spherical interpolation from `first` (α = 0) to `second` (α = 1), leaf by leaf (Eq. 7).

    Straight interpolation where the angle between them is so near 0 or 180° that the formula divides by zero.
    """

    def between(a: Array, b: Array) -> Array:
        cosine = jnp.sum(a * b) / jnp.maximum(jnp.linalg.norm(a) * jnp.linalg.norm(b), 1e-12)
        angle = jnp.arccos(jnp.clip(cosine, -1.0, 1.0))
        sine = jnp.sin(angle)
        safe = jnp.where(sine > 1e-4, sine, 1.0)
        curved = (jnp.sin((1 - alpha) * angle) * a + jnp.sin(alpha * angle) * b) / safe
        return jnp.where(sine > 1e-4, curved, (1 - alpha) * a + alpha * b)

    return jax.tree.map(between, first, second)


def cosine_distance(first: Condition, second: Condition) -> float:
    """`1 − cos` of the angle between two conditions, all leaves taken together (§4.5)."""
    a, b = (np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)]) for tree in (first, second))
    return float(1.0 - np.dot(a, b) / max(float(np.linalg.norm(a) * np.linalg.norm(b)), 1e-12))


def iterate(model: Model, mixture: Mixture, channels: int, condition: Condition, iterations: int) -> Condition:
    """Separate, encode the estimate, and again: the condition after `iterations` rounds (§4.6).

    Args:
      mixture: gives the blocks `[n, channels]` of the mixture at the model's rate, from its beginning at each call.
    """
    for _ in range(iterations):
        estimates = separate_blocks(model, mixture(), channels, [condition])
        condition = encode_blocks(model, (stems[0] for stems in estimates), "the estimate")
    return condition
