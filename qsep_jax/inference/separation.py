"""Separation of signals of any length and channel count by a trained system, on all local devices."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from qsep_jax.dsp.stft import istft, stft
from qsep_jax.dsp.wiener import wiener
from qsep_jax.inference.chunks import finite, over_chunks, plan_of
from qsep_jax.inference.model import Model
from qsep_jax.inference.rows import in_rows, repeat_condition, rows_of
from qsep_jax.nn import xla
from qsep_jax.systems.base import Condition, System, Variables

WIENER_WINDOW, WIENER_HOP = 2048, 512
# Returns the condition, a tree of `[1, …]`, of the chunk that begins at the given sample (below 0 for the first chunk).
ConditionAt = Callable[[int], Condition]


@partial(xla.jit, static_argnums=(0, 2))
def _separate(system: System, variables: Variables, stems: tuple[int, ...], rows: Array, condition: Condition) -> Array:
    """Separate `[rows, T, C]` with a condition of `[1, …]` or `[rows, …]`: `[rows, S, T, C]`.

    S counts all stems of the system, or only `stems` if they are not empty.
    """
    estimates = system.separate(variables, rows, repeat_condition(condition, rows))
    return estimates[:, np.array(stems)] if stems else estimates


@partial(jax.jit, static_argnums=2)
@partial(jax.vmap, in_axes=(0, 0, None))
def _filter(estimates: Array, mixture: Array, iterations: int) -> Array:
    """Apply the Wiener filter to estimates `[S, T, C]` of a mixture `[T, C]`; the residual counts as a source, too."""
    length = mixture.shape[0]
    sources = jnp.concatenate([estimates, (mixture - estimates.sum(0))[None]])
    padded_length = max(-(-length // WIENER_HOP) * WIENER_HOP, WIENER_WINDOW)
    padded = jnp.pad(jnp.concatenate([sources, mixture[None]]), ((0, 0), (0, padded_length - length), (0, 0)))
    spectrograms = stft(padded.swapaxes(1, 2), WIENER_WINDOW, WIENER_HOP).transpose(0, 2, 3, 1)  # [S + 2, N, F, C]
    filtered = wiener(spectrograms[:-1], spectrograms[-1], iterations)[:-1]
    return istft(filtered.transpose(0, 3, 1, 2), WIENER_WINDOW, WIENER_HOP)[..., :length].swapaxes(1, 2)


def separate_blocks(
    model: Model,
    blocks: Iterable[np.ndarray],
    channels: int,
    conditions: Sequence[Condition | ConditionAt],
    wiener_iterations: int = 0,
    stems: Sequence[int] = (),
) -> Iterator[np.ndarray]:
    """Separate a mixture in blocks `[n, C]` at the model's sample rate: blocks `[K · S, m, C]`, float32.

    Each of the K conditions gives the S stems of the system (S = 1 for a query-based system). All channels share the
    conditions. Channels are separated one by one, or together if `System.input_channels` equals their number. A system
    with several input channels separates a mixture of another number of channels one channel at a time, repeated over
    its input channels, and its outputs are averaged. Memory does not depend on the length of the mixture, and one
    compiled program serves any number of channels.

    Args:
      channels: Number of channels C of the mixture.
      conditions: Each is a tree of `[1, …]`, or a function that returns the condition of a chunk.
      wiener_iterations: Iterations of expectation maximisation of a Wiener filter (`dsp.wiener`) within each chunk,
        over all K · S stems and the residual; 0 leaves the estimates unchanged.
      stems: Indices of the system's stems that are present, by default all; the others are taken to be silent.
    """
    input_channels, plan = model.system.input_channels, plan_of(model.system)
    together = input_channels == channels
    passes = 1 if together else max(1, channels)  # passes of each chunk through the model
    group = max(1, rows_of(plan.chunk)[0] // passes)
    starts = itertools.count(-plan.context - plan.fade, plan.hop)
    length = 0  # of the mixture, so far as it was read

    def mixture() -> Iterator[np.ndarray]:
        nonlocal length
        for block in blocks:
            length += len(block)
            yield block

    def conditions_of(condition: ConditionAt, group_starts: list[int]) -> Condition:
        """The conditions `[group · passes, …]` of a group of chunks.

        Chunks after the end of the mixture get the condition of the last one: `condition` may have no value for them.
        """
        values = [condition(start) for start in group_starts if start + plan.context < length]
        values += [values[-1]] * (len(group_starts) - len(values))
        return jax.tree.map(lambda *leaves: np.repeat(np.concatenate(leaves), passes, axis=0), *values)

    def process(chunks: np.ndarray) -> np.ndarray:
        group, samples, channels = chunks.shape
        group_starts = list(itertools.islice(starts, group))
        group_conditions = [
            conditions_of(condition, group_starts) if callable(condition) else condition for condition in conditions
        ]
        run = partial(_separate, model.system, model.variables, tuple(stems))
        rows = chunks if together else chunks.swapaxes(1, 2).reshape(-1, samples, 1).repeat(input_channels, axis=-1)
        estimates = np.concatenate([in_rows(run, rows, condition) for condition in group_conditions], axis=1)
        if not together:
            estimates = estimates.mean(-1).reshape(group, channels, -1, samples).transpose(0, 2, 3, 1)
        return np.asarray(_filter(estimates, chunks, wiener_iterations)) if wiener_iterations else estimates

    return finite(over_chunks(mixture(), plan, group, process), model.system.sample_rate)


def separate(
    model: Model, mixture: np.ndarray, condition: Condition | ConditionAt, wiener_iterations: int = 0
) -> np.ndarray:
    """Separate a mixture `[T, C]` at the model's sample rate: float32 `[S, T, C]`, S = 1 for a query-based system.

    Args:
      condition: A tree of `[1, …]`, or a function that returns the condition of a chunk; all channels share it.
    """
    blocks = separate_blocks(model, [mixture], mixture.shape[1], [condition], wiener_iterations)
    return np.concatenate(list(blocks), axis=1)
