"""Pitch-shifted variants of a stem, computed once and stored with it (Lin et al. 2021, section 3.2).

The corpus of the paper holds each track in nine versions, −4…+4 semitones, computed in advance by librosa's phase
vocoder at 32 kHz. A variant is a stem whose parent is the stem that it was made from, so that the default view excludes
it.
"""

import dataclasses
import importlib.metadata

import numpy as np

from data_pipelines.audio.reading import fit_length, resample, to_int16
from data_pipelines.corpora.base import Stem
from data_pipelines.schema import FULL_SCALE, variant_name

# Sample rate in Hz at which the published code shifts the pitch.
SHIFT_RATE = 32_000
MOST_SEMITONES = 12


def inputs(most: int) -> list[str]:
    """The package version that the variants depend on, for `CorpusBuilder.inputs`; none if `most` is 0.

    Args:
      most: largest shift in semitones.

    Raises:
      ValueError: if `most` is outside 0 to 12 semitones.
    """
    if not 0 <= most <= MOST_SEMITONES:
        raise ValueError(f"--shifts {most} is outside 0 to {MOST_SEMITONES} semitones")
    return [f"librosa {importlib.metadata.version('librosa')}"] if most else []


def shifted(stem: Stem, most: int, sample_rate: int) -> list[Stem]:
    """The variants of `stem` that are shifted by −most…+most semitones except 0: `violin@-1` and `violin@+1` for 1.

    They have the length and the channels of the stem, and the notes are shifted as well. Samples beyond full scale are
    clipped.

    Args:
      most: largest shift in semitones.
      sample_rate: sample rate of the stem in Hz.

    Raises:
      ValueError: if the stem has a parent, since neither sub-stems nor variants have variants.
    """
    if stem.parent:
        raise ValueError(f"'{stem.name}' is a part or a variant of '{stem.parent}' and cannot have variants")
    if most == 0:
        return []
    # librosa takes a second to import, and nothing else needs it.
    import librosa

    resampled = resample(stem.audio / np.float32(FULL_SCALE), sample_rate, SHIFT_RATE)
    variants = []
    for semitones in (*range(-most, 0), *range(1, most + 1)):
        moved = librosa.effects.pitch_shift(resampled.T, sr=SHIFT_RATE, n_steps=semitones, res_type="soxr_hq").T
        audio = fit_length(resample(moved, SHIFT_RATE, sample_rate), len(stem.audio))
        notes = stem.notes + np.array([0, 0, semitones], stem.notes.dtype)
        name = variant_name(stem.name, semitones)
        variants.append(
            dataclasses.replace(
                stem, name=name, audio=to_int16(np.clip(audio, -1.0, 1.0)), parent=stem.name, notes=notes
            )
        )
    return variants
