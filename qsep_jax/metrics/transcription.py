"""Transcription: frame by frame on piano rolls, and note by note as MIREX counts.

Where there is nothing in the reference and nothing in the estimate, precision, recall and F1 are NaN, which summaries
leave out; where there is nothing in one of them, they are 0.
"""

import dataclasses
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class Detection:
    """Shares in 0 … 1: of what was found, what is right; of what is there, what was found; their harmonic mean."""

    precision: float
    recall: float
    f1: float


def frame_scores(reference: np.ndarray, estimate: np.ndarray, threshold: float = 0.5) -> Detection:
    """Precision, recall and F1 over all cells of a roll (micro average): truth 0 or 1 `[N, K]`, probabilities `[N, K]`.

    A cell is found if its probability is at least the threshold.

    Raises:
      ValueError: if the shapes differ, the reference is not 0 or 1, or the estimate holds NaN.
    """
    reference, estimate = _rolls(reference, estimate)
    found = estimate >= threshold
    return _detection(int((reference & found).sum()), int(found.sum()), int(reference.sum()))


def frame_average_precision(reference: np.ndarray, estimate: np.ndarray) -> float:
    """Micro average precision of a roll: truth 0 or 1 `[N, K]`, probabilities `[N, K]` → 0 … 1.

    `Σ_n (R_n − R_{n−1}) P_n`, precision and recall over all cells at every probability that occurs, highest first: the
    "precision" of the tables of Lin et al. 2021. Their code passes one-hot rolls on both sides, the argmax of the
    network, with silence as a class; of those, with a share `a` of frames right, it is `a² + (1 − a) / K`. NaN if
    the reference is empty.

    Raises:
      ValueError: as in `frame_scores`.
    """
    truth, scores = (roll.ravel() for roll in _rolls(reference, estimate))
    if not truth.any():
        return float("nan")
    order = np.argsort(-scores)
    hits = np.cumsum(truth[order])
    ends = np.flatnonzero(np.diff(scores[order], append=-np.inf))  # equal probabilities come in together
    recall, precision = hits[ends] / hits[-1], hits[ends] / (ends + 1)
    return float(np.diff(recall, prepend=0.0) @ precision)


def note_scores(reference: np.ndarray, estimate: np.ndarray, offsets: bool = True) -> Detection:
    """Precision, recall and F1 of notes, rows of onset s, offset s and MIDI pitch: `[n, 3]`, `[m, 3]`.

    The protocol of MIREX by `mir_eval.transcription` (Raffel et al. 2014): a note is right if one of the reference
    that no other claims begins within 50 ms of it and is within 50 cents, and, with `offsets`, ends within 50 ms or
    20 % of the reference's length, whichever is more. Any empty array is no notes.

    Raises:
      ValueError: if an array is not `[n, 3]`, or a note begins before 0 or does not end after its onset.
    """
    # Here, for it takes longer to import than all of this package.
    from mir_eval import transcription, util

    notes = _notes("reference", reference), _notes("estimate", estimate)
    intervals, pitches = [part[:, :2] for part in notes], [util.midi_to_hz(part[:, 2]) for part in notes]
    ratio: Any = 0.2 if offsets else None
    matched = transcription.match_notes(intervals[0], pitches[0], intervals[1], pitches[1], offset_ratio=ratio)
    return _detection(len(matched), len(notes[1]), len(notes[0]))


def _detection(hits: int, found: int, there: int) -> Detection:
    if not found and not there:
        return Detection(float("nan"), float("nan"), float("nan"))
    return Detection(hits / max(found, 1), hits / max(there, 1), 2 * hits / (found + there))


def _rolls(reference: np.ndarray, estimate: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The reference as booleans, the estimate as float64."""
    reference, estimate = np.asarray(reference), np.asarray(estimate, np.float64)
    if reference.ndim != 2 or reference.shape != estimate.shape:
        raise ValueError(f"reference {reference.shape} and estimate {estimate.shape} must both be [N, K]")
    if not np.isin(reference, (0, 1)).all():
        raise ValueError(f"the reference roll must be 0 or 1, not {reference[~np.isin(reference, (0, 1))][0]}")
    if np.isnan(estimate).any():
        raise ValueError("the estimated roll holds NaN")
    return reference.astype(bool), estimate


def _notes(name: str, notes: np.ndarray) -> np.ndarray:
    notes = np.asarray(notes, np.float64)
    if not notes.size:
        return notes.reshape(0, 3)
    if notes.ndim != 2 or notes.shape[1] != 3:
        raise ValueError(f"{name} notes must be [n, 3]: onset s, offset s, MIDI pitch, not {notes.shape}")
    wrong = ~(np.isfinite(notes).all(1) & (notes[:, 0] >= 0) & (notes[:, 1] > notes[:, 0]))
    if wrong.any():
        raise ValueError(f"{name} notes must have 0 ≤ onset < offset and a pitch, not {notes[wrong][0].tolist()}")
    return notes
