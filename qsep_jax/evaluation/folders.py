"""Scores of folders of separated tracks, from any system, against folders of the true stems."""

import warnings
from functools import partial
from pathlib import Path

import numpy as np

from data_pipelines.audio.listing import audio_files, is_mixture, stems_of, track_folders, warn_of_mixtures
from data_pipelines.audio.reading import AudioFile, read_audio
from data_pipelines.audio.samples import fit_length
from data_pipelines.names import composed, folded
from qsep_jax.evaluation.comparison import Evaluation
from qsep_jax.evaluation.estimates import Stems
from qsep_jax.evaluation.tracks import ScoredTrack, score_tracks, write_report
from qsep_jax.metrics.protocols import Protocol

# Increase this number when the same files get other scores than before.
RULES = 2


def evaluate_folders(
    estimates: Path, references: Path, protocol: Protocol, tracks: int = 0, out: Path | None = None
) -> Evaluation:
    """Score folders of estimates; results go to `evaluation/NAME_OF_ESTIMATES` by default.

    A track that cannot be read is left out; `failures` of the result names it.

    Args:
      tracks: Number of tracks to score, in the order of their names; 0 for all.

    Raises:
      ValueError: if a folder is missing, or no track can be scored.
    """
    folder, name = out or Path("evaluation") / estimates.resolve().name, estimates.resolve().name
    failures: list[str] = []

    def skip(name: str, error: Exception) -> None:
        message = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) else str(error)
        failures.append(message if name in message else f"{name}: {message}")

    scorable = []
    for track, places in folder_tracks(estimates, references)[: tracks or None]:
        try:
            scorable.append(_scored_track(track, *places))
        except (ValueError, OSError) as error:
            skip(track, error)
    scored = score_tracks(scorable, protocol, folder, lambda track, error: skip(track.name, error))
    if not scored:
        raise ValueError(f"no track could be scored: {'; '.join(failures)}")
    table = write_report(scored, name, str(references), "all", folder)
    return Evaluation(table, folder, {}, tuple(failures))


def folder_tracks(estimates: Path, references: Path) -> list[tuple[str, tuple[Path, Path]]]:
    """The name, the folder of estimates and the folder of true stems of each track, in the order of their names.

    The files are `references/TRACK/STEM.wav` and `estimates/TRACK/STEM.wav`; both may also be the folder of a single
    track. The names of tracks are compared without regard to case.

    Raises:
      ValueError: if a folder is missing, or no track is in both.
    """
    for folder in (estimates, references):
        if not folder.is_dir():
            raise ValueError(f"{folder}: no such folder")
    folders = [folder for folder in track_folders(references) if _holds_stems(folder)]
    if not folders and _holds_stems(references):
        tracks = [(references.resolve().name, (estimates, references))] if _holds_stems(estimates) else []
        missing = []
    else:
        by_name = {folded(folder.name): folder for folder in track_folders(estimates) if _holds_stems(folder)}
        # A folder of the very same name comes first, where two names differ in case alone.
        by_name |= {folder.name: folder for folder in by_name.values()}
        pairs = [(folder, by_name.get(folder.name) or by_name.get(folded(folder.name))) for folder in folders]
        tracks = [(composed(folder.name), (estimate, folder)) for folder, estimate in pairs if estimate]
        missing = [folder.name for folder, estimate in pairs if not estimate]
    if not tracks:
        raise ValueError(f"{estimates} holds no estimate of a track in {references}: give TRACK/STEM.wav in both")
    if missing:
        warnings.warn(f"skipped, because there are no estimates: {', '.join(missing)}", stacklevel=2)
    warn_of_mixtures(folder for _, places in tracks for folder in places)
    return tracks


def _holds_stems(folder: Path) -> bool:
    return any(not is_mixture(path) for path in audio_files(folder))


def _scored_track(name: str, estimates: Path, references: Path) -> ScoredTrack:
    """A track to score. Estimates are cut, or padded with silence, to the length of the references, as in museval.

    Raises:
      ValueError: if a folder has two files of one stem, or the first reference cannot be read.
    """
    files = [stems_of(folder) for folder in (references, estimates)]
    rate = AudioFile(next(iter(files[0].values()))).sample_rate
    facts = {"rules": RULES, "files": [_file_versions(of_folder) for of_folder in files]}
    estimators = {"estimates": partial(_read_estimates, estimates, references, rate)}
    return ScoredTrack(name, rate, partial(_read_references, references, rate), estimators, facts)


def _file_versions(files: dict[str, Path]) -> dict[str, list[int]]:
    """Size and modification time of each audio file, which show whether a file has changed."""
    return {path.name: [path.stat().st_size, path.stat().st_mtime_ns] for path in files.values()}


def _read_stems(folder: Path, rate: int) -> Stems:
    stems: dict[str, np.ndarray] = {}
    for stem, path in stems_of(folder).items():
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
    """The true stems of a track; shorter ones are padded with silence to the longest, as in a prepared corpus."""
    stems = _read_stems(folder, rate)
    length = max(len(audio) for audio in stems.values())
    return {stem: fit_length(audio, length) for stem, audio in stems.items()}


def _read_estimates(folder: Path, reference_folder: Path, rate: int, references: Stems) -> Stems:
    """The estimates of a track by the name of the true stem; only stems that are in both folders."""
    by_form = {folded(stem): audio for stem, audio in _read_stems(folder, rate).items()}
    estimates = {stem: by_form[folded(stem)] for stem in references if folded(stem) in by_form}
    if not estimates:
        raise ValueError(
            f"{folder} has {', '.join(by_form)} and {reference_folder} has {', '.join(references)}: no stem is in both"
        )
    if len(estimates) < len(references):
        missing = ", ".join(stem for stem in references if stem not in estimates)
        warnings.warn(
            f"{folder} lacks {missing}: the track is scored without, and has no ISR, SIR and SAR, which depend on all "
            "stems",
            stacklevel=2,
        )
    for stem, estimate in estimates.items():
        if estimate.shape[1] != references[stem].shape[1]:
            raise ValueError(
                f"{folder}: '{stem}' has {estimate.shape[1]} channels, its reference {references[stem].shape[1]}: "
                "convert one of them"
            )
    return {stem: fit_length(estimate, len(references[stem])) for stem, estimate in estimates.items()}
