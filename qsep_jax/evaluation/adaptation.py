"""Separation quality of a song before and after adaptation to it."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data_pipelines.audio.reading import read_matching
from qsep_jax.metrics.bss_eval import bss_eval

# Length of a frame and distance between frames in seconds, as in the evaluation of the paper.
WINDOW, HOP = 2.0, 1.5


def median_sdr(
    paths: Sequence[Path], references: np.ndarray, sample_rate: int, stems: Sequence[str]
) -> dict[str, float]:
    """The SDR in dB of a file for each stem, against references `[S, T, C]`.

    SDR is that of BSS Eval v4 as the median over frames of 2.0 s every 1.5 s. Each stem is scored separately in all
    frames in which it sounds. museval counts a frame only if all stems sound in it, which would leave few frames of
    songs with rests, and these are the songs that a model can be adapted to. A stem that is silent in every frame has
    no score: NaN.
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
