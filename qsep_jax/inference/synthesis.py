"""Sound for given notes in the timbre of a query: a network's magnitudes, phases by Griffin-Lim (Lin et al. 2021)."""

import math
from functools import partial

import jax
import numpy as np
from jax import Array

from data_pipelines.annotations.notes import move_to_range
from data_pipelines.schema import LOWEST_PITCH, SILENCE_CLASS
from qsep_jax.dsp.griffin_lim import griffin_lim
from qsep_jax.inference.chunks import default_plan, over_chunks
from qsep_jax.inference.model import Model
from qsep_jax.inference.rows import in_rows, repeat_condition, rows_of
from qsep_jax.inference.transcription import class_of, piano_roll, transcribe_blocks
from qsep_jax.nn import xla
from qsep_jax.systems.base import Condition, Variables
from qsep_jax.systems.capabilities import Synthesizer, synthesizer

# Seconds that go through Griffin-Lim at a time, and that neighbouring pieces share: about 0.5 GB at 16 kHz.
PIECE, SHARED = 60.0, 1.0
# Seconds after the last note of a score, for it to end in.
TAIL = 0.3
# Seconds in which one piece takes over from another.
FADE = 0.04
# Frames are rounded up to this, so that few lengths are compiled.
STEP = 128


@partial(xla.jit, static_argnums=0)
def _synthesize(system: Synthesizer, variables: Variables, rows: Array, condition: Condition, classes: Array) -> Array:
    """`[rows, T]` and classes `[rows, N]` → magnitudes `[rows, N, F]`."""
    return system.synthesize(variables, rows[..., None], repeat_condition(condition, rows), piano_roll(classes))


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
    system = synthesizer(model.system)
    if not len(audio) or not len(classes):
        raise ValueError(
            f"there are {len(audio)} samples of a source and {len(classes)} frames of notes for it to play"
        )
    hop, mono = system.hop_length, audio.mean(axis=1, dtype=np.float32)
    framed = np.resize(mono, len(classes) * hop).reshape(-1, hop)
    annotated = np.concatenate([framed, np.asarray(classes, np.float32)[:, None] + 1], axis=1)

    def process(chunks: np.ndarray) -> np.ndarray:
        flat = chunks[..., :-1].reshape(len(chunks), system.chunk_samples)
        run = partial(_synthesize, system, model.variables)
        return in_rows(run, flat, condition, class_of(chunks[..., -1]))[:, None]

    plan, group = default_plan(system.frames), rows_of(system.chunk_samples)[0]
    magnitudes = np.concatenate([found[0] for found in over_chunks([annotated], plan, group, process)])
    return _sound(magnitudes, system, iterations, momentum)[:, None]


def in_register(
    model: Model, notes: np.ndarray, name: str, audio: np.ndarray, condition: Condition
) -> tuple[np.ndarray, int, float | None]:
    """Transpose notes by whole octaves to the register in which a source plays in `audio` `[T, C]` at the model's rate.

    Args:
      name: What error messages call the notes.

    Returns:
      The notes, the semitones that they were transposed by, and the median MIDI pitch of the source; None and 0
      semitones where no note of the source was found.

    Raises:
      ValueError: if no octave has all notes within the range of a piano.
    """
    classes = np.concatenate(list(transcribe_blocks(model, [audio], condition))).argmax(axis=1)
    sounding = classes[classes != SILENCE_CLASS]
    if not len(sounding):
        return notes, 0, None
    register = float(np.median(sounding)) + LOWEST_PITCH
    try:
        moved, semitones = move_to_range(notes, register, register)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    return moved, semitones, register


@partial(jax.jit, static_argnums=(1, 2, 3, 4))
def _griffin_lim(magnitude: Array, window_length: int, hop_length: int, iterations: int, momentum: float) -> Array:
    return griffin_lim(magnitude, window_length, hop_length, iterations, momentum)


def _sound(magnitudes: np.ndarray, system: Synthesizer, iterations: int, momentum: float) -> np.ndarray:
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
