"""Transcribe a source by query: `qsep transcribe mix.wav --query violin.wav`."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tyro

from data_pipelines.annotations.note_files import write_csv, write_midi
from data_pipelines.annotations.notes import notes_from_classes
from data_pipelines.audio.reading import AudioFile
from data_pipelines.audio.writing import write_wav
from data_pipelines.corpora.render import default_soundfont, level, render
from data_pipelines.files import atomic_write
from data_pipelines.progress import Progress
from qsep_jax import __version__, api
from qsep_jax.command_line import console, requests
from qsep_jax.command_line.manifest import Manifest, check_manifest, options_of
from qsep_jax.command_line.paths import below, distinct_tracks, find_files, keep_inputs
from qsep_jax.figures.piano_roll import piano_roll
from qsep_jax.inference.files import mixture_at
from qsep_jax.inference.model import Model
from qsep_jax.inference.transcription import transcribe_blocks
from qsep_jax.runs.bundle import describe
from qsep_jax.systems.base import Condition
from qsep_jax.systems.capabilities import frame_rate_of, need

EXAMPLE = "qsep transcribe mix.wav --query violin.wav --out transcribed"
ENDINGS = (".mid", ".csv", ".npz", ".png", "_sonified.wav")
# Seconds from the beginning that the picture shows; more would not be legible.
DRAWN = 60.0
LOUDNESS, VELOCITY = 0.1, 100.0


@dataclasses.dataclass(frozen=True)
class Transcribe:
    """Transcribe sources of audio files; each --query gives the notes of one source, a single voice.

    For each file and query the folder OUT/TRACK gets QUERY.mid, QUERY.csv (onset, offset, pitch), QUERY.npz (class and
    probabilities of each frame, and frames per second), QUERY.png (the notes over the spectrogram of the first minute)
    and QUERY_sonified.wav (the notes played by a synthesizer). A file that cannot be transcribed is skipped with a
    message, and the exit code is 2.

    Attributes:
      files: Mixtures: files, folders (all audio below them) or quoted patterns such as 'album/*.flac'.
      out: Folder for the results.
      model: Run folder, bundle, or name of a bundled model; by default the bundled model that transcribes.
      query: Recording that sounds like the source; its windows are averaged. May be given several times.
      average_queries: Average all queries to one condition.
      shortest: Seconds below which a note is left out; 0 keeps all.
      program: General MIDI program of the .mid and of the synthesizer, 0 to 127 (0 piano, 40 violin, 73 flute).
      overwrite: Overwrite outputs of other inputs, and files in OUT that its manifest.json does not list.
    """

    files: tyro.conf.Positional[tuple[str, ...]]
    out: Path = Path("transcribed")
    model: str = ""
    query: tyro.conf.UseAppendAction[tuple[Path, ...]] = ()
    average_queries: bool = False
    shortest: float = 0.05
    program: int = 0
    overwrite: bool = False


def output_stems(tracks: dict[Path, str], names: list[str], options: Transcribe) -> dict[Path, list[str]]:
    """Where the outputs of each file and query go, without their endings; tracks of one name get longer names.

    Raises:
      ValueError: if an output would be outside of the folder for outputs, or overwrite an input.
    """
    tracks = distinct_tracks(tracks, lambda path, track: track)
    stems = {path: [str(below(options.out, f"{track}/{name}")) for name in names] for path, track in tracks.items()}
    keep_inputs((path for of_file in stems.values() for path in _files(of_file)), [*tracks, *options.query])
    return stems


def _files(stems: list[str]) -> list[Path]:
    return [Path(stem + ending) for stem in stems for ending in ENDINGS]


def _transcribe(
    path: Path,
    stems: list[str],
    options: Transcribe,
    model: Model,
    sources: dict[str, Condition],
    manifest: Manifest,
) -> None:
    """Transcribe one file, once for each source."""
    file, rate = AudioFile(path), model.system.sample_rate
    with Progress(f"transcribing {path.name}", file.frames * len(sources), unit="sample") as progress:
        for (name, condition), stem in zip(sources.items(), stems, strict=True):
            beginning: list[np.ndarray] = []  # as much of the mixture as is drawn, at the model's rate
            silent = True

            def mixture(beginning: list[np.ndarray] = beginning) -> Iterator[np.ndarray]:
                nonlocal silent
                for block in mixture_at(file, rate):
                    silent = silent and not block.any()
                    if sum(map(len, beginning)) < DRAWN * rate:
                        beginning.append(block)
                    progress.advance(round(len(block) * file.sample_rate / rate))
                    yield block

            probabilities = np.concatenate(list(transcribe_blocks(model, mixture(), condition)))
            if silent:
                raise ValueError(f"{path}: is silent: there is nothing to transcribe")
            drawn = np.concatenate(beginning)[: round(DRAWN * rate)]
            with manifest.publishing([path], _files([stem])):
                _write(stem, probabilities, drawn, f"{path.name}: {name}", file, options, model)


def _write(
    stem: str,
    probabilities: np.ndarray,
    drawn: np.ndarray,
    title: str,
    file: AudioFile,
    options: Transcribe,
    model: Model,
) -> None:
    """Write the files of one transcription."""
    frame_rate = frame_rate_of(model.system)
    classes, seconds = probabilities.argmax(axis=1), file.frames / file.sample_rate
    notes = notes_from_classes(classes, frame_rate, options.shortest)
    midi, table, arrays, picture, sound = (Path(stem + ending) for ending in ENDINGS)
    write_midi(midi, notes, options.program)
    write_csv(table, notes)
    with atomic_write(arrays) as unfinished, unfinished.open("wb") as stream:
        np.savez_compressed(
            stream, classes=classes.astype(np.int32), probabilities=probabilities, frame_rate=np.float64(frame_rate)
        )
    title += f", first {DRAWN:g} s" if seconds > DRAWN else ""
    piano_roll(drawn, notes, model.system.sample_rate, title, picture)
    velocities = np.full(len(notes), VELOCITY)
    sonified = render(notes, velocities, options.program, seconds, file.sample_rate, default_soundfont())
    write_wav(sound, level(sonified, LOUDNESS), file.sample_rate)
    print(f"{midi}: {len(notes)} notes; also {', '.join(ENDINGS[1:])}")


def main() -> None:
    options = console.parse(Transcribe, "qsep transcribe", EXAMPLE)
    if not options.files:
        raise ValueError(f"no file to transcribe. Example: {EXAMPLE}")
    if not 0 <= options.shortest < np.inf:
        raise ValueError(f"--shortest must be 0 or more seconds, not {options.shortest:g}")
    if not 0 <= options.program <= 127:
        raise ValueError(f"--program must be 0 to 127, not {options.program}")
    if not options.query:
        raise ValueError("no query: give --query, a recording that sounds like the source")
    tracks = find_files(options.files, options.out)
    check_manifest(options.out)
    separator = api.load(options.model, cue="score")
    need(separator.system, "transcribe")
    if not options.model:
        print(f"model: {separator.name}, bundled with qsep_jax {__version__}")
    queries = requests.unique([(path.stem, AudioFile(path)) for path in options.query])
    sources = requests.encode_queries(separator.model, dict(queries), options.average_queries)
    stems, failures = output_stems(tracks, list(sources), options), []
    facts = {"qsep_jax": __version__, "model": describe(separator.saved), "options": options_of(options)}
    manifest = Manifest(options.out, "transcribed", facts, options.overwrite)
    manifest.check({output: [path] for path, of_file in stems.items() for output in _files(of_file)})
    for path in tracks:
        try:
            _transcribe(path, stems[path], options, separator.model, sources, manifest)
        except (ValueError, OSError) as error:
            message = console.message_of(error)
            failures.append(message if str(path) in message else f"{path}: {message}")
            if len(tracks) > 1:
                print(f"skipped: {failures[-1]}")
    if failures:
        raise ValueError(f"{len(failures)} of {len(tracks)} files could not be transcribed: {'; '.join(failures)}")


if __name__ == "__main__":
    console.run(main)
