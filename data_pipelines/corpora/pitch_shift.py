"""Pitch-shifted variants of a stem, made once and stored beside it (Lin et al. 2021, section 3.2).

Their corpus holds every track in nine versions, −4…+4 semitones, made offline by librosa's phase vocoder at 32 kHz. A
variant is a stem of its own whose parent is the stem that it was made from, so a default view leaves variants out.
"""

import dataclasses
import importlib.metadata

import numpy as np

from data_pipelines.audio.reading import fit_length, resample, to_int16
from data_pipelines.corpora.base import Stem
from data_pipelines.schema import FULL_SCALE, variant_name

# Hz at which the published code shifts.
SHIFT_RATE = 32_000
MOST_SEMITONES = 12


def inputs(most: int) -> list[str]:
    """What the content of the variants depends on besides `most`, for `Corpus.inputs`.

    Raises:
      ValueError: if `most` is outside 0…12 semitones.
    """
    if not 0 <= most <= MOST_SEMITONES:
        raise ValueError(f"--shifts {most} is outside 0 to {MOST_SEMITONES} semitones")
    return [f"librosa {importlib.metadata.version('librosa')}"] if most else []


def shifted(stem: Stem, most: int, sample_rate: int) -> list[Stem]:
    """The variants of `stem` by −most…+most semitones, 0 left out: `violin@-1` and `violin@+1` for a most of 1.

    They have the length, channels and int16 of the stem; what passes full scale is clipped. Notes move along.

    Args:
      sample_rate: Hz of the stem, and of the variants.

    Raises:
      ValueError: if the stem has a parent: neither sub-stems nor variants have variants.
    """
    if stem.parent:
        raise ValueError(f"'{stem.name}' is part or variant of '{stem.parent}': only whole stems have variants")
    if most == 0:
        return []
    # Takes a second to import, and nothing else needs it.
    import librosa

    wide = resample(stem.audio / np.float32(FULL_SCALE), sample_rate, SHIFT_RATE)
    variants = []
    for semitones in (*range(-most, 0), *range(1, most + 1)):
        moved = librosa.effects.pitch_shift(wide.T, sr=SHIFT_RATE, n_steps=semitones, res_type="soxr_hq").T
        audio = fit_length(resample(moved, SHIFT_RATE, sample_rate), len(stem.audio))
        notes = stem.notes + np.array([0, 0, semitones], stem.notes.dtype)
        name = variant_name(stem.name, semitones)
        variants.append(
            dataclasses.replace(
                stem, name=name, audio=to_int16(np.clip(audio, -1.0, 1.0)), parent=stem.name, notes=notes
            )
        )
    return variants
