"""Play a score with the timbre of a source: `qsep synthesize mix.wav --query violin.wav --score melody.mid`."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import tyro

from data_pipelines.annotations.note_files import read_voice
from data_pipelines.annotations.notes import pitch_name, transpose, voice_classes
from data_pipelines.audio.reading import AudioFile
from data_pipelines.audio.writing import AudioWriter, all_or_none, format_for
from qsep_jax import __version__, api
from qsep_jax.command_line import console, requests
from qsep_jax.command_line.manifest import Manifest, check_manifest, options_of
from qsep_jax.command_line.paths import keep_inputs
from qsep_jax.inference.synthesis import TAIL
from qsep_jax.runs.bundle import describe
from qsep_jax.systems.capabilities import frame_rate_of, need

EXAMPLE = "qsep synthesize mix.wav --query violin.wav --score melody.mid --out played.wav"


@dataclasses.dataclass(frozen=True)
class Synthesize:
    """Let a source of an audio file play another score, a single voice.

    The output is mono, as long as the score, at the sample rate of the input. It is turned down if it would clip.

    Attributes:
      file: Mixture in which the source sounds; it is repeated or cut to the length of the score.
      query: Recording that sounds like the source; several are averaged.
      score: MIDI file, or .csv as `qsep transcribe` writes it.
      track: Which track of the MIDI file with notes other than drums, from 1; by default all.
      transpose: Semitones; by default whole octaves, to the register in which the source plays.
      model: Run folder, bundle, or name of a bundled model; by default the bundled model that takes scores.
      iterations: Iterations of Griffin-Lim, which computes the phase.
      momentum: Momentum of Griffin-Lim, at least 0 and below 1; 0.99 converges faster.
      out: Output file: .wav, .flac, .ogg, .aiff, …; its folder gets a manifest.json.
      overwrite: Overwrite the output of other inputs, or a file that the manifest.json of its folder does not list.
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
    overwrite: bool = False


def _beginning(file: AudioFile, seconds: float) -> np.ndarray:
    """The first seconds of a file, `[T, C]`, or all of a shorter one."""
    samples = math.ceil(seconds * file.sample_rate)
    blocks: list[np.ndarray] = []
    for block in file.blocks():
        blocks.append(block)
        if sum(map(len, blocks)) >= samples:
            break
    return np.concatenate(blocks)[:samples]


def _check(options: Synthesize) -> None:
    if options.score is None:
        raise ValueError(f"there is nothing to play: give --score. Example: {EXAMPLE}")
    if not options.query:
        raise ValueError("no query: give --query, a recording that sounds like the source")
    if options.iterations < 0:
        raise ValueError(f"--iterations must be 0 or more, not {options.iterations}")
    if not 0 <= options.momentum < 1:
        raise ValueError(f"--momentum must be at least 0 and below 1, not {options.momentum:g}")
    keep_inputs([options.out], [options.file, options.score, *options.query])


def main() -> None:
    options = console.parse(Synthesize, "qsep synthesize", EXAMPLE)
    _check(options)
    score = options.score or Path()
    notes, file = read_voice(score, options.track), AudioFile(options.file)
    seconds = float(notes[:, 1].max()) + TAIL
    container, subtype = format_for(options.out, file.subtype, math.ceil(seconds * file.sample_rate))
    check_manifest(options.out.parent)
    separator = api.load(options.model, cue="score")
    need(separator.system, "synthesize")
    if options.transpose is not None:  # refused before the weights are loaded
        voice_classes(transpose(notes, options.transpose), score, frame_rate_of(separator.system))
    if not options.model:
        print(f"model: {separator.name}, bundled with qsep_jax {__version__}")
    facts = {"qsep_jax": __version__, "model": describe(separator.saved), "options": options_of(options)}
    facts["options"] |= {"out": str(options.out.parent)}
    manifest = Manifest(options.out.parent, "synthesized", facts, options.overwrite)
    manifest.check({options.out: [options.file]})
    queries = requests.unique([(path.stem, AudioFile(path)) for path in options.query])
    (condition,) = requests.encode_queries(separator.model, dict(queries), average=True).values()
    beginning = _beginning(file, seconds)
    if not beginning.any():
        raise ValueError(f"{file.path}: is silent for the length of the score, so it has no timbre to play")
    result = separator.synthesize(
        beginning,
        file.sample_rate,
        score=score,
        track=options.track,
        condition=condition,
        semitones=options.transpose,
        iterations=options.iterations,
        momentum=options.momentum,
    )
    if options.transpose is None:
        if result.register is None:
            print("transposed by 0 semitones: no note of the source was found, so its register is unknown")
        else:
            place = f"the source plays around {pitch_name(result.register)}"
            print(f"transposed by {result.semitones:+d} semitones: {place} (--transpose 0 leaves the score as it is)")
    if result.gain < 1.0:
        print(f"turned down by {-20 * np.log10(result.gain):.1f} dB: its peak was beyond full scale")
    with all_or_none([], lambda: manifest.publishing([options.file], [options.out])) as writers:
        writers.append(AudioWriter(options.out, file.sample_rate, 1, subtype, container))
        writers[0].write(result.audio[:, None])
    print(options.out)


if __name__ == "__main__":
    console.run(main)
