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
from qsep_jax.inference.chunks import over_chunks, plan_of
from qsep_jax.inference.model import Model
from qsep_jax.inference.rows import in_rows, repeat_condition, rows_of
from qsep_jax.nn import xla
from qsep_jax.systems.base import Condition, System, Variables

WIENER_WINDOW, WIENER_HOP = 2048, 512
# Of the chunk that begins at a sample, before 0 for the first one: its condition, a tree of `[1, …]`.
ConditionAt = Callable[[int], Condition]


@partial(xla.jit, static_argnums=(0, 2))
def _separate(system: System, variables: Variables, stems: tuple[int, ...], rows: Array, condition: Condition) -> Array:
    """`[rows, T, C]` and a condition of `[1, …]` or `[rows, …]` → `[rows, S, T, C]`, or only some of the stems."""
    found = system.separate(variables, rows, repeat_condition(condition, rows))
    return found[:, np.array(stems)] if stems else found


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
    heard, plan = model.system.input_channels, plan_of(model.system)
    together = heard == channels
    passes = 1 if together else max(1, channels)  # of a chunk through the model
    group = max(1, rows_of(plan.chunk)[0] // passes)
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
