"""Fine-tune a model on songs: `qsep adapt song.wav --model runs/tasnet --activations song.csv`."""

from qsep_jax.command_line import huge_pages

if __name__ == "__main__":
    huge_pages.enable()

import dataclasses
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import tyro

from data_pipelines.annotations import activation_files
from data_pipelines.annotations.activations import any_channel
from data_pipelines.audio.reading import AudioFile
from data_pipelines.audio.writing import output_suffix
from data_pipelines.files import write_json, write_text
from data_pipelines.progress import Progress
from qsep_jax import __version__, api
from qsep_jax.command_line import console
from qsep_jax.command_line.manifest import Manifest, check_manifest, options_of
from qsep_jax.command_line.paths import below, distinct_tracks, find_files, keep_inputs
from qsep_jax.command_line.songs import Annotations, PreparedSong, prepare
from qsep_jax.evaluation.adaptation import median_sdr
from qsep_jax.figures.adaptation import draw_activations, draw_losses
from qsep_jax.inference import adaptation
from qsep_jax.inference.adaptation import Adapted, Batching
from qsep_jax.inference.adaptation_settings import settings_for
from qsep_jax.inference.files import separate_file
from qsep_jax.inference.model import Model
from qsep_jax.runs import delta
from qsep_jax.runs.bundle import describe
from qsep_jax.systems.base import Condition
from qsep_jax.systems.one_shot import CONDITION, Adaptation

PARTS = ("before", "after")
PICTURES = ("activations.png", "loss.png")
EXAMPLE = "qsep adapt song.wav --model runs/tasnet --activations song.csv --out adapted"


@dataclasses.dataclass(frozen=True)
class Adapt:
    """Fine-tune a model on each song, by when its stems sound (Cantisani et al. 2021).

    A CSV of `stem,start,end` in seconds, or an Audacity label track, says for each song when its stems sound;
    --template writes one to fill in. A stem that it does not name counts as sounding throughout. Written for each song:
    its stems before and after, activations.png (the annotation over the spectrogram), delta.safetensors (for
    `qsep separate --delta`; the model itself does not change), report.json and loss.png. A song is kept in memory.

    Attributes:
      files: Songs: files, folders (all audio below them) or quoted patterns such as 'album/*.flac'.
      out: Folder for the results.
      activations: One file for each song, in their order; or a folder that has one by each song's name.
      references: Folder with a folder of true stems for each song, `SONG/STEM.wav`: scores before and after are
        reported, and without --activations they are computed from the stems.
      threshold: Threshold of activations that are computed from stems; raise it where stems are noisy between notes.
      template: Write FILE.csv beside each song that has none, to be filled in, and stop.
      model: Run folder, bundle, or name of a bundled model.
      label: Stem of a query-based model: a class that it was trained on. May be given several times.
      query: Stem of a query-based model: a recording that sounds like it. The activations call the stem by the name of
        the file. May be given several times.
      split: Which parameters are trained: a strategy of the model's paper, such as l1 to l5; l1-frozen to l4-frozen
        leave the decoder as it is.
      trainable: The same as prefixes of parameters; `condition` is the condition of a query-based model, which is what
        is trained of it by default.
      epochs: Passes over the song.
      seconds: Length of the chunks of the song that an update takes.
      hop: Seconds from one chunk to the next.
      rate: Learning rate.
      weight: Weight of the estimates where their stems rest.
      reconstruction: What must add up to the mixture: active estimates summed (gated), each of them (each), or all
        estimates summed (mixture).
      pitch_copies: Pitch-shifted copies of each chunk.
      shifts: The earlier name of pitch_copies.
      seed: Seed of the pitch shifts.
      together: Songs in one program at a time (0: one on a CPU, as many as fit into the memory elsewhere).
      overwrite: Overwrite results of other songs, and files in OUT that its manifest.json does not list.
      how: Songs pass one after the other within the program (map) or side by side (vmap).
    """

    files: tyro.conf.Positional[tuple[str, ...]]
    out: Path = Path("adapted")
    activations: tuple[Path, ...] = ()
    references: Path | None = None
    threshold: float = 0.01
    template: bool = False
    model: str = ""
    label: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    query: tyro.conf.UseAppendAction[tuple[Path, ...]] = ()
    split: str = ""
    trainable: tuple[str, ...] = ()
    epochs: int | None = None
    seconds: float | None = None
    hop: float | None = None
    rate: float | None = None
    weight: float | None = None
    reconstruction: Literal["gated", "each", "mixture"] | None = None
    pitch_copies: int | None = None
    shifts: int | None = None
    seed: int = 42
    together: int = 0
    overwrite: bool = False
    how: Batching = "map"


