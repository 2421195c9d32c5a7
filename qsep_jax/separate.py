"""Separate files by query, label or video: `qsep separate mix.wav --query violin.wav`."""

import contextlib
import dataclasses
import warnings
from pathlib import Path
from typing import Any, Literal

import tyro

from data_pipelines.annotations import note_files
from data_pipelines.audio.reading import AudioFile
from data_pipelines.progress import Progress
from qsep_jax import __version__, api
from qsep_jax.command_line import console, requests
from qsep_jax.command_line.manifest import Manifest, check_manifest, options_of
from qsep_jax.command_line.paths import check_template, find_files, output_paths
from qsep_jax.command_line.requests import Outputs, Request
from qsep_jax.inference.files import Written
from qsep_jax.runs.bundle import describe
from qsep_jax.runs.folder import Step
from qsep_jax.systems.capabilities import need

EXAMPLE = "qsep separate mix.wav --query violin.wav --out separated"
# Options that cannot be combined with a score.
NOT_WITH_SCORE = ("label", "retrieve", "interpolate", "video", "iterations", "wiener", "residual")


@dataclasses.dataclass(frozen=True)
class Separate:
    """Separate audio files; each --query or --label gives one output.

    Some models give all of their stems at once: they are conditioned on labels (--label for each instrument that
    plays), on a video of the players (--video), or on nothing. Instruments that the condition marks as absent are
    silent: they get no file, and their names are printed.

    Sample rate, channels, length, container and sample format of the input are kept (MP3 becomes WAV). A mixture may
    have any length and any sample rate from 8 to 192 kHz; the model works at its own rate, so the outputs hold nothing
    above half of that. A file that cannot be separated is skipped with a message, and the exit code is 2.

    Attributes:
      files: Mixtures: files, folders (all audio below them) or quoted patterns such as 'album/*.flac'.
      out: Folder for the outputs and manifest.json.
      model: Run folder, bundle, or name of a bundled model; by default the bundled model that fits the condition.
      step: Checkpoint of a run folder: the number of its step, `last`, or `best`, which has the lowest validation loss.
      delta: What `qsep adapt` wrote for a song: the model is used as it was adapted to that song, for the same stems.
      query: Recording that sounds like the source; its windows are averaged. May be given several times.
      label: Class that the model was trained on: the mean condition of its training tracks; for a model conditioned on
        labels, an instrument that plays; for other models that give all stems at once, a stem to keep. May be given
        several times.
      video: Video of the players of a single mixture, for a model that is conditioned on video.
      boxes: Where in the picture each player is: JSON of {name: [x, y, width, height]} in pixels. Players who are named
        by their instruments are the only ones. By default the whole picture is one player.
      retrieve: Class, represented by its training track that is nearest to the query or, without a query, to a first
        estimate. May be given several times.
      interpolate: Two labels or query files A and B, and ALPHA from 0 (A) to 1 (B): the condition between them.
      average_queries: Average all queries to one condition.
      score: Notes of the source, one voice in a MIDI file or in a .csv as `qsep transcribe` writes it; needs a single
        --query.
      track: Which track of --score with notes other than drums, from 1; by default all.
      iterations: Rounds of separating and encoding the estimate as the next query.
      wiener: Iterations of a multichannel Wiener filter over all outputs and the residual.
      residual: Also write what the outputs leave of the mixture.
      clip: What happens in integer formats to samples beyond full scale: `clamp` cuts the peaks off, `rescale` turns
        down all outputs of the file by one gain.
      name: Path of an output below OUT, from {track}, {stem} and {ext}; another extension converts.
      overwrite: Overwrite outputs of other inputs, and files in OUT that its manifest.json does not list.
    """

    files: tyro.conf.Positional[tuple[str, ...]]
    out: Path = Path("separated")
    model: str = ""
    step: Step = "best"
    delta: Path | None = None
    query: tyro.conf.UseAppendAction[tuple[Path, ...]] = ()
    label: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    retrieve: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    interpolate: tuple[str, str, float] | None = None
    video: Path | None = None
    boxes: Path | None = None
    average_queries: bool = False
    score: Path | None = None
    track: int | None = None
    iterations: int = 0
    wiener: int = 0
    residual: bool = False
    clip: Literal["clamp", "rescale"] = "clamp"
    name: str = "{track}/{stem}.{ext}"
    overwrite: bool = False

    @property
    def inputs(self) -> list[Path]:
        """Files besides the mixtures, which no output may overwrite."""
        named = [path for path in (self.score, self.video, self.boxes) if path]
        return [*self.query, *named, *(Path(word) for word in (self.interpolate or ())[:2])]


def _check(options: Separate) -> None:
    if not options.files:
        raise ValueError(f"no file to separate. Example: {EXAMPLE}")
    for name in ("iterations", "wiener"):
        if getattr(options, name) < 0:
            raise ValueError(f"--{name} must be 0 or more, not {getattr(options, name)}")
    if options.track is not None and not options.score:
        raise ValueError("--track selects a track of a --score: give one")
    if options.score:
        for name in NOT_WITH_SCORE:
            if getattr(options, name):
                raise ValueError(f"--score is used with a --query alone: leave out --{name}")
        if options.clip != "clamp":
            raise ValueError(f"with --score, peaks are cut off: leave out --clip {options.clip}")
        if len(options.query) > 1 and not options.average_queries:
            raise ValueError("--score has the notes of one source: give one --query, or --average-queries")
    check_template(options.name)


