"""Notes of a queried source of any length, and sound for given notes, chunk by chunk (Lin et al. 2021).

Works with systems whose `tasks` name `transcribe`, `separate_by_score` or `synthesize`. Notes are classes of frames of
`hop_length` samples: `data_pipelines.annotations.notes` turns them into rows and files.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import NamedSharding, PartitionSpec

from data_pipelines.audio.reading import AudioFile, resample_blocks
from data_pipelines.audio.writing import AudioWriter, format_for
from data_pipelines.schema import CLASSES, SILENCE_CLASS
from qsep_jax.dsp.griffin_lim import griffin_lim
from qsep_jax.inference.chunks import ChunkPlan, default_plan, over_chunks
from qsep_jax.inference.files import Written
from qsep_jax.inference.separation import ROWS, ROWS_PER_DEVICE, Model
from qsep_jax.nn import xla
from qsep_jax.systems.base import Condition, System, Variables
from qsep_jax.training.sharding import make_mesh

# Seconds that go through Griffin-Lim at a time, and that neighbouring pieces share: about 0.5 GB at 16 kHz.
PIECE, SHARED = 60.0, 1.0
# Seconds in which one piece takes over from another.
FADE = 0.04
# Frames are rounded up to this, so that few lengths are compiled.
STEP = 128


def need(system: System, task: str) -> None:
    """Make sure that a system has a task.

    Raises:
      ValueError: if it has not; says what it can.
    """
    if task not in system.tasks:
        words = ", ".join(system.tasks).replace("_", " ")
        raise ValueError(
            f"this model ({type(system).__name__}) cannot {task.replace('_', ' ')}, it can {words}: "
            "give a --model that was trained with configs/lin2021.py"
        )


def frame_rate_of(system: Any) -> float:
    """Frames per second."""
    return system.sample_rate / system.hop_length


@partial(xla.jit, static_argnums=0)
def _transcribe(system: Any, variables: Variables, condition: Condition, rows: Array) -> Array:
    """`[rows, T]` → probabilities `[rows, N, K]`."""
    return system.transcribe(variables, rows[..., None], _repeated(condition, len(rows)))


@partial(xla.jit, static_argnums=0)
def _separate(system: Any, variables: Variables, condition: Condition, rows: Array, classes: Array) -> Array:
    """`[rows, T]` and classes `[rows, N]` → `[rows, T]`."""
    conditions = _repeated(condition, len(rows))
    return system.separate_by_score(variables, rows[..., None], conditions, _roll(classes))[:, 0, :, 0]


@partial(xla.jit, static_argnums=0)
def _synthesize(system: Any, variables: Variables, condition: Condition, rows: Array, classes: Array) -> Array:
    """`[rows, T]` and classes `[rows, N]` → magnitudes `[rows, N, F]`."""
    return system.synthesize(variables, rows[..., None], _repeated(condition, len(rows)), _roll(classes))


def _repeated(condition: Condition, rows: int) -> Condition:
    return jax.tree.map(lambda leaf: jnp.repeat(leaf, rows, axis=0), condition)


def _roll(classes: Array) -> Array:
    return jax.nn.one_hot(classes, CLASSES)


def transcribe_blocks(model: Model, blocks: Iterable[np.ndarray], condition: Condition) -> Iterator[np.ndarray]:
    """Probabilities of the 89 classes, silence last, of a source in a mixture: blocks `[m, 89]`, float32.

    The mixture comes in blocks `[n, C]` at the model's rate and is mixed down. There is a row for each frame of
    `hop_length` samples, the last of which may reach into the silence after the mixture. Where chunks overlap, their
    probabilities are cross-faded. Memory does not depend on the length.

    Raises:
      ValueError: if the model does not transcribe, or there are no channels.
    """
    need(model.system, "transcribe")
    system: Any = model.system

    def process(chunks: np.ndarray) -> np.ndarray:
        flat = chunks.reshape(len(chunks), system.chunk_samples)
        return _in_rows(lambda rows: _transcribe(system, model.variables, condition, rows), flat)[:, None]

    frames = _frames(blocks, system.hop_length)
    return (found[0] for found in over_chunks(frames, default_plan(system.frames), _rows()[0], process))


def separate_by_score(
    model: Model, blocks: Iterable[np.ndarray], channels: int, condition: Condition, classes: np.ndarray
) -> Iterator[np.ndarray]:
    """A source with its notes given: blocks `[1, m, C]` float32 of a mixture in blocks `[n, C]` at the model's rate.

    `classes` `[N]` are those of the frames of `hop_length` samples from the beginning on; after them is silence. What
    comes out is as long as what went in. Channels pass one by one and share the notes.

    Raises:
      ValueError: if the model does not separate by score, or there are no channels.
    """
    need(model.system, "separate_by_score")
    system: Any = model.system

    def process(chunks: np.ndarray) -> np.ndarray:
        group, samples, _ = chunks.shape
        flat = chunks[..., :-1].swapaxes(1, 2).reshape(group * channels, samples)
        heard = np.repeat(_class_of(chunks[:, :: system.hop_length, -1]), channels, axis=0)
        run = partial(_separate, system, model.variables, condition)
        return _in_rows(run, flat, heard).reshape(group, 1, channels, samples).swapaxes(2, 3)

    # In samples, so that fades are smooth, but in steps of whole frames: a chunk begins with a frame.
    steps = default_plan(system.frames)
    plan = ChunkPlan(*(system.hop_length * length for length in (steps.chunk, steps.context, steps.fade)))
    annotated = _annotated(blocks, classes, system.hop_length)
    return over_chunks(annotated, plan, max(1, _rows()[0] // max(1, channels)), process)


def separate_file_by_score(
    file: AudioFile,
    model: Model,
    condition: Condition,
    classes: np.ndarray,
    path: Path,
    advance: Callable[[int], None] = lambda samples: None,
) -> Written:
    """`separate_by_score` on a file: its rate, channels, length and sample format are kept.

    The output appears when it is whole. `advance` is told how many samples were read.

    Raises:
      ValueError: if the file cannot be read or is silent, or the path asks for a format that cannot be written.
      OSError: if the output cannot be written.
    """
    rate, taken, heard = model.system.sample_rate, 0, False
    container, subtype = format_for(path, file.subtype, file.frames * file.channels)

    def mixture() -> Iterator[np.ndarray]:
        nonlocal taken, heard
        for block in file.blocks():
            taken, heard = taken + len(block), heard or bool(block.any())
            advance(len(block))
            yield block

    at_rate = resample_blocks(mixture(), file.sample_rate, rate)
    found = separate_by_score(model, at_rate, file.channels, condition, classes)
    with AudioWriter(path, file.sample_rate, file.channels, subtype, container) as writer:
        for block in resample_blocks((part[0] for part in found), rate, file.sample_rate):
            writer.write(block[: taken - writer.frames])
        if not heard:
            raise ValueError(f"{file.path}: is silent: there is nothing to separate")
    return Written(path, container, subtype, writer.frames, writer.peak, writer.clipped, 1.0)


def synthesize(
    model: Model,
    audio: np.ndarray,
    condition: Condition,
    classes: np.ndarray,
    iterations: int = 200,
    momentum: float = 0.0,
) -> np.ndarray:
    """The source in `audio` `[T, C]`, at the model's rate, playing other notes: float32 `[N · hop_length, 1]`.

    The network takes its timbre from the sound at the same time, so the audio is repeated or cut to the length of
    the notes, classes `[N]`. The phase is found by `dsp.griffin_lim`, `PIECE` seconds at a time.

    Raises:
      ValueError: if the model does not synthesize, there is no audio or there are no notes.
    """
    need(model.system, "synthesize")
    system: Any = model.system
    if not len(audio) or not len(classes):
        raise ValueError(
            f"there are {len(audio)} samples of a source and {len(classes)} frames of notes for it to play"
        )
    hop, mono = system.hop_length, audio.mean(axis=1, dtype=np.float32)
    framed = np.resize(mono, len(classes) * hop).reshape(-1, hop)
    annotated = np.concatenate([framed, np.asarray(classes, np.float32)[:, None] + 1], axis=1)

    def process(chunks: np.ndarray) -> np.ndarray:
        flat = chunks[..., :-1].reshape(len(chunks), system.chunk_samples)
        run = partial(_synthesize, system, model.variables, condition)
        return _in_rows(run, flat, _class_of(chunks[..., -1]))[:, None]

    plan = default_plan(system.frames)
    magnitudes = np.concatenate([found[0] for found in over_chunks([annotated], plan, _rows()[0], process)])
    return _sound(magnitudes, system, iterations, momentum)[:, None]


@partial(jax.jit, static_argnums=(1, 2, 3, 4))
def _griffin_lim(magnitude: Array, window_length: int, hop_length: int, iterations: int, momentum: float) -> Array:
    return griffin_lim(magnitude, window_length, hop_length, iterations, momentum)


def _sound(magnitudes: np.ndarray, system: Any, iterations: int, momentum: float) -> np.ndarray:
    """`[N, F]` → `[N · hop]`. Pieces share `SHARED` seconds, and meet where these are quietest.

    Their phases differ, so the fade is short and keeps the power of sounds that have nothing to do with one another.
    """
    hop, rate = system.hop_length, system.sample_rate / system.hop_length
    shared, fade = math.ceil(SHARED * rate), math.ceil(FADE * rate) * hop
    piece = max(STEP * math.ceil(PIECE * rate / STEP), 2 * shared + 2 * STEP)
    piece = min(piece, STEP * math.ceil(len(magnitudes) / STEP))
    power = np.square(magnitudes).sum(axis=1)
    rise = np.sin(np.linspace(0.0, np.pi / 2, fade, endpoint=False, dtype=np.float32))
    made = np.zeros(0, np.float32)
    for start in range(0, max(len(magnitudes) - shared, 1), piece - shared):
        part = magnitudes[start : start + piece]
        padded = np.pad(part, ((0, piece - len(part)), (0, 0)))
        sound = _griffin_lim(padded, system.window_length, hop, iterations, momentum)
        sound = np.asarray(sound)[: len(part) * hop]
        if start:
            place = int(np.argmin(_smoothed(power[start : start + shared], fade // hop))) * hop
            meeting = start * hop + place
            before, after = made[meeting : meeting + fade], sound[place : place + fade]
            length = min(len(before), len(after))
            between = before[:length] * rise[:length][::-1] + after[:length] * rise[:length]
            made = np.concatenate([made[:meeting], between, sound[place + length :]])
        else:
            made = sound
    return made


def _smoothed(power: np.ndarray, length: int) -> np.ndarray:
    """Sums over `length` values from each one on, as far as there are so many."""
    sums = np.cumsum(np.concatenate([[0.0], power]))
    return sums[length:] - sums[:-length] if len(power) > length else power[:1]


def _rows() -> tuple[int, NamedSharding]:
    """Rows that go through the model at a time, and how they are spread over all local devices."""
    devices = jax.local_devices()
    least = ROWS if devices[0].platform == "cpu" else ROWS_PER_DEVICE * len(devices)
    return -(-least // len(devices)) * len(devices), NamedSharding(make_mesh(devices), PartitionSpec("data"))


def _in_rows(run: Callable[..., Array], *arrays: np.ndarray) -> np.ndarray:
    """`run` over the rows of all arrays, always as many at a time: one program for any number."""
    rows, spread = _rows()
    count = len(arrays[0])
    padded = [np.pad(array, [(0, -count % rows)] + [(0, 0)] * (array.ndim - 1)) for array in arrays]
    starts = range(0, len(padded[0]), rows)
    parts = [run(*(jax.device_put(array[start : start + rows], spread) for array in padded)) for start in starts]
    return np.concatenate(jax.device_get(parts))[:count]


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


def _class_of(beside: np.ndarray) -> np.ndarray:
    """What `_annotated` put beside the samples, as classes; outside is silence."""
    found = np.rint(beside).astype(np.int32) - 1
    return np.where(found < 0, SILENCE_CLASS, found)