@dataclasses.dataclass(frozen=True)
class _Task:
    """What all songs share: the model, its stems and their conditions, and the settings."""

    separator: api.Separator
    stems: tuple[str, ...]
    condition: Condition | None
    settings: Adaptation
    seed: int

    def outputs(self, song: Path, folder: Path) -> list[Path]:
        """The paths of all results of a song in its folder.

        Raises:
          ValueError: if the name of a stem leads out of the folder.
        """
        stems = [path for part in PARTS for path in self._stem_files(song, folder, part)]
        return [*stems, *(folder / name for name in (f"delta{delta.SUFFIX}", *PICTURES, "report.json"))]

    def _stem_files(self, song: Path, folder: Path, part: str) -> list[Path]:
        return [below(folder, f"{part}/{stem}{output_suffix(song)}") for stem in self.stems]

    def separate(self, song: PreparedSong, model: Model, condition: Condition | None, folder: str) -> list[Path]:
        """Separate the song's file by a model into `folder` of its results."""
        conditions = [()] if condition is None else [condition[row : row + 1] for row in range(len(self.stems))]
        paths = self._stem_files(song.path, song.out, folder)
        for written in separate_file(AudioFile(song.path), model, conditions, paths):
            if written.clipped:
                what = f"{written.path}: {written.clipped} samples clipped, peak {written.peak:.2f}"
                warnings.warn(what, stacklevel=2)
        return paths

    def write(self, song: PreparedSong, adapted: Adapted) -> dict[str, Any]:
        """Write the results of a song; its report."""
        model, saved = self.separator.model, self.separator.saved
        before = self.separate(song, model, self.condition, PARTS[0])
        changes = adaptation.delta_parameters(model, adapted, self.condition)
        after = self.separate(song, adaptation.with_parameters(model, changes), changes.get(CONDITION), PARTS[1])
        delta.write(song.out / f"delta{delta.SUFFIX}", changes, self.stems, self.settings, saved, model)
        active, rate = any_channel(song.song.active), model.system.sample_rate
        pictures = [song.out / name for name in PICTURES]
        draw_activations(song.song.mixture, active, self.stems, rate, song.song.name, pictures[0], song.unnamed)
        draw_losses(adapted, song.song.name, pictures[1])
        report = {"song": str(song.path), "updates": len(adapted.losses["loss"]), "skipped": adapted.skipped}
        report |= {"model": describe(saved), "adaptation": dataclasses.asdict(self.settings), "seed": self.seed}
        report |= {"changed": int(sum(leaf.size for leaf in changes.values()))}
        report |= {"losses": {name: values.tolist() for name, values in adapted.losses.items()}}
        if song.references is not None:
            report["sdr_before"] = median_sdr(before, song.references, rate, self.stems)
            report["sdr_after"] = median_sdr(after, song.references, rate, self.stems)
        write_json(song.out / "report.json", report)
        return report


def _write_templates(paths: Sequence[Path], stems: tuple[str, ...]) -> Iterator[Path]:
    for path in paths:
        target, file = path.with_suffix(".csv"), AudioFile(path)
        if target.exists():
            raise ValueError(f"{target} is there already: fill it in, or move it away")
        write_text(target, activation_files.template(stems, file.frames / file.sample_rate))
        yield target


