"""Chunked transcription of a queried source, and separation of a source with known notes (Lin et al. 2021).

For systems with `transcribe` or `separate_by_score` among their `tasks`. Notes are the classes of frames of
`hop_length` samples; `data_pipelines.annotations.notes` converts them from and to notes with onset, offset and pitch.
"""

from collections.abc import Iterable, Iterator
from functools import partial

import jax
import numpy as np
from jax import Array

from data_pipelines.schema import CLASSES, SILENCE_CLASS
from qsep_jax.inference.chunks import ChunkPlan, default_plan, finite, over_chunks
from qsep_jax.inference.model import Model
from qsep_jax.inference.rows import in_rows, repeat_condition, rows_of
from qsep_jax.nn import xla
from qsep_jax.systems.base import Condition, Variables
from qsep_jax.systems.capabilities import ScoreInformedSeparator, Transcriber, score_informed, transcriber


@partial(xla.jit, static_argnums=0)
def _transcribe(system: Transcriber, variables: Variables, rows: Array, condition: Condition) -> Array:
    """Transcribe `[rows, T]`: probabilities `[rows, N, K]`."""
    return system.transcribe(variables, rows[..., None], repeat_condition(condition, rows))


@partial(xla.jit, static_argnums=0)
def _separate(
    system: ScoreInformedSeparator, variables: Variables, rows: Array, condition: Condition, classes: Array
) -> Array:
    """Separate `[rows, T]` with the classes `[rows, N]` of the frames: `[rows, T]`."""
    conditions = repeat_condition(condition, rows)
    return system.separate_by_score(variables, rows[..., None], conditions, piano_roll(classes))[:, 0, :, 0]


def piano_roll(classes: Array) -> Array:
    """One-hot encode classes `[…, N]`: `[…, N, 89]`."""
    return jax.nn.one_hot(classes, CLASSES)


def transcribe_blocks(model: Model, blocks: Iterable[np.ndarray], condition: Condition) -> Iterator[np.ndarray]:
    """Transcribe a source in a mixture in blocks `[n, C]` at the model's sample rate, which is mixed down.

    Returns blocks `[m, 89]`, float32: the probabilities of the 89 classes, silence last, of each frame of `hop_length`
    samples. The last frame may extend into the silence after the mixture. The probabilities of overlapping chunks are
    cross-faded. Memory does not depend on the length.

    Raises:
      ValueError: if the model does not transcribe, or the mixture has no channels.
    """
    system = transcriber(model.system)

    def process(chunks: np.ndarray) -> np.ndarray:
        rows = chunks.reshape(len(chunks), system.chunk_samples)
        return in_rows(partial(_transcribe, system, model.variables), rows, condition)[:, None]

    frames, group = _frames(blocks, system.hop_length), rows_of(system.chunk_samples)[0]
    rate = system.sample_rate / system.hop_length
    blocks_of_probabilities = finite(over_chunks(frames, default_plan(system.frames), group, process), rate)
    return (probabilities[0] for probabilities in blocks_of_probabilities)


def separate_by_score(
    model: Model, blocks: Iterable[np.ndarray], channels: int, condition: Condition, classes: np.ndarray
) -> Iterator[np.ndarray]:
    """Separate a source with known notes: blocks `[1, m, C]`, float32, as long as the mixture.

    The mixture is given in blocks `[n, C]` at the model's sample rate. Channels are separated one by one with the same
    notes.

    Args:
      channels: Number of channels C of the mixture.
      classes: Class of each frame of `hop_length` samples from the beginning on, `[N]`; later frames are silent.

    Raises:
      ValueError: if the model does not separate by score, or the mixture has no channels.
    """
    system = score_informed(model.system)

    def process(chunks: np.ndarray) -> np.ndarray:
        group, samples, _ = chunks.shape
        rows = chunks[..., :-1].swapaxes(1, 2).reshape(group * channels, samples)
        row_classes = np.repeat(decode_classes(chunks[:, :: system.hop_length, -1]), channels, axis=0)
        run = partial(_separate, system, model.variables)
        return in_rows(run, rows, condition, row_classes).reshape(group, 1, channels, samples).swapaxes(2, 3)

    # The plan counts samples, so that fades are smooth, in multiples of a frame, so that a chunk begins with a frame.
    in_frames = default_plan(system.frames)
    plan = ChunkPlan(*(system.hop_length * length for length in (in_frames.chunk, in_frames.context, in_frames.fade)))
    annotated = _with_classes(blocks, classes, system.hop_length)
    group = max(1, rows_of(system.chunk_samples)[0] // max(1, channels))
    return finite(over_chunks(annotated, plan, group, process), system.sample_rate)


def _frames(blocks: Iterable[np.ndarray], hop: int) -> Iterator[np.ndarray]:
    """Mix blocks `[n, C]` down and cut them into frames: blocks `[m, hop]`; the last frame is padded with zeros."""
    rest = np.zeros(0, np.float32)  # samples after the last complete frame
    for block in blocks:
        if not block.shape[1]:
            raise ValueError("the signal to transcribe has no channels")
        rest = np.concatenate([rest, block.mean(axis=1, dtype=np.float32)])
        complete = len(rest) // hop * hop
        yield rest[:complete].reshape(-1, hop)
        rest = rest[complete:]
    if len(rest):
        yield np.pad(rest, (0, hop - len(rest)))[None]


def _with_classes(blocks: Iterable[np.ndarray], classes: np.ndarray, hop: int) -> Iterator[np.ndarray]:
    """Append a channel with the class plus 1 of each sample's frame to blocks `[n, C]`; it is 0 after the last class.

    The silence that pads chunks has 0 in this channel, too, so 0 means that no class is known.
    """
    position, encoded = 0, np.append(encode_classes(classes), np.float32(0))
    for block in blocks:
        if not block.shape[1]:
            raise ValueError("the signal to separate has no channels")
        frames = np.minimum((position + np.arange(len(block))) // hop, len(encoded) - 1)
        yield np.concatenate([np.asarray(block, np.float32), encoded[frames, None]], axis=1)
        position += len(block)


def encode_classes(classes: np.ndarray) -> np.ndarray:
    """Encode classes as a channel of a signal that may be padded with zeros: the class plus 1, float32."""
    return np.asarray(classes, np.float32) + 1


def decode_classes(channel: np.ndarray) -> np.ndarray:
    """Decode the channel of `encode_classes`; zeros, which are padding, become silence."""
    classes = np.rint(channel).astype(np.int32) - 1
    return np.where(classes < 0, SILENCE_CLASS, classes)
