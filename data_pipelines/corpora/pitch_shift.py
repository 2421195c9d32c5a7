"""Pitch-shifted variants of a stem, computed once and stored with it (Lin et al. 2021, section 3.2).

The corpus of the paper holds each track in nine versions, −4…+4 semitones, computed in advance by librosa's phase
vocoder at 32 kHz. A variant is a stem whose parent is the stem that it was made from, so that the default view excludes
it.

The variants are made from audio at its original rate and brought to the rate of the corpus afterwards. A shift down by
four semitones moves 10 kHz to 8 kHz: audio that was at 16 kHz before would leave everything above 6.35 kHz empty.

librosa is the library of the published corpus, and this package needs it elsewhere too. Of the alternatives, pedalboard
and Rubber Band are under the GPL. python-stretch (Signalsmith, MIT) keeps the spectrum of noise as well (within
0.2 dB), takes 0.3 s instead of 0.45 s for 20 s of audio and moves attacks by 1 ms instead of 3 to 13 ms, but it is an
early version (0.3.1 of February 2025), and its variants would not be those of the paper.
"""

import dataclasses
import importlib.metadata
from collections.abc import Mapping

import numpy as np

from data_pipelines.audio.samples import fit_length, resample, to_int16
from data_pipelines.corpora.base import Stem
from data_pipelines.schema import variant_name

# Sample rate in Hz at which the published code shifts the pitch.
SHIFT_RATE = 32_000
MOST_SEMITONES = 12
# The audio that the variants are made from, which a prepared corpus stores with its options.
VARIANTS_FROM = "original rate"


def inputs(most: int) -> list[str]:
    """What the variants depend on, for `CorpusBuilder.inputs`: the package version and the method; none if `most` is 0.

    Args:
      most: largest shift in semitones.

    Raises:
      ValueError: if `most` is outside 0 to 12 semitones.
    """
    if not 0 <= most <= MOST_SEMITONES:
        raise ValueError(f"--shifts {most} is outside 0 to {MOST_SEMITONES} semitones")
    return [f"librosa {importlib.metadata.version('librosa')}", f"variants from {VARIANTS_FROM}"] if most else []


def facts(options: Mapping[str, str]) -> dict[str, str]:
    """What a prepared corpus with these options states about its variants; nothing if it has none."""
    return {"variants_from": VARIANTS_FROM} if options.get("shifts", "0") != "0" else {}


def band_limited(options: Mapping[str, str]) -> bool:
    """Whether a prepared corpus holds variants that an older version made from audio at the rate of the corpus.

    Such variants lack the top of the spectrum where they are shifted down.

    Args:
      options: options in the metadata of the corpus.
    """
    return any(options.get(key) != value for key, value in facts(options).items())


def shift_rate(original_rate: int, sample_rate: int, most: int) -> int:
    """The sample rate (Hz) at which to shift: the published 32 kHz if it covers the corpus after the lowest shift.

    For corpora with a higher rate it is the original rate, or that of the corpus if this is higher still.

    Args:
      original_rate: sample rate of the original audio in Hz.
      sample_rate: sample rate of the corpus in Hz.
      most: largest shift in semitones.
    """
    enough = sample_rate * 2 ** (most / 12)
    return SHIFT_RATE if enough <= SHIFT_RATE else max(SHIFT_RATE, original_rate, sample_rate)


def shifted(stem: Stem, original: np.ndarray, original_rate: int, most: int, sample_rate: int) -> list[Stem]:
    """The variants of `stem` that are shifted by −most…+most semitones except 0: `violin@-1` and `violin@+1` for 1.

    They have the length and the channels of the stem, and the notes are shifted as well. Samples beyond full scale are
    clipped.

    Args:
      original: the audio of the stem at its original rate, float32 `[T, C]` in −1…1, with the level of the stem.
      original_rate: sample rate of `original` in Hz.
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

    rate = shift_rate(original_rate, sample_rate, most)
    source = resample(original, original_rate, rate)
    variants = []
    for semitones in (*range(-most, 0), *range(1, most + 1)):
        moved = librosa.effects.pitch_shift(source.T, sr=rate, n_steps=semitones, res_type="soxr_hq").T
        audio = fit_length(resample(moved, rate, sample_rate), len(stem.audio))
        notes = stem.notes + np.array([0, 0, semitones], stem.notes.dtype)
        name = variant_name(stem.name, semitones)
        variants.append(
            dataclasses.replace(
                stem, name=name, audio=to_int16(np.clip(audio, -1.0, 1.0)), parent=stem.name, notes=notes
            )
        )
    return variants
