"""The frame score of Lin et al. 2021, Table 1 "precision", by the rule of the authors' `compute_measure.py`."""

import numpy as np

from data_pipelines.annotations.notes import frame_numbers, notes_from_classes, sort_by_onset
from data_pipelines.schema import CLASSES, LOWEST_PITCH, SILENCE_CLASS
from qsep_jax.metrics.transcription import frame_average_precision


def note_roll(notes: np.ndarray, frames: int, frame_rate: float) -> np.ndarray:
    """The roll `[N, K]` of notes `[n, 3]`, with zeros and ones and with silence as the last class.

    A note lasts from frame ⌊onset · rate⌋ to frame ⌊offset · rate⌋, the latter included, so that a frame in which one
    note ends and another begins has both. A frame without notes is silent.

    Args:
      frames: number of frames N, at which the notes are cut.
      frame_rate: frames per second.
    """
    roll = np.zeros((frames, CLASSES))
    notes = sort_by_onset(notes)
    begins, ends = frame_numbers(notes[:, :2], frame_rate).T
    for begin, end, pitch in zip(begins, ends + 1, np.rint(notes[:, 2]).astype(int), strict=True):
        roll[begin:end, pitch - LOWEST_PITCH] = 1
    roll[~roll.any(1), SILENCE_CLASS] = 1
    return roll


def frame_precision(notes: np.ndarray, classes: np.ndarray, frame_rate: float, most_frames: int) -> float:
    """The micro average precision of transcribed classes `[N]` against the true notes `[n, 3]`.

    Both are notes that go through `note_roll`. Frames after the last true note are not scored. Where the true notes
    last longer than the transcription, as in a mixture that is cut to its shorter source, the rest of the transcription
    is silent. The result is NaN if there are no true notes.

    Args:
      frame_rate: frames per second.
      most_frames: number of frames at which both are cut: those of the true recording.
    """
    if not len(notes):
        return float("nan")
    frames = min(int(frame_numbers(notes[:, 1], frame_rate).max()) + 1, most_frames)
    estimate = note_roll(notes_from_classes(classes, frame_rate), frames, frame_rate)
    return frame_average_precision(note_roll(notes, frames, frame_rate), estimate)
