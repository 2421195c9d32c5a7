"""Separate files by example, label or video: `python -m qsep_jax.separate mix.wav --query violin.wav`."""

import dataclasses
import json
import string
import time
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tyro

from data_pipelines.annotations.note_files import read_voice
from data_pipelines.annotations.notes import voice_classes
from data_pipelines.audio.reading import AudioFile
from data_pipelines.audio.writing import suffix_like
from data_pipelines.files import write_text
from data_pipelines.progress import Progress
from qsep_jax import __version__
from qsep_jax.command_line import console, requests
from qsep_jax.command_line.paths import find_files
from qsep_jax.command_line.requests import Asked
from qsep_jax.inference.conditions import iterate
from qsep_jax.inference.files import Written, mixture_at, separate_file
from qsep_jax.inference.model import Model
from qsep_jax.inference.transcription import frame_rate_of, need, separate_file_by_score
from qsep_jax.runs import delta
from qsep_jax.runs.bundle import describe, find_model

EXAMPLE = "python -m qsep_jax.separate mix.wav --query violin.wav --out separated"
PLACES = ("track", "stem", "ext")
# What cannot be asked for together with a score.
NOT_BY_SCORE = ("label", "retrieve", "interpolate", "video", "iterations", "wiener", "residual")


@dataclasses.dataclass(frozen=True)
class Separate:
    """Separate audio files into what is asked for; each --query or --label gives one output.

    Some models give all of their stems at once: they are told by --label which are there, or see it by --video, or need
    no word at all. What they are told is not there is silent, gets no file, and is named.

    Rate, channel count, length, container and sample format of the input are kept (MP3 becomes WAV). A mixture may have
    any length and any rate from 8 to 192 kHz; the model hears it at its own rate, so nothing above half of that is in
    the output. A file that cannot be separated is named and left out, and the command ends with exit code 2.

    Attributes:
      files: the mixtures: files, folders (all audio below them) or quoted patterns such as 'album/*.flac'.
      out: folder for the results and manifest.json.
      model: a run folder, a bundle or the name of a carried one; by default the carried one.
      delta: what `adapt` found for a song, to be put into the model; what it was adapted to give is what is asked for.
      query: audio that sounds like what is wanted; its windows are averaged.
      label: a class that the model was trained on, by the mean of its training tracks; for a model that is told by
        labels, one that is there; for others that give all stems at once, one that is wanted.
      video: a video of the players of a single mixture, for a model that looks.
      boxes: where in the picture each player is, JSON of {name: [x, y, width, height]} in pixels; players named by
        their instruments are all that there are. By default the whole picture is one player.
      retrieve: a class, by its training track that is nearest to the query or, without one, to a first estimate.
      interpolate: two labels or query files A and B and ALPHA from 0 (A) to 1 (B), for what lies between them.
      average_queries: whether all queries together ask for one source.
      score: what the source plays, one voice in a MIDI file or a .csv as `transcribe` writes it; for a single --query.
      track: which of the tracks of --score that hold notes other than drums, from 1; all by default.
      iterations: rounds of separating and asking again with the estimate.
      wiener: iterations of a multichannel Wiener filter over everything asked for and the rest.
      residual: whether to write what the outputs leave of the mixture, too.
      clip: what happens to integer formats beyond full scale: `clamp` cuts the peaks off, `rescale` turns down all
        outputs of the file by one gain.
      name: of an output below OUT, from {track}, {stem} and {ext}; another extension converts.
    """

    files: tyro.conf.Positional[tuple[str, ...]]
    out: Path = Path("separated")
    model: str = ""
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


def targets_of(files: dict[Path, str], stems: Sequence[str], options: Separate) -> dict[Path, list[Path]]:
    """Where each mixture's outputs go, in the order of `stems`.

    Raises:
      ValueError: if two would be written to one path, or one over an input.
    """
    inputs = [
        *files,
        *options.query,
        *(path for path in (options.score, options.video, options.boxes) if path),
        *(Path(word) for word in (options.interpolate or ())[:2]),
    ]
    read = {path.resolve() for path in inputs if path.exists()}
    found: dict[Path, list[Path]] = {}
    taken: dict[Path, Path] = {}
    for path, track in files.items():
        ext = suffix_like(path)[1:]
        found[path] = [options.out / options.name.format(track=track, stem=stem, ext=ext) for stem in stems]
        for target in found[path]:
            if target.resolve() in read:
                raise ValueError(f"{target} would be written over an input: give another --out or --name")
            if target in taken:
                raise ValueError(f"{target} would be of both {taken[target]} and {path}: separate them one by one")
            taken[target] = path
    return found


def _check(options: Separate) -> None:
    if not options.files:
        raise ValueError(f"no file to separate. Example: {EXAMPLE}")
    for name in ("iterations", "wiener"):
        if getattr(options, name) < 0:
            raise ValueError(f"--{name} must be 0 or more, not {getattr(options, name)}")
    if options.track is not None and not options.score:
        raise ValueError("--track says which track of a --score: give one")
    if options.boxes and not options.video:
        raise ValueError("--boxes are of the players in a --video: give one")
    if options.score:
        for name in NOT_BY_SCORE:
            if getattr(options, name):
                raise ValueError(f"--score is for a --query alone: leave out --{name}")
        if options.clip != "clamp":
            raise ValueError(f"with --score, peaks are cut off: leave out --clip {options.clip}")
        if len(options.query) > 1 and not options.average_queries:
            raise ValueError("--score is what one source plays: give one --query, or --average-queries")
    try:
        options.name.format(**dict.fromkeys(PLACES, "x"))
        used = {place for _, place, _, _ in string.Formatter().parse(options.name) if place is not None}
    except (ValueError, KeyError, IndexError, AttributeError):
        used = {options.name}
    if not used <= set(PLACES) or "stem" not in used:
        raise ValueError(f"--name must have {{stem}}, and may have {{track}} and {{ext}}, not '{options.name}'")


