"""Separation of signals of any length and channel count by a trained system, on all local devices."""

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import NamedSharding, PartitionSpec

from qsep_jax.dsp.stft import istft, stft
from qsep_jax.dsp.wiener import wiener
from qsep_jax.inference.chunks import over_chunks, plan_of
from qsep_jax.nn import xla
from qsep_jax.systems.base import Condition, System, Variables
from qsep_jax.training.sharding import make_mesh, replicated

# Channels of chunks that go through the model at a time: at least, and per device other than a CPU.
ROWS, ROWS_PER_DEVICE = 8, 32
# Samples of all rows together that they may have, or there are fewer rows.
LONGEST, LONGEST_PER_DEVICE = 2**20, 2**22
WIENER_WINDOW, WIENER_HOP = 2048, 512
# Of the chunk that begins at a sample, before 0 for the first one: its condition, a tree of `[1, …]`.
ConditionAt = Callable[[int], Condition]


@dataclasses.dataclass(frozen=True)
class Model:
    """A system with its variables, ready to be used. Compares by identity."""

    system: System
    variables: Variables

    __hash__ = object.__hash__
    __eq__ = object.__eq__


def on_all_devices(system: System, variables: Variables) -> Model:
    """A model whose chunks are split over all local devices."""
    return Model(system, jax.device_put(variables, replicated(make_mesh(jax.local_devices()))))


@partial(xla.jit, static_argnums=(0, 2))
def _separate(system: System, variables: Variables, stems: tuple[int, ...], rows: Array, condition: Condition) -> Array:
    """`[rows, T, C]` and a condition of `[1, …]` or `[rows, …]` → `[rows, S, T, C]`, or only some of the stems."""
    found = system.separate(variables, rows, of_each(condition, rows))
    return found[:, np.array(stems)] if stems else found


