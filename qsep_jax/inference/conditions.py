"""Conditions of queries: encoding, mean, interpolation, iteration (Lee et al. 2019, sections 3.3 and 4.4 to 4.6).

A condition is a tree of `[1, …]`; all functions work leaf by leaf.
"""

import itertools
import warnings
from collections.abc import Callable, Iterable, Iterator
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from qsep_jax.inference.chunks import plan_of
from qsep_jax.inference.model import Model
from qsep_jax.inference.separation import ConditionAt, separate_blocks
from qsep_jax.nn import xla
from qsep_jax.systems.base import Condition, System, Variables

# Root mean square below which a window of a query counts as silent (-80 dB re full scale).
SILENCE = 1e-4
# Windows that are encoded together.
BATCH = 8
# Returns the blocks `[n, C]` of a mixture at the model's sample rate, from its beginning at each call.
Mixture = Callable[[], Iterable[np.ndarray]]


def windows(blocks: Iterable[np.ndarray], samples: int, name: str = "the query") -> Iterator[np.ndarray]:
    """Yield the windows `[samples, 1]` of a signal in blocks `[n, C]`, mixed down, that are not silent.

    Windows do not overlap, except for the last one, which ends with the signal. A signal shorter than a window is
    padded with zeros, with a warning.

    Raises:
      ValueError: if all windows are silent (-80 dB re full scale or less).
    """
    rest = np.zeros((0, 1), np.float32)  # samples after the last complete window
    window = rest
    all_silent, length = True, 0
    for block in blocks:
        length += len(block)
        rest = np.concatenate([rest, block.mean(axis=1, keepdims=True, dtype=np.float32)])
        while len(rest) >= samples:
            window, rest = rest[:samples], rest[samples:]
            if is_loud(window):
                all_silent = False
                yield window
    if length < samples:
        warnings.warn(f"{name} has {length} samples, fewer than a window of {samples}: padded with zeros", stacklevel=2)
        rest = np.pad(rest, ((0, samples - length), (0, 0)))
    elif len(rest):
        rest = np.concatenate([window, rest])[-samples:]
    if len(rest) and is_loud(rest):
        all_silent = False
        yield rest
    if all_silent:
        raise ValueError(f"{name} is silent: give a recording in which the source plays")


def is_loud(audio: np.ndarray) -> bool:
    """Whether the root mean square is above `SILENCE`."""
    return bool(np.sqrt(np.square(audio).mean()) > SILENCE)


@partial(xla.jit, static_argnums=0)
def _encode(system: System, variables: Variables, queries: Array) -> Condition:
    return system.condition(variables, {"query": queries})


def encode_windows(model: Model, query_windows: Iterable[np.ndarray]) -> Iterator[Condition]:
    """Yield the condition of each window `[query_samples, 1]`."""
    remaining = iter(query_windows)
    while group := list(itertools.islice(remaining, BATCH)):
        batch = np.stack(group + group[:1] * (BATCH - len(group)))  # filled up, so that one shape is compiled
        conditions = jax.device_get(_encode(model.system, model.variables, batch))
        for row in range(len(group)):
            yield jax.tree.map(lambda leaf, row=row: leaf[row : row + 1], conditions)


def encode(model: Model, audio: np.ndarray, name: str = "the query") -> Condition:
    """The condition of a query `[T, C]` at the model's sample rate: the mean over its windows, a tree of `[1, …]`."""
    return encode_blocks(model, [audio], name)


def encode_blocks(model: Model, blocks: Iterable[np.ndarray], name: str = "the query") -> Condition:
    """The condition of a query in blocks `[n, C]` at the model's sample rate."""
    return mean(list(encode_windows(model, windows(blocks, model.system.query_samples, name))))


def encode_chunks(model: Model, audio: np.ndarray, silent: Condition) -> ConditionAt:
    """The conditions of the chunks of a mixture, each from the part of a query that is simultaneous with the chunk.

    Args:
      audio: The query `[T, C]` at the model's sample rate, as long as the mixture.
      silent: The condition of a chunk in which the query is silent.
    """
    samples, starts = model.system.query_samples, plan_of(model.system).starts(len(audio))
    mono = audio.mean(axis=1, keepdims=True, dtype=np.float32)
    before, after = max(-starts[0], 0), max(starts[-1] + samples - len(mono), 0)
    padded = np.pad(mono, ((before, after), (0, 0)))
    parts = {start: padded[start + before :][:samples] for start in starts}
    loud = {start: part for start, part in parts.items() if is_loud(part)}
    conditions = dict(zip(loud, encode_windows(model, loud.values()), strict=True))
    return lambda start: conditions.get(start, silent)


def mean(conditions: list[Condition]) -> Condition:
    """The mean of several conditions."""
    return jax.tree.map(lambda *leaves: sum(leaves[1:], leaves[0]) / len(leaves), *conditions)


def slerp(first: Condition, second: Condition, alpha: float) -> Condition:
    """Interpolate spherically from `first` (α = 0) to `second` (α = 1), leaf by leaf (Eq. 7).

    The interpolation is linear where the angle between them is so near 0 or 180° that the formula divides by zero.
    """

    def interpolated(a: Array, b: Array) -> Array:
        cosine = jnp.sum(a * b) / jnp.maximum(jnp.linalg.norm(a) * jnp.linalg.norm(b), 1e-12)
        angle = jnp.arccos(jnp.clip(cosine, -1.0, 1.0))
        sine = jnp.sin(angle)
        safe = jnp.where(sine > 1e-4, sine, 1.0)
        spherical = (jnp.sin((1 - alpha) * angle) * a + jnp.sin(alpha * angle) * b) / safe
        return jnp.where(sine > 1e-4, spherical, (1 - alpha) * a + alpha * b)

    return jax.tree.map(interpolated, first, second)


def cosine_distance(first: Condition, second: Condition) -> float:
    """The cosine distance of two conditions, with their leaves concatenated (section 4.5)."""
    a, b = (np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)]) for tree in (first, second))
    return float(1.0 - np.dot(a, b) / max(float(np.linalg.norm(a) * np.linalg.norm(b)), 1e-12))


def iterate(model: Model, mixture: Mixture, channels: int, condition: Condition, iterations: int) -> Condition:
    """Separate and encode the estimate `iterations` times: the condition after the last round (section 4.6).

    Args:
      mixture: Returns the blocks `[n, channels]` of the mixture at the model's sample rate, from its beginning at each
        call.
    """
    for _ in range(iterations):
        estimates = separate_blocks(model, mixture(), channels, [condition])
        condition = encode_blocks(model, (stems[0] for stems in estimates), "the estimate")
    return condition
