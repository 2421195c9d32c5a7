"""Play a score with the timbre of a source: `python -m qsep_jax.synthesize mix.wav --query q.wav --score s.mid`."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import tyro

from data_pipelines.annotations.note_files import read_voice
from data_pipelines.annotations.notes import move_to_range, name_of, transposed, voice_classes
from data_pipelines.audio.reading import AudioFile, resample
from data_pipelines.audio.writing import AudioWriter, format_for
from data_pipelines.schema import LOWEST_PITCH, SILENCE_CLASS
from qsep_jax.command_line import console
from qsep_jax.command_line.paths import keep_inputs
from qsep_jax.command_line.requests import find_able, queries_of
from qsep_jax.inference.conditions import is_loud, mean
from qsep_jax.inference.files import mixture_at
from qsep_jax.inference.model import Model
from qsep_jax.inference.synthesis import synthesize
from qsep_jax.inference.transcription import frame_rate_of, transcribe_blocks
from qsep_jax.systems.base import Condition

EXAMPLE = "python -m qsep_jax.synthesize mix.wav --query violin.wav --score melody.mid --out played.wav"
# Seconds after the last note, for it to end in.
TAIL = 0.3


@dataclasses.dataclass(frozen=True)
class Synthesize:
    """Let a source of an audio file play another score, a single voice.

    The output is mono, as long as the score, at the rate of the input. It is turned down if it would clip.

    Attributes:
      file: a mixture in which the source is heard; it is repeated or cut to the length of the score.
      query: audio that sounds like the source; several are averaged.
      score: a MIDI file, or a .csv as `transcribe` writes it.
      track: which of the tracks of the MIDI file that hold notes other than drums, from 1; all by default.
      transpose: semitones; by default whole octaves, to the register in which the source plays.
      model: a run folder, a bundle or the name of a carried one; by default the carried one that plays scores.
      iterations: of Griffin-Lim, which finds the phase.
      momentum: of Griffin-Lim, at least 0 and below 1; 0.99 comes further in as many iterations.
      out: the output: .wav, .flac, .ogg, .aiff, …
    """

    file: tyro.conf.Positional[Path]
    query: tyro.conf.UseAppendAction[tuple[Path, ...]] = ()
    score: Path | None = None
    track: int | None = None
    transpose: int | None = None
    model: str = ""
    iterations: int = 200
    momentum: float = 0.0
    out: Path = Path("synthesized.wav")


def _in_register(notes: np.ndarray, score: Path, model: Model, audio: np.ndarray, condition: Condition) -> np.ndarray:
    """The notes in the octave that is nearest to where the source plays in `audio` `[T, C]`."""
    classes = np.concatenate(list(transcribe_blocks(model, [audio], condition))).argmax(axis=1)
    sounding = classes[classes != SILENCE_CLASS]
    if not len(sounding):
        print("moved by 0 semitones: no note of the source was found, whose register the score could be moved to")
        return notes
    middle = float(np.median(sounding)) + LOWEST_PITCH
    try:
        moved, semitones = move_to_range(notes, middle, middle)
    except ValueError as error:
        raise ValueError(f"{score}: {error}") from None
    print(f"moved by {semitones:+d} semitones: the source plays around {name_of(middle)} (--transpose 0 leaves it)")
    return moved


def _beginning(file: AudioFile, rate: int, samples: int) -> np.ndarray:
    """As much of a file as is needed, at another rate."""
    parts: list[np.ndarray] = []
    for block in mixture_at(file, rate):
        parts.append(block)
        if sum(map(len, parts)) >= samples:
            break
    audio = np.concatenate(parts)[:samples]
    if not is_loud(audio):
        raise ValueError(f"{file.path}: is silent for the length of the score: there is no timbre to play it with")
    return audio


def _check(options: Synthesize) -> None:
    if options.score is None:
        raise ValueError(f"there is nothing to play: give --score. Example: {EXAMPLE}")
    if options.iterations < 0:
        raise ValueError(f"--iterations must be 0 or more, not {options.iterations}")
    if not 0 <= options.momentum < 1:
        raise ValueError(f"--momentum must be at least 0 and below 1, not {options.momentum:g}")
    keep_inputs([options.out], [options.file, options.score, *options.query])


def main() -> None:
    options = console.parse(Synthesize, "python -m qsep_jax.synthesize", EXAMPLE)
    _check(options)
    score = options.score or Path()
    notes, file = read_voice(score, options.track), AudioFile(options.file)
    seconds = float(notes[:, 1].max()) + TAIL
    container, subtype = format_for(options.out, file.subtype, math.ceil(seconds * file.sample_rate))
    console.cache_compilations()
    source = find_able(options.model, "synthesize")
    frame_rate = frame_rate_of(source.experiment().system)
    if options.transpose is not None:
        notes = transposed(notes, options.transpose)
        voice_classes(notes, score, frame_rate)  # refused before anything is loaded
    _, model = source.load()
    rate = model.system.sample_rate
    condition = mean(list(queries_of(model, options.query, False).values()))
    audio = _beginning(file, rate, math.ceil(seconds * rate))
    if options.transpose is None:
        notes = _in_register(notes, score, model, audio, condition)
    classes = voice_classes(notes, score, frame_rate, TAIL)
    played = synthesize(model, audio, condition, classes, options.iterations, options.momentum)
    played = resample(played, rate, file.sample_rate)
    peak = float(np.abs(played).max())
    if peak > 1.0:
        print(f"turned down by {20 * np.log10(peak):.1f} dB: its peak was beyond full scale")
        played = played / peak
    with AudioWriter(options.out, file.sample_rate, 1, subtype, container) as writer:
        writer.write(played)
    print(options.out)


if __name__ == "__main__":
    console.run(main)