def _separate(path: Path, targets: list[Path], options: Separate, model: Model, wanted: Asked) -> dict[str, Any]:
    """Separate one file; its entry in the manifest."""
    file, rate = AudioFile(path), model.system.sample_rate
    if options.score:
        return _separate_by_score(file, targets[0], options.score, options.track, model, wanted)

    def mixture() -> Iterable[np.ndarray]:
        return mixture_at(file, rate)

    first = [ask(mixture, file.channels) for ask in wanted.asks]
    found = [iterate(model, mixture, file.channels, condition, options.iterations) for condition in first]
    with Progress(f"separating {path.name}", file.frames, unit="sample") as progress:
        written = separate_file(
            file,
            model,
            found,
            targets[: len(wanted.names)],
            residual=targets[-1] if options.residual else None,
            rescale=options.clip == "rescale",
            wiener_iterations=options.wiener,
            stems=wanted.stems,
            advance=progress.advance,
        )
    return _entry(file, [*wanted.names, "residual"][: len(written)], written)


def _separate_by_score(
    file: AudioFile, target: Path, score: Path, track: int | None, model: Model, wanted: Asked
) -> dict[str, Any]:
    """Separate what plays the notes of a score out of one file; its entry in the manifest."""
    (stem,), (ask,) = wanted.names, wanted.asks
    classes = voice_classes(read_voice(score, track), score, frame_rate_of(model.system))
    with Progress(f"separating {file.path.name} by score", file.frames, unit="sample") as progress:
        condition = ask(file.blocks, file.channels)
        written = separate_file_by_score(file, model, condition, classes, target, progress.advance)
    return _entry(file, [stem], [written])


def _entry(file: AudioFile, stems: list[str], written: list[Written]) -> dict[str, Any]:
    outputs = [
        {"stem": stem, **dataclasses.asdict(each), "path": str(each.path)}
        for stem, each in zip(stems, written, strict=True)
    ]
    return {"file": str(file.path), "sample_rate": file.sample_rate, "channels": file.channels, "outputs": outputs}


def _manifest(out: Path) -> list[Any]:
    """What earlier commands wrote to the same folder."""
    path = out / "manifest.json"
    try:
        before = json.loads(path.read_text()) if path.exists() else []
    except ValueError:
        before = None
    if not isinstance(before, list):
        raise ValueError(f"{path} is no manifest of this command: move it away or give another --out")
    return before


def main() -> None:
    options = console.parse(Separate, "python -m qsep_jax.separate", EXAMPLE)
    _check(options)
    files, before = find_files(options.files, options.out), _manifest(options.out)
    console.cache_compilations()
    source = find_model(options.model, cue="score" if options.score else "frames" if options.video else "query")
    system = source.experiment().system
    if options.score:
        need(system, "separate_by_score")
        read_voice(options.score, options.track)
    requests.check(options, system)
    if options.video and len(files) > 1:
        raise ValueError(f"--video shows the players of one mixture, not of {len(files)}: separate them one by one")
    if not options.model:
        print(f"model: {source.path.name}, carried by qsep_jax {__version__}")
    _, model = source.load()
    told = None
    if options.delta:
        model, told = delta.put_into(model, source, options.delta)
    wanted = requests.asked_of(options, source, model, told)
    targets = targets_of(files, [*wanted.names, *["residual"] * options.residual], options)
    entry: dict[str, Any] = {"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "qsep_jax": __version__}
    entry |= {"model": describe(source), "options": json.loads(json.dumps(dataclasses.asdict(options), default=str))}
    if wanted.stems:
        entry["silent"] = list(wanted.silent)
    if wanted.silent:
        print(f"said to be absent, so silent and not written: {', '.join(wanted.silent)}")
    entry |= {"separated": [], "failed": []}
    for path in files:
        try:
            entry["separated"].append(_separate(path, targets[path], options, model, wanted))
            for output in entry["separated"][-1]["outputs"]:
                print(output["path"])
                if output["clipped"]:
                    what = f"{output['path']}: {output['clipped']} samples clipped, peak {output['peak']:.2f}"
                    warnings.warn(f"{what}; --clip rescale turns all outputs down instead", stacklevel=2)
        except (ValueError, OSError) as error:
            words = console.in_words(error)
            entry["failed"].append({"file": str(path), "error": words if str(path) in words else f"{path}: {words}"})
            if len(files) > 1:
                print(f"left out: {entry['failed'][-1]['error']}")
        if entry["separated"]:
            write_text(options.out / "manifest.json", json.dumps([*before, entry], indent=2) + "\n")
    if entry["failed"]:
        reasons = "; ".join(each["error"] for each in entry["failed"])
        raise ValueError(f"{len(entry['failed'])} of {len(files)} files could not be separated: {reasons}")


if __name__ == "__main__":
    console.run(main)
