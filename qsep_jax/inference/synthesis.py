"""Synthesis of notes in the timbre of a source: a network gives magnitudes, Griffin-Lim phases (Lin et al. 2021)."""

import math
from functools import partial

import jax
import numpy as np
from jax import Array

from data_pipelines.annotations.notes import move_to_range
from data_pipelines.schema import LOWEST_PITCH, SILENCE_CLASS
from qsep_jax.dsp.griffin_lim import griffin_lim
from qsep_jax.inference.chunks import default_plan, finite, over_chunks
from qsep_jax.inference.model import Model
from qsep_jax.inference.rows import in_rows, repeat_condition, rows_of
from qsep_jax.inference.transcription import decode_classes, encode_classes, piano_roll, transcribe_blocks
from qsep_jax.nn import xla
from qsep_jax.systems.base import Condition, Variables
from qsep_jax.systems.capabilities import Synthesizer, synthesizer

# Seconds that Griffin-Lim processes at a time (about 0.5 GB at 16 kHz), and seconds by which successive pieces overlap.
PIECE, OVERLAP = 60.0, 1.0
# Seconds that are synthesised after the last note of a score, in which it fades.
TAIL = 0.3
# Seconds over which two pieces are cross-faded.
FADE = 0.04
# Numbers of frames are rounded up to multiples of this, so that few lengths are compiled.
STEP = 128


@partial(xla.jit, static_argnums=0)
def _synthesize(system: Synthesizer, variables: Variables, rows: Array, condition: Condition, classes: Array) -> Array:
    """Synthesise the classes `[rows, N]` in the timbre of `[rows, T]`: magnitudes `[rows, N, F]`."""
    return system.synthesize(variables, rows[..., None], repeat_condition(condition, rows), piano_roll(classes))


def synthesize(
    model: Model,
    audio: np.ndarray,
    condition: Condition,
    classes: np.ndarray,
    iterations: int = 200,
    momentum: float = 0.0,
) -> np.ndarray:
    """Synthesise notes in the timbre of the source in `audio` `[T, C]`: float32 `[N · hop_length, 1]`.

    The network takes the timbre of a frame from the audio at the same time. Therefore the audio is repeated, or cut, to
    the length of the notes. `dsp.griffin_lim` estimates the phases of `PIECE` seconds at a time.

    Args:
      audio: Recording at the model's sample rate, in which the source plays.
      condition: Condition of the source.
      classes: Class of each frame, `[N]`.
      iterations: Iterations of Griffin-Lim.
      momentum: Momentum of Griffin-Lim.

    Raises:
      ValueError: if the model does not synthesize, the audio is empty or there are no notes.
    """
    system = synthesizer(model.system)
    if not len(audio) or not len(classes):
        raise ValueError(
            f"synthesis needs a recording of the source and notes, but there are {len(audio)} samples and "
            f"{len(classes)} frames of notes"
        )
    hop, mono = system.hop_length, audio.mean(axis=1, dtype=np.float32)
    framed = np.resize(mono, len(classes) * hop).reshape(-1, hop)
    annotated = np.concatenate([framed, encode_classes(classes)[:, None]], axis=1)

    def process(chunks: np.ndarray) -> np.ndarray:
        rows = chunks[..., :-1].reshape(len(chunks), system.chunk_samples)
        run = partial(_synthesize, system, model.variables)
        return in_rows(run, rows, condition, decode_classes(chunks[..., -1]))[:, None]

    plan, group, rate = default_plan(system.frames), rows_of(system.chunk_samples)[0], system.sample_rate / hop
    magnitudes = np.concatenate([block[0] for block in finite(over_chunks([annotated], plan, group, process), rate)])
    return _with_phases(magnitudes, system, iterations, momentum)[:, None]


def transpose_to_register(
    model: Model, notes: np.ndarray, name: str, audio: np.ndarray, condition: Condition
) -> tuple[np.ndarray, int, float | None]:
    """Transpose notes by octaves to the register in which a source plays.

    Args:
      notes: Notes `[n, 3]`.
      name: Name of the notes, for the error message.
      audio: Recording `[T, C]` at the model's sample rate, in which the source plays.
      condition: Condition of the source.

    Returns:
      The notes, the semitones that they were transposed by, and the median MIDI pitch of the source. If no note of the
      source is detected, the notes are unchanged and the median pitch is None.

    Raises:
      ValueError: if no transposition by octaves brings all notes into the range of a piano.
    """
    classes = np.concatenate(list(transcribe_blocks(model, [audio], condition))).argmax(axis=1)
    sounding = classes[classes != SILENCE_CLASS]
    if not len(sounding):
        return notes, 0, None
    register = float(np.median(sounding)) + LOWEST_PITCH
    try:
        transposed, semitones = move_to_range(notes, register, register)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    return transposed, semitones, register


@partial(jax.jit, static_argnums=(1, 2, 3, 4))
def _griffin_lim(magnitude: Array, window_length: int, hop_length: int, iterations: int, momentum: float) -> Array:
    # More bins than the window has come from a transform with zeros after the window.
    fft_length = max(2 * (magnitude.shape[-1] - 1), window_length)
    return griffin_lim(magnitude, window_length, hop_length, iterations, momentum, fft_length)


def _with_phases(magnitudes: np.ndarray, system: Synthesizer, iterations: int, momentum: float) -> np.ndarray:
    """Turn magnitudes `[N, F]` into audio `[N · hop]`, piece by piece.

    Successive pieces overlap by `OVERLAP` seconds and are joined where the overlap is quietest. As their phases are
    independent, the cross-fade is short and preserves the power of uncorrelated signals.
    """
    hop, frame_rate = system.hop_length, system.sample_rate / system.hop_length
    overlap, fade = math.ceil(OVERLAP * frame_rate), math.ceil(FADE * frame_rate) * hop
    piece = max(STEP * math.ceil(PIECE * frame_rate / STEP), 2 * overlap + 2 * STEP)
    piece = min(piece, STEP * math.ceil(len(magnitudes) / STEP))
    power = np.square(magnitudes).sum(axis=1)
    rise = np.sin(np.linspace(0.0, np.pi / 2, fade, endpoint=False, dtype=np.float32))
    audio = np.zeros(0, np.float32)
    for start in range(0, max(len(magnitudes) - overlap, 1), piece - overlap):
        part = magnitudes[start : start + piece]
        padded = np.pad(part, ((0, piece - len(part)), (0, 0)))
        part_audio = _griffin_lim(padded, system.window_length, hop, iterations, momentum)
        part_audio = np.asarray(part_audio)[: len(part) * hop]
        if start:
            offset = int(np.argmin(_moving_sums(power[start : start + overlap], fade // hop))) * hop
            seam = start * hop + offset
            before, after = audio[seam : seam + fade], part_audio[offset : offset + fade]
            length = min(len(before), len(after))
            faded = before[:length] * rise[:length][::-1] + after[:length] * rise[:length]
            audio = np.concatenate([audio[:seam], faded, part_audio[offset + length :]])
        else:
            audio = part_audio
    return audio


def _moving_sums(power: np.ndarray, length: int) -> np.ndarray:
    """The sums over all runs of `length` values; the first value if there are not more values than `length`."""
    sums = np.cumsum(np.concatenate([[0.0], power]))
    return sums[length:] - sums[:-length] if len(power) > length else power[:1]
