"""Separation of signals of any length and channel count by a trained system, on all local devices."""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import NamedSharding, PartitionSpec

from qsep_jax.dsp.stft import istft, stft
from qsep_jax.dsp.wiener import wiener
from qsep_jax.inference.chunks import default_plan, over_chunks
from qsep_jax.systems.base import Condition, System, Variables
from qsep_jax.training.sharding import make_mesh, replicated

# Channels of chunks that go through the model at a time: at least, and per device other than a CPU.
ROWS, ROWS_PER_DEVICE = 8, 32
WIENER_WINDOW, WIENER_HOP = 2048, 512


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


@partial(jax.jit, static_argnums=0)
def _separate(system: System, variables: Variables, rows: Array, condition: Condition) -> Array:
    """`[rows, T]` and a condition of `[1, …]` → `[rows, S, T]`."""
    conditions = jax.tree.map(lambda leaf: jnp.repeat(leaf, rows.shape[0], axis=0), condition)
    return system.separate(variables, rows[..., None], conditions)[..., 0]


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


def separate_blocks(
    model: Model,
    blocks: Iterable[np.ndarray],
    channels: int,
    conditions: Sequence[Condition],
    wiener_iterations: int = 0,
) -> Iterator[np.ndarray]:
    """Separate a mixture that comes in blocks `[n, C]` at the model's rate: blocks `[K · S, m, C]`, float32.

    Each of the K conditions, a tree of `[1, …]`, gives the S stems of the system, 1 for a queried one; the channels
    pass one by one and share it. Memory does not depend on the length, and any number of channels shares one program.

    Args:
      wiener_iterations: of expectation maximisation within each chunk (`dsp.wiener`), over all K · S stems together and
        what they leave of the mixture; 0 leaves the estimates as they are.
    """
    devices = jax.local_devices()
    on_cpu = devices[0].platform == "cpu"
    least = ROWS if on_cpu else ROWS_PER_DEVICE * len(devices)
    rows = -(-least // len(devices)) * len(devices)
    spread = NamedSharding(make_mesh(devices), PartitionSpec("data"))

    def process(chunks: np.ndarray) -> np.ndarray:
        group, samples, channels = chunks.shape
        flat = chunks.swapaxes(1, 2).reshape(-1, samples)
        flat = np.pad(flat, ((0, -len(flat) % rows), (0, 0)))
        placed = [jax.device_put(flat[first : first + rows], spread) for first in range(0, len(flat), rows)]
        parts = [
            [_separate(model.system, model.variables, part, condition) for part in placed] for condition in conditions
        ]
        stems = np.concatenate([np.concatenate(jax.device_get(found)) for found in parts], axis=1)
        stems = stems[: group * channels].reshape(group, channels, -1, samples).transpose(0, 2, 3, 1)
        return np.asarray(_filter(stems, chunks, wiener_iterations)) if wiener_iterations else stems

    return over_chunks(blocks, default_plan(model.system.chunk_samples), max(1, rows // max(1, channels)), process)


def separate(model: Model, mixture: np.ndarray, condition: Condition, wiener_iterations: int = 0) -> np.ndarray:
    """Separate `[T, C]` at the model's rate: float32 `[S, T, C]`, S = 1 for a queried source.

    `condition` is that of one query, a tree of `[1, …]`; all channels share it.
    """
    blocks = separate_blocks(model, [mixture], mixture.shape[1], [condition], wiener_iterations)
    return np.concatenate(list(blocks), axis=1)
