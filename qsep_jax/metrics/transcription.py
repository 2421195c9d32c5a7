"""Scores of transcription: for the frames of piano rolls, and for notes as in MIREX.

If both the reference and the estimate are empty, precision, recall and F1 are NaN, which summaries leave out. If one
of them is empty, they are 0.
"""

import dataclasses
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class Detection:
    """Precision, recall and F1 of a detection task, each in 0 … 1.

    Attributes:
      precision: Share of the detections that are correct.
      recall: Share of the reference that was detected.
      f1: Harmonic mean of precision and recall.
    """

    precision: float
    recall: float
    f1: float


def frame_scores(reference: np.ndarray, estimate: np.ndarray, threshold: float = 0.5) -> Detection:
    """Precision, recall and F1 over all cells of a piano roll (micro average).

    The reference is 0 or 1, `[N, K]`; the estimate holds probabilities, `[N, K]`. A cell is detected if its probability
    is at least the threshold.

    Raises:
      ValueError: if the shapes differ, the reference is not 0 or 1, or the estimate holds NaN.
    """
    reference, estimate = _rolls(reference, estimate)
    detected = estimate >= threshold
    return _detection(int((reference & detected).sum()), int(detected.sum()), int(reference.sum()))


def frame_average_precision(reference: np.ndarray, estimate: np.ndarray) -> float:
    """Micro average precision of a piano roll, in 0 … 1: reference 0 or 1 `[N, K]`, probabilities `[N, K]`.

    It is `Σ_n (R_n − R_{n−1}) P_n`, with precision and recall over all cells at every probability that occurs, highest
    first. The tables of Lin et al. 2021 call it "precision". Their code computes it from rolls of zeros and ones for
    both reference and estimate (the argmax of the network, with silence as a class); if both have one class per frame
    and a share `a` of the frames is correct, its value is `a² + (1 − a) / K`. The result is NaN if the reference is
    empty.

    Raises:
      ValueError: as in `frame_scores`.
    """
    truth, probabilities = (roll.ravel() for roll in _rolls(reference, estimate))
    if not truth.any():
        return float("nan")
    order = np.argsort(-probabilities)
    hits = np.cumsum(truth[order])
    ends = np.flatnonzero(np.diff(probabilities[order], append=-np.inf))  # equal probabilities share a threshold
    recall, precision = hits[ends] / hits[-1], hits[ends] / (ends + 1)
    return float(np.diff(recall, prepend=0.0) @ precision)


def note_scores(reference: np.ndarray, estimate: np.ndarray, offsets: bool = True) -> Detection:
    """Precision, recall and F1 of notes `[n, 3]` and `[m, 3]`, rows of onset s, offset s and MIDI pitch.

    This is the protocol of MIREX as `mir_eval.transcription` computes it (Raffel et al. 2014). An estimated note is
    correct if it is matched to a reference note whose onset is within 50 ms and whose pitch is within 50 cents. With
    `offsets`, the offset must also be within 50 ms or 20 % of the length of the reference note, whichever is more.
    Each reference note is matched at most once. An empty array of any shape stands for no notes.

    Raises:
      ValueError: if an array is not `[n, 3]`, or a note begins before 0 or does not end after its onset.
    """
    # Imported here because its import takes longer than that of this whole package.
    from mir_eval import transcription, util

    notes = _notes("reference", reference), _notes("estimate", estimate)
    intervals, pitches = [part[:, :2] for part in notes], [util.midi_to_hz(part[:, 2]) for part in notes]
    ratio: Any = 0.2 if offsets else None
    matched = transcription.match_notes(intervals[0], pitches[0], intervals[1], pitches[1], offset_ratio=ratio)
    return _detection(len(matched), len(notes[1]), len(notes[0]))


def _detection(hits: int, detected: int, relevant: int) -> Detection:
    """The scores for numbers of correct detections, of all detections, and of reference items."""
    if not detected and not relevant:
        return Detection(float("nan"), float("nan"), float("nan"))
    return Detection(hits / max(detected, 1), hits / max(relevant, 1), 2 * hits / (detected + relevant))


def _rolls(reference: np.ndarray, estimate: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Check two piano rolls, and convert the reference to booleans and the estimate to float64."""
    reference, estimate = np.asarray(reference), np.asarray(estimate, np.float64)
    if reference.ndim != 2 or reference.shape != estimate.shape:
        raise ValueError(f"reference {reference.shape} and estimate {estimate.shape} must both be [N, K]")
    if not np.isin(reference, (0, 1)).all():
        raise ValueError(f"the reference roll must be 0 or 1, not {reference[~np.isin(reference, (0, 1))][0]}")
    if np.isnan(estimate).any():
        raise ValueError("the estimated roll holds NaN")
    return reference.astype(bool), estimate


def _notes(name: str, notes: np.ndarray) -> np.ndarray:
    """Check notes and convert them to float64 `[n, 3]`; `name` identifies them in error messages."""
    notes = np.asarray(notes, np.float64)
    if not notes.size:
        return notes.reshape(0, 3)
    if notes.ndim != 2 or notes.shape[1] != 3:
        raise ValueError(f"{name} notes must be [n, 3]: onset s, offset s, MIDI pitch, not {notes.shape}")
    wrong = ~(np.isfinite(notes).all(1) & (notes[:, 0] >= 0) & (notes[:, 1] > notes[:, 0]))
    if wrong.any():
        raise ValueError(f"{name} notes must have 0 ≤ onset < offset and a pitch, not {notes[wrong][0].tolist()}")
    return notes