def _request(options: Separate) -> Request:
    """What the options ask for. A word of --interpolate is a query file if there is one of that name, else a label."""
    queries = requests.unique([(path.stem, AudioFile(path)) for path in options.query])
    interpolate = None
    if options.interpolate:
        first, second, alpha = options.interpolate
        start, end = (AudioFile(word) if Path(word).is_file() else word for word in (first, second))
        interpolate = (start, end, alpha)
    return Request(
        queries=dict(queries),
        labels=options.label,
        retrieve=options.retrieve,
        interpolate=interpolate,
        average_queries=options.average_queries,
        iterations=options.iterations,
        video=options.video,
        boxes=options.boxes,
        residual=options.residual,
        score=note_files.voice_of(options.score, options.track) if options.score else None,
    )


def _separate(
    path: Path,
    paths: list[Path],
    options: Separate,
    separator: api.Separator,
    outputs: Outputs,
    manifest: Manifest,
) -> None:
    """Separate one file and add it to the manifest."""
    mixture = AudioFile(path)

    def publish(written: list[Written]) -> contextlib.AbstractContextManager[None]:
        names = [*outputs.names, "residual"][: len(written)]
        facts = {
            "sample_rate": mixture.sample_rate,
            "channels": mixture.channels,
            "container": mixture.container,
            "subtype": mixture.subtype,
            "outputs": [
                {"stem": stem, **dataclasses.asdict(output), "path": str(output.path)}
                for stem, output in zip(names, written, strict=True)
            ],
        }
        return manifest.publishing([path], paths, facts)

    with Progress(f"separating {path.name}", mixture.frames, unit="sample") as progress:
        separator.write(
            mixture,
            outputs,
            paths,
            wiener=options.wiener,
            residual=options.residual,
            rescale=options.clip == "rescale",
            advance=progress.advance,
            publish=publish,
        )


def _manifest(options: Separate, separator: api.Separator, outputs: Outputs) -> Manifest:
    facts: dict[str, Any] = {"qsep_jax": __version__, "model": describe(separator.saved)}
    facts |= {"options": options_of(options)}
    if outputs.stems:
        facts["silent"] = list(outputs.silent)
    return Manifest(options.out, "separated", {**facts, "failed": []}, options.overwrite)


def main() -> None:
    options = console.parse(Separate, "qsep separate", EXAMPLE)
    _check(options)
    tracks = find_files(options.files, options.out)
    check_manifest(options.out)
    cue = "score" if options.score else "frames" if options.video else "query"
    separator = api.load(options.model, cue=cue, delta=options.delta, step=options.step)
    if options.score:
        need(separator.system, "separate_by_score")
    request = _request(options)
    if options.video and len(tracks) > 1:
        raise ValueError(f"--video shows the players of one mixture, not of {len(tracks)}: separate them one by one")
    if not options.model:
        print(f"model: {separator.name}, bundled with qsep_jax {__version__}")
    outputs = separator.outputs(request, report=print)
    paths = output_paths(
        tracks, [*outputs.names, *["residual"] * options.residual], options.out, options.name, options.inputs
    )
    manifest = _manifest(options, separator, outputs)
    manifest.check({output: [path] for path, of_file in paths.items() for output in of_file})
    if outputs.silent:
        print(f"absent by the condition, so silent and not written: {', '.join(outputs.silent)}")
    failed = manifest.entry["failed"]
    for path in tracks:
        try:
            _separate(path, paths[path], options, separator, outputs, manifest)
            _report(manifest.items[-1])
        except (ValueError, OSError) as error:
            message = console.message_of(error)
            message = message if str(path) in message else f"{path}: {message}"
            failed.append({"file": str(path), "error": message})
            manifest.save()
            if len(tracks) > 1:
                print(f"skipped: {message}")
    if failed:
        reasons = "; ".join(failure["error"] for failure in failed)
        raise ValueError(f"{len(failed)} of {len(tracks)} files could not be separated: {reasons}")


def _report(separated: dict[str, Any]) -> None:
    """Print the outputs of a mixture: where the sample format differs from the input's, and what was clipped."""
    for output in separated["outputs"]:
        kind, source = (f"{item['container']} {item['subtype']}" for item in (output, separated))
        differs = output["subtype"] != separated["subtype"]
        print(output["path"] + f"  (written as {kind}, the input is {source})" * differs)
        if output["clipped"]:
            clipped = f"{output['path']}: {output['clipped']} samples clipped, peak {output['peak']:.2f}"
            warnings.warn(f"{clipped}; --clip rescale turns all outputs down instead", stacklevel=2)


if __name__ == "__main__":
    console.run(main)