def of_each(condition: Condition, rows: Array) -> Condition:
    """A condition of `[1, …]` for all rows, or one that is of `[rows, …]` already."""
    return jax.tree.map(lambda leaf: jnp.repeat(leaf, rows.shape[0] // leaf.shape[0], axis=0), condition)


@partial(jax.jit, static_argnums=2)
@partial(jax.vmap, in_axes=(0, 0, None))
def _filter(estimates: Array, mixture: Array, iterations: int) -> Array:
    """Wiener filter of `[S, T, C]` in a mixture `[T, C]`, what the estimates leave of it being a source, too."""
    length = mixture.shape[0]
    sources = jnp.concatenate([estimates, (mixture - estimates.sum(0))[None]])
    whole = max(-(-length // WIENER_HOP) * WIENER_HOP, WIENER_WINDOW)
    padded = jnp.pad(jnp.concatenate([sources, mixture[None]]), ((0, 0), (0, whole - length), (0, 0)))
    spectrograms = stft(padded.swapaxes(1, 2), WIENER_WINDOW, WIENER_HOP).transpose(0, 2, 3, 1)  # [S + 2, N, F, C]
    filtered = wiener(spectrograms[:-1], spectrograms[-1], iterations)[:-1]
    return istft(filtered.transpose(0, 3, 1, 2), WIENER_WINDOW, WIENER_HOP)[..., :length].swapaxes(1, 2)


def in_rows(run: Callable[[Array, Condition], Array], signals: np.ndarray, condition: Condition) -> np.ndarray:
    """`run` over signals `[n, T]` or `[n, T, C]`, each with its condition, always as many at a time: one program.

    They are split over all local devices. A condition is a tree of `[1, …]`, the same for all, or of `[n, …]`.
    """
    rows, spread = _rows(signals.shape[1])
    missing = -len(signals) % rows
    starts = range(0, len(signals) + missing, rows)

    def placed(array: np.ndarray, mode: Any) -> list[Array]:
        padded = np.pad(array, [(0, missing)] + [(0, 0)] * (array.ndim - 1), mode)
        return [jax.device_put(padded[first : first + rows], spread) for first in starts]

    leaves, structure = jax.tree.flatten(condition)
    conditions = [condition] * len(starts)
    if any(leaf.shape[0] > 1 for leaf in leaves):
        parts = zip(*(placed(np.asarray(leaf), "edge") for leaf in leaves), strict=True)
        conditions = [jax.tree.unflatten(structure, part) for part in parts]
    found = [run(part, told) for part, told in zip(placed(signals, "constant"), conditions, strict=True)]
    return np.concatenate(jax.device_get(found))[: len(signals)]


def _rows(samples: int) -> tuple[int, NamedSharding]:
    """Rows of so many samples that go through the model at a time, and how they are spread over all local devices."""
    devices = jax.local_devices()
    on_cpu = devices[0].platform == "cpu"
    most = max(1, (LONGEST if on_cpu else LONGEST_PER_DEVICE) // samples)
    least = min(ROWS, most) if on_cpu else min(ROWS_PER_DEVICE, most) * len(devices)
    return -(-least // len(devices)) * len(devices), NamedSharding(make_mesh(devices), PartitionSpec("data"))


def separate_blocks(
    model: Model,
    blocks: Iterable[np.ndarray],
    channels: int,
    conditions: Sequence[Condition | ConditionAt],
    wiener_iterations: int = 0,
    stems: Sequence[int] = (),
) -> Iterator[np.ndarray]:
    """Separate a mixture that comes in blocks `[n, C]` at the model's rate: blocks `[K · S, m, C]`, float32.

    Each of the K conditions, a tree of `[1, …]` or one for each chunk, gives the S stems of the system, 1 for a queried
    one; all channels share it. They pass one by one, or together where the system hears that many together. Where it
    hears several and the mixture has another number, each is heard alone, as if all were the same. Memory does not
    depend on the length, and any number of channels shares one program.

    Args:
      wiener_iterations: of expectation maximisation within each chunk (`dsp.wiener`), over all K · S stems together and
        what they leave of the mixture; 0 leaves the estimates as they are.
      stems: which of the system's stems there are, by default all: the others are taken to be silent.
    """
    heard, plan = model.system.heard, plan_of(model.system)
    together = heard == channels
    passes = 1 if together else max(1, channels)  # of a chunk through the model
    group = max(1, _rows(plan.chunk)[0] // passes)
    starts, taken = itertools.count(-plan.context - plan.fade, plan.hop), 0

    def mixture() -> Iterator[np.ndarray]:
        nonlocal taken
        for block in blocks:
            taken += len(block)
            yield block

    def of_chunks(condition: ConditionAt, begins: list[int], channels: int) -> Condition:
        """One for each channel of each chunk; what only reaches into the silence after the mixture is not asked for."""
        found = [condition(start) for start in begins if start + plan.context < taken]
        found += [found[-1]] * (len(begins) - len(found))
        return jax.tree.map(lambda *leaves: np.repeat(np.concatenate(leaves), channels, axis=0), *found)

    def process(chunks: np.ndarray) -> np.ndarray:
        group, samples, channels = chunks.shape
        begins = list(itertools.islice(starts, group))
        told = [of_chunks(each, begins, passes) if callable(each) else each for each in conditions]
        run = partial(_separate, model.system, model.variables, tuple(stems))
        flat = chunks if together else chunks.swapaxes(1, 2).reshape(-1, samples, 1).repeat(heard, axis=-1)
        found = np.concatenate([in_rows(run, flat, condition) for condition in told], axis=1)
        if not together:
            found = found.mean(-1).reshape(group, channels, -1, samples).transpose(0, 2, 3, 1)
        return np.asarray(_filter(found, chunks, wiener_iterations)) if wiener_iterations else found

    return over_chunks(mixture(), plan, group, process)


def separate(
    model: Model, mixture: np.ndarray, condition: Condition | ConditionAt, wiener_iterations: int = 0
) -> np.ndarray:
    """Separate `[T, C]` at the model's rate: float32 `[S, T, C]`, S = 1 for a queried source.

    `condition` is that of one query, a tree of `[1, …]`, or one for each chunk; all channels share it.
    """
    blocks = separate_blocks(model, [mixture], mixture.shape[1], [condition], wiener_iterations)
    return np.concatenate(list(blocks), axis=1)