def _check(options: Adapt, tracks: dict[Path, str]) -> None:
    if not (options.activations or options.references or options.template):
        raise ValueError("when does each stem sound? Give --activations (--template writes a file to fill in)")
    is_folder = len(options.activations) == 1 and options.activations[0].is_dir()
    if options.activations and not is_folder and len(options.activations) != len(tracks):
        raise ValueError(f"{len(tracks)} songs need as many --activations, not {len(options.activations)}; or a folder")
    if options.together < 0:
        raise ValueError(f"--together must be 0 or more, not {options.together}")


def _manifest(options: Adapt, separator: api.Separator, outputs: dict[Path, list[Path]]) -> Manifest:
    """The manifest of the results.

    Raises:
      ValueError: if a result would overwrite an input, the result of another song, or a file of the user.
    """
    facts = {"qsep_jax": __version__, "model": describe(separator.saved), "options": options_of(options)}
    manifest = Manifest(options.out, "adapted", facts, options.overwrite)
    owned = {output: [path] for path, of_song in outputs.items() for output in of_song}
    keep_inputs(owned, [*outputs, *options.activations, *options.query])
    manifest.check(owned)
    return manifest


def main() -> None:
    options = console.parse(Adapt, "qsep adapt", EXAMPLE)
    if not options.files:
        raise ValueError(f"no song to adapt to. Example: {EXAMPLE}")
    if not options.model:
        raise ValueError(f"which model is to be adapted? Give --model. Example: {EXAMPLE}")
    tracks = distinct_tracks(find_files(options.files, options.out), lambda path, track: track)
    _check(options, tracks)
    check_manifest(options.out)
    separator = api.load(options.model)
    queries = [(path.stem, AudioFile(path)) for path in options.query]
    stems, condition = separator.stems_to_adapt(options.label, queries)
    if options.template:
        for path in _write_templates(list(tracks), stems):
            print(path)
        return
    settings = settings_for(
        separator.system,
        options.split,
        trainable=options.trainable,
        learning_rate=options.rate,
        epochs=options.epochs,
        seconds=options.seconds,
        hop=options.hop,
        weight=options.weight,
        reconstruction=options.reconstruction,
        pitch_copies=options.pitch_copies,
        shifts=options.shifts,
    )
    task, start = _Task(separator, stems, condition, settings, options.seed), time.perf_counter()
    annotations = Annotations(options.activations, options.references, options.threshold)
    outputs = {path: task.outputs(path, below(options.out, name)) for path, name in tracks.items()}
    manifest = _manifest(options, separator, outputs)
    prepared = prepare(tracks, annotations, stems, separator.system, options.out)
    songs = [song.song for song in prepared]
    updates = adaptation.count_updates(songs, separator.system, settings)
    with Progress(f"adapting to {len(songs)} songs", updates, unit="update") as progress:
        results = adaptation.adapt(
            separator.model,
            songs,
            settings,
            conditions=condition,
            seed=options.seed,
            together=options.together,
            how=options.how,
            advance=progress.advance,
        )
        # Each song is written as soon as it is finished, so that a later failure loses nothing of it.
        lines = []
        for song, adapted in zip(prepared, results, strict=True):
            with manifest.publishing([song.path], outputs[song.path]):
                lines.append(_summary(song, task.write(song, adapted)))
    print("\n".join([*lines, f"adapted in {time.perf_counter() - start:.1f} s"]))


def _summary(song: PreparedSong, report: dict[str, Any]) -> str:
    losses = report["losses"]["loss"]
    line = f"{song.out}: loss {losses[0]:.4f} to {losses[-1]:.4f}"
    if report["skipped"]:
        line += f"; {report['skipped']} of {report['updates']} updates were not finite and skipped"
    if "sdr_after" in report:
        before, after = report["sdr_before"], report["sdr_after"]
        line += "; SDR " + ", ".join(f"{stem} {before[stem]:.1f} to {after[stem]:.1f} dB" for stem in before)
    return line


if __name__ == "__main__":
    console.run(main)
