"""Adapt a model to songs: `python -m qsep_jax.adapt song.wav --model runs/tasnet --activations song.csv`."""

from qsep_jax.command_line import huge_pages

if __name__ == "__main__":
    huge_pages.ask()

import dataclasses
import json
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np
import tyro

from data_pipelines.annotations import activation_files
from data_pipelines.annotations.activations import over_channels
from data_pipelines.audio.reading import AudioFile
from data_pipelines.audio.writing import suffix_like
from data_pipelines.files import write_text
from data_pipelines.progress import Progress
from qsep_jax.command_line import console
from qsep_jax.command_line.paths import find_files
from qsep_jax.command_line.songs import Prepared, prepare
from qsep_jax.evaluation.adaptation import median_sdr
from qsep_jax.figures.adaptation import draw_activations, draw_losses
from qsep_jax.inference import adaptation
from qsep_jax.inference.adaptation import Adapted, How
from qsep_jax.inference.conditions import encode_blocks
from qsep_jax.inference.files import mixture_at, separate_file
from qsep_jax.inference.model import Model
from qsep_jax.runs import delta
from qsep_jax.runs.bundle import SavedModel, describe, find_model
from qsep_jax.systems.base import RANGER, Condition, System
from qsep_jax.systems.one_shot import CONDITION, Adaptation

EXAMPLE = "python -m qsep_jax.adapt song.wav --model runs/tasnet --activations song.csv --out adapted"
# Rate of an adaptation of the condition, which is far smaller than a network.
CONDITION_RATE = 1e-2


@dataclasses.dataclass(frozen=True)
class Adapt:
    """Bend a model to songs, by when each stem sounds in them (Cantisani et al. 2021).

    A CSV of `stem,start,end` in seconds, or an Audacity label track, says for each song when its stems sound;
    --template writes one to fill in. What it does not name counts as sounding throughout. Written for each song: its
    stems before and after, activations.png (what was claimed), delta.safetensors (for `separate --delta`; the model
    itself is not touched), report.json and loss.png. A song is held in memory as a whole.

    Attributes:
      files: the songs: files, folders (all audio below them) or quoted patterns such as 'album/*.flac'.
      activations: one file for each song, in their order; or a folder that has one by each song's name.
      references: a folder with a folder of its stems for each song, `SONG/STEM.wav`: scores before and after are then
        reported; and without --activations they are taken from the stems.
      threshold: of the activations that are taken from stems; higher where stems are noisy between their notes.
      template: write FILE.csv beside each song that has none, to be filled in, and stop.
      model: a run folder, a bundle or the name of a carried one.
      label, query: the stems, for a model that is asked by example: classes that it was trained on, or audio that
        sounds like them; the activations call them by the class or the name of the file.
      split: what is adapted: a strategy of the model's paper, such as l1 to l5.
      trainable: the same as prefixes of parameters; `condition` is what a model that is asked by example is asked with,
        which is what is adapted of it unless this says otherwise.
      epochs, seconds, hop, rate, weight, reconstruction, shifts: override the model's settings.
      seed: of the pitch shifts.
      together: songs at a time in one program (0: one on CPU, as many as the memory holds elsewhere).
      how: songs at a time pass one after the other within the program (map) or side by side (vmap).
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
    shifts: int | None = None
    seed: int = 42
    together: int = 0
    how: How = "map"


def settings_of(options: Adapt, system: System) -> Adaptation:
    """How the model is adapted: its own settings, or those for what is asked by example, with what was given.

    Raises:
      ValueError: for a split that the system does not have, or a value that cannot be.
    """
    found: Adaptation | None = getattr(system, "adaptation", None)
    if found is None:
        if "query" not in system.cues and not options.trainable:
            raise ValueError(f"{type(system).__name__} does not say what to adapt: give --trainable, such as a network")
        # Not centralised: the mean over stems would not move.
        rule = dataclasses.replace(RANGER, learning_rate=CONDITION_RATE, centralize=False)
        found = Adaptation((CONDITION,), seconds=0.0, optimizer=rule)
    if options.split:
        if options.split not in system.adaptation_presets():
            known = ", ".join(system.adaptation_presets()) or "none"
            raise ValueError(f"unknown split '{options.split}': {type(system).__name__} has {known}")
        found = found.changed(trainable=system.adaptation_presets()[options.split])
    names = ("epochs", "seconds", "hop", "weight", "reconstruction", "shifts")
    given = {name: getattr(options, name) for name in names}
    return found.changed(options.rate, trainable=options.trainable or None, **given)


def told_of(options: Adapt, source: SavedModel, model: Model) -> tuple[tuple[str, ...], Condition]:
    """The stems, and the condition of each, `[S, …]`, where the model is asked by example; None where it is not.

    Raises:
      ValueError: if such a model is not asked for anything, another one is, or two stems have one name.
    """
    asked = [*options.label, *(path.stem for path in options.query)]
    if "query" not in model.system.cues:
        if model.system.cues:
            cue = model.system.cues[0]
            raise ValueError(
                f"{type(model.system).__name__} is told by {cue}: only models that are told nothing or a query adapt"
            )
        if asked:
            raise ValueError(f"{type(model.system).__name__} is not asked by example: leave out --label and --query")
        return model.system.stems, None
    if len(asked) < 2 or len(set(asked)) < len(asked):
        raise ValueError(f"this model separates what it is asked for: give two or more --label or --query, not {asked}")
    bank = source.bank(model) if options.label else None
    found = [bank.mean(label) for label in options.label] if bank else []
    rate = model.system.sample_rate
    found += [encode_blocks(model, mixture_at(AudioFile(path), rate), str(path)) for path in options.query]
    return tuple(asked), jnp.concatenate(found)


def _separate(each: Prepared, model: Model, stems: Sequence[str], condition: Condition, folder: str) -> list[Path]:
    """Separate the song's file by a model into `folder` of its results."""
    conditions = [()] if condition is None else [condition[number : number + 1] for number in range(len(stems))]
    paths = [each.out / folder / f"{stem}{suffix_like(each.path)}" for stem in stems]
    for written in separate_file(AudioFile(each.path), model, conditions, paths):
        if written.clipped:
            warnings.warn(f"{written.path}: {written.clipped} samples clipped, peak {written.peak:.2f}", stacklevel=2)
    return paths


