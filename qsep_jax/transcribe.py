"""Write down what a source plays, asked for by example: `python -m qsep_jax.transcribe mix.wav --query violin.wav`."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tyro

from data_pipelines.annotations.note_files import write_csv, write_midi
from data_pipelines.annotations.notes import notes_of
from data_pipelines.audio.reading import AudioFile
from data_pipelines.audio.writing import write_wav
from data_pipelines.corpora.render import default_soundfont, level, render
from data_pipelines.files import atomic_write
from data_pipelines.progress import Progress
from qsep_jax.command_line import console
from qsep_jax.command_line.paths import find_files, keep_inputs
from qsep_jax.command_line.requests import find_able, queries_of
from qsep_jax.figures.piano_roll import piano_roll
from qsep_jax.inference.files import mixture_at
from qsep_jax.inference.model import Model
from qsep_jax.inference.transcription import frame_rate_of, transcribe_blocks
from qsep_jax.systems.base import Condition

EXAMPLE = "python -m qsep_jax.transcribe mix.wav --query violin.wav --out transcribed"
ENDINGS = (".mid", ".csv", ".npz", ".png", "_sonified.wav")
# Seconds from the beginning that the picture shows: of more, nothing could be read.
DRAWN = 60.0
LOUDNESS, VELOCITY = 0.1, 100.0


@dataclasses.dataclass(frozen=True)
class Transcribe:
    """Write down the notes of the sources of audio files; each --query gives the notes of one, a single voice.

    For each file and query: QUERY.mid, QUERY.csv (onset, offset, pitch), QUERY.npz (class and probabilities of each
    frame, and frames per second), QUERY.png (the notes over the spectrogram, of the first minute) and
    QUERY_sonified.wav (the notes played back) in the folder OUT/TRACK. A file that cannot be transcribed is named and
    left out, and the command ends with exit code 2.

    Attributes:
      files: the mixtures: files, folders (all audio below them) or quoted patterns such as 'album/*.flac'.
      out: folder for the results.
      model: a run folder, a bundle or the name of a carried one; by default the carried one that transcribes.
      query: audio that sounds like the source; its windows are averaged.
      average_queries: whether all queries together ask for one source.
      shortest: seconds below which a note is taken for a mistake and left out; 0 keeps all.
      program: General MIDI instrument of the .mid and of what is played back, 0 to 127 (0 piano, 40 violin, 73 flute).
    """

    files: tyro.conf.Positional[tuple[str, ...]]
    out: Path = Path("transcribed")
    model: str = ""
    query: tyro.conf.UseAppendAction[tuple[Path, ...]] = ()
    average_queries: bool = False
    shortest: float = 0.05
    program: int = 0


def targets_of(files: dict[Path, str], names: list[str], options: Transcribe) -> dict[Path, list[str]]:
    """Where the outputs of each file and query go, without their endings.

    Raises:
      ValueError: if two files have one place, or an output that of an input.
    """
    places: dict[str, Path] = {}
    for path, track in files.items():
        if track in places:
            raise ValueError(f"{options.out / track} would be of both {places[track]} and {path}: give one at a time")
        places[track] = path
    found = {path: [str(options.out / track / name) for name in names] for path, track in files.items()}
    every = [Path(place + ending) for each in found.values() for place in each for ending in ENDINGS]
    keep_inputs(every, [*files, *options.query])
    return found


def _transcribe(path: Path, places: list[str], options: Transcribe, model: Model, asked: dict[str, Condition]) -> None:
    """Transcribe one file, once for each condition."""
    file, rate = AudioFile(path), model.system.sample_rate
    with Progress(f"transcribing {path.name}", file.frames * len(asked), unit="sample") as progress:
        for (name, condition), place in zip(asked.items(), places, strict=True):
            beginning: list[np.ndarray] = []  # as much of the mixture as is drawn, at the model's rate
            heard = False

            def mixture(beginning: list[np.ndarray] = beginning) -> Iterator[np.ndarray]:
                nonlocal heard
                for block in mixture_at(file, rate):
                    heard = heard or bool(block.any())
                    if sum(map(len, beginning)) < DRAWN * rate:
                        beginning.append(block)
                    progress.advance(round(len(block) * file.sample_rate / rate))
                    yield block

            probabilities = np.concatenate(list(transcribe_blocks(model, mixture(), condition)))
            if not heard:
                raise ValueError(f"{path}: is silent: there is nothing to transcribe")
            drawn = np.concatenate(beginning)[: round(DRAWN * rate)]
            _write(place, probabilities, drawn, f"{path.name}: {name}", file, options, model)


def _write(
    place: str,
    probabilities: np.ndarray,
    drawn: np.ndarray,
    title: str,
    file: AudioFile,
    options: Transcribe,
    model: Model,
) -> None:
    """Write all that is known of one transcription."""
    frame_rate = frame_rate_of(model.system)
    classes, seconds = probabilities.argmax(axis=1), file.frames / file.sample_rate
    notes = notes_of(classes, frame_rate, options.shortest)
    midi, table, arrays, picture, sound = (Path(place + ending) for ending in ENDINGS)
    write_midi(midi, notes, options.program)
    write_csv(table, notes)
    with atomic_write(arrays) as unfinished, unfinished.open("wb") as stream:
        np.savez_compressed(
            stream, classes=classes.astype(np.int32), probabilities=probabilities, frame_rate=np.float64(frame_rate)
        )
    title += f", first {DRAWN:g} s" if seconds > DRAWN else ""
    piano_roll(drawn, notes, model.system.sample_rate, title, picture)
    velocities = np.full(len(notes), VELOCITY)
    played = render(notes, velocities, options.program, seconds, file.sample_rate, default_soundfont())
    write_wav(sound, level(played, LOUDNESS), file.sample_rate)
    print(f"{midi}: {len(notes)} notes; also {', '.join(ENDINGS[1:])}")


def main() -> None:
    options = console.parse(Transcribe, "python -m qsep_jax.transcribe", EXAMPLE)
    if not options.files:
        raise ValueError(f"no file to transcribe. Example: {EXAMPLE}")
    if not 0 <= options.shortest < np.inf:
        raise ValueError(f"--shortest must be 0 or more seconds, not {options.shortest:g}")
    if not 0 <= options.program <= 127:
        raise ValueError(f"--program must be 0 to 127, not {options.program}")
    files = find_files(options.files, options.out)
    console.cache_compilations()
    _, model = find_able(options.model, "transcribe").load()
    asked = queries_of(model, options.query, options.average_queries)
    targets, failed = targets_of(files, list(asked), options), []
    for path in files:
        try:
            _transcribe(path, targets[path], options, model, asked)
        except (ValueError, OSError) as error:
            words = console.in_words(error)
            failed.append(words if str(path) in words else f"{path}: {words}")
            if len(files) > 1:
                print(f"left out: {failed[-1]}")
    if failed:
        raise ValueError(f"{len(failed)} of {len(files)} files could not be transcribed: {'; '.join(failed)}")


if __name__ == "__main__":
    console.run(main)
