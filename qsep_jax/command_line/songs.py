"""The songs that `adapt` fine-tunes on: their audio, the activations of their stems, and their references."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data_pipelines.annotations import activation_files, activations
from data_pipelines.annotations.activations import any_channel
from data_pipelines.audio.listing import in_its_form, stems_of
from data_pipelines.audio.reading import read_audio, read_matching
from data_pipelines.audio.samples import fit_channels, resample
from data_pipelines.names import match
from qsep_jax.command_line.paths import below
from qsep_jax.inference.adaptation import Song
from qsep_jax.systems.base import System


@dataclasses.dataclass(frozen=True)
class PreparedSong:
    """A song with its annotations, ready for the adaptation.

    Attributes:
      path: The audio file.
      song: Its mixture and activations at the model's rate.
      unnamed: Stems that the activations do not name, which count as active throughout.
      references: True stems `[S, T, C]`, or None.
      out: Folder for the results of the song.
    """

    path: Path
    song: Song
    unnamed: tuple[str, ...]
    references: np.ndarray | None
    out: Path


@dataclasses.dataclass(frozen=True)
class Annotations:
    """The paths of the activations and references of songs.

    Attributes:
      activations: One file for each song, in the order of the songs, or a folder with a file of each song's name.
      references: Folder of the true stems, `SONG/STEM.wav`.
      threshold: Threshold of activations that are computed from references.
    """

    activations: tuple[Path, ...] = ()
    references: Path | None = None
    threshold: float = 0.01


def prepare(
    tracks: dict[Path, str], annotations: Annotations, stems: tuple[str, ...], system: System, out: Path
) -> list[PreparedSong]:
    """Read all songs with their annotations.

    Args:
      tracks: Name of each song, by the path of its audio.
      stems: Stems of the adapted model.
      out: Folder below which the results of the songs go.

    Raises:
      ValueError: if a song cannot be read or its activations cannot be used; the message names the song.
    """
    rate, songs = system.sample_rate, []
    for position, (path, track) in enumerate(tracks.items()):
        audio, own_rate = read_audio(path)
        mixture = resample(audio, own_rate, rate)
        mixture = fit_channels(mixture, system.input_channels if system.input_channels > 1 else mixture.shape[1])
        references = None
        if annotations.references:
            references = _references(in_its_form(annotations.references / track), stems, mixture, rate)
        file, unnamed = _activation_file(annotations, position, path, track), ()
        if file:
            spans = activation_files.read(file, stems, len(audio) / own_rate)
            unnamed = tuple(stem for stem in stems if stem not in {span.stem for span in spans})
            active = activations.from_spans(spans, stems, len(mixture), rate)
        elif references is not None:
            active = activations.from_stems(references, rate, threshold=annotations.threshold)
        else:
            raise ValueError(f"{path} has neither activations nor references")
        activations.check_has_rest(any_channel(active), stems, str(file or path))
        songs.append(PreparedSong(path, Song(track, mixture, active), unnamed, references, below(out, track)))
    return songs


def _activation_file(annotations: Annotations, position: int, path: Path, track: str) -> Path | None:
    """The activation file of a song, the `position`-th one; None if activations are computed from references.

    Raises:
      ValueError: if the folder of activations has none for the song.
    """
    if not annotations.activations:
        return None
    first = annotations.activations[0]
    if len(annotations.activations) == 1 and first.is_dir():
        candidates = [in_its_form(first / f"{track}{suffix}") for suffix in (".csv", ".txt")]
        existing = [candidate for candidate in candidates if candidate.is_file()]
        if not existing:
            raise ValueError(f"{first} has neither {candidates[0].name} nor {candidates[1].name}, for {path}")
        return existing[0]
    return annotations.activations[position]


def _references(folder: Path, stems: Sequence[str], mixture: np.ndarray, rate: int) -> np.ndarray:
    """Read the true stems of a song, `[S, T, C]`, with the samples and channels of the mixture.

    Raises:
      ValueError: if the folder lacks a stem, or has two files of one.
    """
    files, references = stems_of(folder), []
    for stem in stems:
        name = match(stem, files)
        if name is None:
            raise ValueError(f"{folder} has no audio of the stem '{stem}', such as {stem}.wav")
        references.append(read_matching(files[name], mixture, rate))
    return np.stack(references)
