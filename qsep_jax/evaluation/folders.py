"""Scores of folders of separated tracks, from any system, against folders of the true stems."""

import warnings
from functools import partial
from pathlib import Path

import numpy as np

from data_pipelines.audio.reading import READABLE, AudioFile, read_audio
from data_pipelines.audio.samples import fit_length
from qsep_jax.evaluation.comparison import Evaluation
from qsep_jax.evaluation.estimates import Stems
from qsep_jax.evaluation.tracks import ScoredTrack, score_tracks, write_report
from qsep_jax.metrics.protocols import Protocol


def evaluate_folders(
    estimates: Path, references: Path, protocol: Protocol, tracks: int = 0, out: Path | None = None
) -> Evaluation:
    """Score folders of estimates; results go to `evaluation/NAME_OF_ESTIMATES` by default.

    Args:
      tracks: Number of tracks to score, in the order of their names; 0 for all.

    Raises:
      ValueError: if a folder is missing or a track cannot be scored.
    """
    folder, name = out or Path("evaluation") / estimates.resolve().name, estimates.resolve().name
    scored = score_tracks(folder_tracks(estimates, references)[: tracks or None], protocol, folder)
    return Evaluation(write_report(scored, name, str(references), "all", folder), folder, {})


def folder_tracks(estimates: Path, references: Path) -> list[ScoredTrack]:
    """The tracks of `references/TRACK/STEM.wav` with the estimates of `estimates/TRACK/STEM.wav`.

    Both may also be the folder of a single track. Estimates are cut, or padded with silence, to the length of the
    reference, as in museval. Only stems that are in both folders are scored.

    Raises:
      ValueError: if a folder is missing, or no track is in both.
    """
    for folder in (estimates, references):
        if not folder.is_dir():
            raise ValueError(f"{folder}: no such folder")
    names = sorted(path.name for path in references.iterdir() if path.is_dir() and _audio_files(path))
    names = names or ["."] * bool(_audio_files(references))
    missing = [name for name in names if not _audio_files(estimates / name)]
    if len(missing) == len(names):
        raise ValueError(f"{estimates} holds no estimate of a track in {references}: give TRACK/STEM.wav in both")
    if missing:
        warnings.warn(f"skipped, because there are no estimates: {', '.join(missing)}", stacklevel=2)
    tracks = []
    for name in names:
        if name not in missing:
            rate = AudioFile(next(iter(_audio_files(references / name).values()))).sample_rate
            estimators = {"estimates": partial(_read_estimates, estimates / name, references / name, rate)}
            title = references.resolve().name if name == "." else name
            facts = {"files": [_file_versions(folder / name) for folder in (references, estimates)]}
            reader = partial(_read_references, references / name, rate)
            tracks.append(ScoredTrack(title, rate, reader, estimators, facts))
    return tracks


def _file_versions(folder: Path) -> dict[str, list[int]]:
    """Size and modification time of each audio file, which show whether a file has changed."""
    return {path.name: [path.stat().st_size, path.stat().st_mtime_ns] for path in _audio_files(folder).values()}


def _audio_files(folder: Path) -> dict[str, Path]:
    """The audio files directly in a folder by stem, without the file of the mixture."""
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    return {path.stem: path for path in files if path.suffix.lower() in READABLE and path.stem != "mixture"}


def _read_stems(folder: Path, rate: int) -> Stems:
    stems: dict[str, np.ndarray] = {}
    for stem, path in _audio_files(folder).items():
        stems[stem], file_rate = read_audio(path)
        first = next(iter(stems.values()))
        if file_rate != rate:
            raise ValueError(f"{path} has {file_rate} Hz, the first reference {rate} Hz: resample it")
        if stems[stem].shape[1] != first.shape[1]:
            raise ValueError(
                f"{path} has {stems[stem].shape[1]} channels, other stems {first.shape[1]}: convert one of them"
            )
    return stems


def _read_references(folder: Path, rate: int) -> Stems:
    stems = _read_stems(folder, rate)
    length = len(next(iter(stems.values())))
    for stem, audio in stems.items():
        if len(audio) != length:
            raise ValueError(f"{folder}: '{stem}' has {len(audio)} samples, another stem {length}: pad or cut one")
    return stems


def _read_estimates(folder: Path, reference_folder: Path, rate: int, references: Stems) -> Stems:
    estimates = _read_stems(folder, rate)
    common = [stem for stem in references if stem in estimates]
    if not common:
        raise ValueError(
            f"{folder} has {', '.join(estimates)} and {reference_folder} has {', '.join(references)}: "
            "no stem is in both"
        )
    if len(common) < len(references):
        missing = ", ".join(stem for stem in references if stem not in estimates)
        warnings.warn(
            f"{folder} lacks {missing}: the track is scored without, which changes the scores of the other stems",
            stacklevel=2,
        )
    for stem in common:
        estimate, reference = estimates[stem], references[stem]
        if estimate.shape[1] != reference.shape[1]:
            raise ValueError(
                f"{folder}: '{stem}' has {estimate.shape[1]} channels, its reference {reference.shape[1]}: "
                "convert one of them"
            )
    return {stem: fit_length(estimates[stem], len(references[stem])) for stem in common}
