"""Notes of a queried source of any length, and sound for given notes, chunk by chunk (Lin et al. 2021).

Works with systems whose `tasks` name `transcribe`, `separate_by_score` or `synthesize`. Notes are classes of frames of
`hop_length` samples: `data_pipelines.annotations.notes` turns them into rows and files.
"""

from collections.abc import Iterable, Iterator
from functools import partial

import jax
import numpy as np
from jax import Array

from data_pipelines.schema import CLASSES, SILENCE_CLASS
from qsep_jax.inference.chunks import ChunkPlan, default_plan, over_chunks
from qsep_jax.inference.model import Model
from qsep_jax.inference.rows import in_rows, repeat_condition, rows_of
from qsep_jax.nn import xla
from qsep_jax.systems.base import Condition, Variables
from qsep_jax.systems.capabilities import ScoreInformedSeparator, Transcriber, score_informed, transcriber


@partial(xla.jit, static_argnums=0)
def _transcribe(system: Transcriber, variables: Variables, rows: Array, condition: Condition) -> Array:
    """`[rows, T]` → probabilities `[rows, N, K]`."""
    return system.transcribe(variables, rows[..., None], repeat_condition(condition, rows))


@partial(xla.jit, static_argnums=0)
def _separate(
    system: ScoreInformedSeparator, variables: Variables, rows: Array, condition: Condition, classes: Array
) -> Array:
    """`[rows, T]` and classes `[rows, N]` → `[rows, T]`."""
    conditions = repeat_condition(condition, rows)
    return system.separate_by_score(variables, rows[..., None], conditions, piano_roll(classes))[:, 0, :, 0]


def piano_roll(classes: Array) -> Array:
    return jax.nn.one_hot(classes, CLASSES)


def transcribe_blocks(model: Model, blocks: Iterable[np.ndarray], condition: Condition) -> Iterator[np.ndarray]:
    """Probabilities of the 89 classes, silence last, of a source in a mixture: blocks `[m, 89]`, float32.

    The mixture comes in blocks `[n, C]` at the model's rate and is mixed down. There is a row for each frame of
    `hop_length` samples, the last of which may reach into the silence after the mixture. Where chunks overlap, their
    probabilities are cross-faded. Memory does not depend on the length.

    Raises:
      ValueError: if the model does not transcribe, or there are no channels.
    """
    system = transcriber(model.system)

    def process(chunks: np.ndarray) -> np.ndarray:
        flat = chunks.reshape(len(chunks), system.chunk_samples)
        return in_rows(partial(_transcribe, system, model.variables), flat, condition)[:, None]

    frames, group = _frames(blocks, system.hop_length), rows_of(system.chunk_samples)[0]
    return (found[0] for found in over_chunks(frames, default_plan(system.frames), group, process))


def separate_by_score(
    model: Model, blocks: Iterable[np.ndarray], channels: int, condition: Condition, classes: np.ndarray
) -> Iterator[np.ndarray]:
    """A source with its notes given: blocks `[1, m, C]` float32 of a mixture in blocks `[n, C]` at the model's rate.

    `classes` `[N]` are those of the frames of `hop_length` samples from the beginning on; after them is silence. What
    comes out is as long as what went in. Channels pass one by one and share the notes.

    Raises:
      ValueError: if the model does not separate by score, or there are no channels.
    """
    system = score_informed(model.system)

    def process(chunks: np.ndarray) -> np.ndarray:
        group, samples, _ = chunks.shape
        flat = chunks[..., :-1].swapaxes(1, 2).reshape(group * channels, samples)
        heard = np.repeat(class_of(chunks[:, :: system.hop_length, -1]), channels, axis=0)
        run = partial(_separate, system, model.variables)
        return in_rows(run, flat, condition, heard).reshape(group, 1, channels, samples).swapaxes(2, 3)

    # In samples, so that fades are smooth, but in steps of whole frames: a chunk begins with a frame.
    steps = default_plan(system.frames)
    plan = ChunkPlan(*(system.hop_length * length for length in (steps.chunk, steps.context, steps.fade)))
    annotated = _annotated(blocks, classes, system.hop_length)
    return over_chunks(annotated, plan, max(1, rows_of(system.chunk_samples)[0] // max(1, channels)), process)


def _frames(blocks: Iterable[np.ndarray], hop: int) -> Iterator[np.ndarray]:
    """Blocks `[n, C]`, mixed down and cut anew into frames: `[m, hop]`; the last is padded with zeros."""
    held = np.zeros(0, np.float32)
    for block in blocks:
        if not block.shape[1]:
            raise ValueError("there is no signal to transcribe: it has no channels")
        held = np.concatenate([held, block.mean(axis=1, dtype=np.float32)])
        whole = len(held) // hop * hop
        yield held[:whole].reshape(-1, hop)
        held = held[whole:]
    if len(held):
        yield np.pad(held, (0, hop - len(held)))[None]


def _annotated(blocks: Iterable[np.ndarray], classes: np.ndarray, hop: int) -> Iterator[np.ndarray]:
    """Blocks `[n, C]` with the class of the frame plus 1 beside each sample, `[n, C + 1]`; 0 is outside of all."""
    position, known = 0, np.append(np.asarray(classes, np.float32) + 1, 0)
    for block in blocks:
        if not block.shape[1]:
            raise ValueError("there is no signal to separate: it has no channels")
        frames = np.minimum((position + np.arange(len(block))) // hop, len(known) - 1)
        yield np.concatenate([np.asarray(block, np.float32), known[frames, None]], axis=1)
        position += len(block)


def class_of(beside: np.ndarray) -> np.ndarray:
    """What `_annotated` put beside the samples, as classes; outside is silence."""
    found = np.rint(beside).astype(np.int32) - 1
    return np.where(found < 0, SILENCE_CLASS, found)
