"""Folders of separated tracks, by whatever system, beside folders of the true stems."""

import warnings
from functools import partial
from pathlib import Path

import numpy as np

from data_pipelines.audio.reading import READABLE, AudioFile, fit_length, read_audio
from qsep_jax.evaluation.tracks import ScoredTrack, Stems


def of_folders(estimates: Path, references: Path) -> list[ScoredTrack]:
    """The tracks of `references/TRACK/STEM.wav` with the estimates of `estimates/TRACK/STEM.wav`.

    Both may also be the folder of a single track. Estimates are cut or padded with silence to the length of the
    reference, as in museval; only stems that are in both are scored.

    Raises:
      ValueError: if a folder is missing, or no track is in both.
    """
    for folder in (estimates, references):
        if not folder.is_dir():
            raise ValueError(f"{folder}: no such folder")
    names = sorted(path.name for path in references.iterdir() if path.is_dir() and _audio(path))
    names = names or ["."] * bool(_audio(references))
    missing = [name for name in names if not _audio(estimates / name)]
    if len(missing) == len(names):
        raise ValueError(f"{estimates} holds no estimate of a track in {references}: give TRACK/STEM.wav in both")
    if missing:
        warnings.warn(f"left out, without estimates: {', '.join(missing)}", stacklevel=2)
    found = []
    for name in names:
        if name not in missing:
            rate = AudioFile(next(iter(_audio(references / name).values()))).sample_rate
            compared = {"estimates": partial(_read_estimates, estimates / name, references / name, rate)}
            title = references.resolve().name if name == "." else name
            facts = {"files": [_state(folder / name) for folder in (references, estimates)]}
            found.append(ScoredTrack(title, rate, partial(_read_references, references / name, rate), compared, facts))
    return found


def _state(folder: Path) -> dict[str, list[int]]:
    """Size and time of each file, by which one sees that it is another one now."""
    return {path.name: [path.stat().st_size, path.stat().st_mtime_ns] for path in _audio(folder).values()}


def _audio(folder: Path) -> dict[str, Path]:
    """The audio files right in a folder, by stem; a file of the mixture is none."""
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    return {path.stem: path for path in files if path.suffix.lower() in READABLE and path.stem != "mixture"}


def _read_stems(folder: Path, rate: int) -> Stems:
    stems: dict[str, np.ndarray] = {}
    for stem, path in _audio(folder).items():
        stems[stem], found = read_audio(path)
        first = next(iter(stems.values()))
        if found != rate:
            raise ValueError(f"{path} has {found} Hz, the first reference {rate} Hz: resample it")
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
    found = _read_stems(folder, rate)
    common = [stem for stem in references if stem in found]
    if not common:
        raise ValueError(
            f"{folder} has {', '.join(found)} and {reference_folder} has {', '.join(references)}: no stem is in both"
        )
    if len(common) < len(references):
        missing = ", ".join(stem for stem in references if stem not in found)
        warnings.warn(f"{folder} lacks {missing}: scored without, which changes the scores of the others", stacklevel=2)
    for stem in common:
        estimate, reference = found[stem], references[stem]
        if estimate.shape[1] != reference.shape[1]:
            raise ValueError(
                f"{folder}: '{stem}' has {estimate.shape[1]} channels, its reference {reference.shape[1]}: "
                "convert one of them"
            )
    return {stem: fit_length(found[stem], len(references[stem])) for stem in common}
