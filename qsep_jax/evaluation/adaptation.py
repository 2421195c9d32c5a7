"""What an adaptation did: the curve of its loss, and how well the stems are separated before and after."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data_pipelines.audio.reading import read_matching
from qsep_jax.metrics.bss_eval import bss_eval

# Seconds of a frame of the paper's evaluation, and from one to the next.
WINDOW, HOP = 2.0, 1.5


def median_sdr(
    paths: Sequence[Path], references: np.ndarray, sample_rate: int, stems: Sequence[str]
) -> dict[str, float]:
    """SDR in dB of the files of the stems against `[S, T, C]`: BSS Eval v4, frames of 2.0 s every 1.5 s, their median.

    Each stem is scored by itself, wherever it sounds: museval's rule, by which a frame counts only if all stems sound,
    would leave little of songs with rests, which are the ones that can be adapted to. A stem that is silent in every
    frame has no score: NaN.
    """
    medians = dict.fromkeys(stems, float("nan"))
    for stem, path, reference in zip(stems, paths, references, strict=True):
        estimate = read_matching(path, reference, sample_rate)
        if not (reference.any() and estimate.any()):
            continue
        (sdr,) = bss_eval(reference[None], estimate[None], sample_rate, window=WINDOW, hop=HOP, metrics=("SDR",))["SDR"]
        if np.isfinite(sdr).any():
            medians[stem] = float(np.nanmedian(sdr))
    return medians