def _finish(
    each: Prepared,
    adapted: Adapted,
    options: Adapt,
    settings: Adaptation,
    source: SavedModel,
    model: Model,
    stems: tuple[str, ...],
    condition: Condition,
) -> dict[str, Any]:
    """Write what came of a song; its report."""
    before = _separate(each, model, stems, condition, "before")
    changed = adaptation.moved(model, adapted.parameters)
    if condition is not None and CONDITION not in changed:
        changed[CONDITION] = np.asarray(condition)
    bent = adaptation.with_parameters(model, changed)
    after = _separate(each, bent, stems, changed.get(CONDITION), "after")
    delta.write(each.out / f"delta{delta.SUFFIX}", changed, stems, settings, source, model)
    whole = over_channels(each.song.active)
    rate = model.system.sample_rate
    picture = each.out / "activations.png"
    draw_activations(each.song.mixture, whole, stems, rate, each.song.name, picture, each.unnamed)
    draw_losses(adapted, each.song.name, each.out / "loss.png")
    report = {"song": str(each.path), "updates": len(adapted.losses["loss"]), "skipped": adapted.skipped}
    report |= {"model": describe(source), "adaptation": dataclasses.asdict(settings), "seed": options.seed}
    report |= {"changed": int(sum(leaf.size for leaf in changed.values()))}
    report |= {"losses": {name: values.tolist() for name, values in adapted.losses.items()}}
    if each.references is not None:
        scores = [median_sdr(paths, each.references, rate, stems) for paths in (before, after)]
        report |= {"sdr_before": scores[0], "sdr_after": scores[1]}
    write_text(each.out / "report.json", json.dumps(report, indent=2) + "\n")
    return report


def _templates(files: dict[Path, str], stems: tuple[str, ...]) -> Iterator[Path]:
    for path in files:
        target, file = path.with_suffix(".csv"), AudioFile(path)
        if target.exists():
            raise ValueError(f"{target} is there already: fill it in, or move it away")
        write_text(target, activation_files.template(stems, file.frames / file.sample_rate))
        yield target


def _check(options: Adapt, files: dict[Path, str]) -> None:
    if not (options.activations or options.references or options.template):
        raise ValueError("when does each stem sound? Give --activations (--template writes a file to fill in)")
    single = len(options.activations) == 1 and options.activations[0].is_dir()
    if options.activations and not single and len(options.activations) != len(files):
        raise ValueError(f"{len(files)} songs need as many --activations, not {len(options.activations)}; or a folder")
    if options.together < 0:
        raise ValueError(f"--together must be 0 or more, not {options.together}")
    twice = {track for track in files.values() if list(files.values()).count(track) > 1}
    if twice:
        raise ValueError(f"two songs are called '{min(twice)}': adapt to them one by one")


def main() -> None:
    options = console.parse(Adapt, "python -m qsep_jax.adapt", EXAMPLE)
    if not options.files:
        raise ValueError(f"no song to adapt to. Example: {EXAMPLE}")
    if not options.model:
        raise ValueError(f"which model is to be adapted? Give --model. Example: {EXAMPLE}")
    files = find_files(options.files, options.out)
    _check(options, files)
    console.cache_compilations()
    source = find_model(options.model)
    _, model = source.load()
    stems, condition = told_of(options, source, model)
    if options.template:
        for path in _templates(files, stems):
            print(path)
        return
    settings, begun = settings_of(options, model.system), time.perf_counter()
    prepared = prepare(options, files, stems, model.system)
    updates = adaptation.updates_of([each.song for each in prepared], model.system, settings)
    with Progress(f"adapting to {len(prepared)} songs", updates, unit="update") as progress:
        results = adaptation.adapt(
            model,
            [each.song for each in prepared],
            settings,
            conditions=condition,
            seed=options.seed,
            together=options.together,
            how=options.how,
            advance=progress.advance,
        )
        # Written as they come: of many songs, those that are done are kept whatever happens to the others.
        said = [
            _in_words(each, _finish(each, adapted, options, settings, source, model, stems, condition))
            for each, adapted in zip(prepared, results, strict=True)
        ]
    print("\n".join([*said, f"{len(prepared)} songs in {time.perf_counter() - begun:.1f} s"]))


def _in_words(each: Prepared, report: dict[str, Any]) -> str:
    losses = report["losses"]["loss"]
    words = f"{each.out}: loss {losses[0]:.4f} to {losses[-1]:.4f}"
    if report["skipped"]:
        words += f"; {report['skipped']} of {report['updates']} updates were not finite and not made"
    if "sdr_after" in report:
        before, after = report["sdr_before"], report["sdr_after"]
        words += "; SDR " + ", ".join(f"{stem} {before[stem]:.1f} to {after[stem]:.1f} dB" for stem in before)
    return words


if __name__ == "__main__":
    console.run(main)
