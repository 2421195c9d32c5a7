"""The songs that `adapt` is given: their audio, when their stems sound, and what is known of the stems."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from data_pipelines.annotations import activation_files, activations
from data_pipelines.annotations.activations import any_channel
from data_pipelines.audio.reading import READABLE, fit_channels, read_audio, read_matching, resample
from qsep_jax.inference.adaptation import Song
from qsep_jax.systems.base import System

if TYPE_CHECKING:
    from qsep_jax.adapt import Adapt


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A song of the command line, what is known of it, and where its results go."""

    path: Path
    song: Song
    unnamed: tuple[str, ...]
    references: np.ndarray | None
    out: Path


def prepare(options: "Adapt", files: dict[Path, str], stems: tuple[str, ...], system: System) -> list[Prepared]:
    """Read all songs and what is known of them, before any is adapted to.

    Raises:
      ValueError: if a song cannot be read or its activations are no good; names the song.
    """
    rate, found = system.sample_rate, []
    for place, (path, track) in enumerate(files.items()):
        audio, own = read_audio(path)
        mixture = resample(audio, own, rate)
        mixture = fit_channels(mixture, system.input_channels if system.input_channels > 1 else mixture.shape[1])
        seconds = len(audio) / own
        references = _stems_in(options.references, track, stems, mixture, rate) if options.references else None
        file, unnamed = _activation_file(options, place, path, track), ()
        if file:
            spans = activation_files.read(file, stems, seconds)
            unnamed = tuple(stem for stem in stems if stem not in {span.stem for span in spans})
            active = activations.from_spans(spans, stems, len(mixture), rate)
        elif references is not None:
            active = activations.from_stems(references, rate, threshold=options.threshold)
        else:
            raise ValueError(f"{path} has neither activations nor references")
        activations.check_has_rest(any_channel(active), stems, str(file or path))
        found.append(Prepared(path, Song(track, mixture, active), unnamed, references, options.out / track))
    return found


def _activation_file(options: "Adapt", place: int, path: Path, track: str) -> Path | None:
    """The file that says when the stems of a song sound."""
    if not options.activations:
        return None
    only = options.activations[0]
    if len(options.activations) == 1 and only.is_dir():
        named = [only / f"{track}{suffix}" for suffix in (".csv", ".txt")]
        found = [each for each in named if each.is_file()]
        if not found:
            raise ValueError(f"{only} has neither {named[0].name} nor {named[1].name}, for {path}")
        return found[0]
    return options.activations[place]


def _stems_in(folder: Path, track: str, stems: Sequence[str], mixture: np.ndarray, rate: int) -> np.ndarray:
    """The true stems of a song, `[S, T, C]` like the mixture."""
    found = []
    for stem in stems:
        paths = [path for path in sorted((folder / track).glob(f"{stem}.*")) if path.suffix.lower() in READABLE]
        if not paths:
            raise ValueError(f"{folder / track} has no audio of the stem '{stem}', such as {stem}.wav")
        found.append(read_matching(paths[0], mixture, rate))
    return np.stack(found)
