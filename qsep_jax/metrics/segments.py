"""Scores of segments that do not overlap, computed for each segment separately (Slizovskaia et al. 2021).

All sources are scored, including those that are absent from the mixture. The estimate of a source that sounds is
compared with its reference. The estimate of a silent source is scored by its energy, which has leaked from the others.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from qsep_jax.metrics.bss_eval import bss_eval
from qsep_jax.metrics.ratios import sd_sdr, si_sdr
from qsep_jax.metrics.silence import predicted_energy_at_silence

RATIOS = ("SI-SDR", "SD-SDR")
BSS = ("SDR", "SIR", "SAR")
METRICS = (*RATIOS, "PES", *BSS)
# BSS Eval is skipped for a segment whose sum of magnitudes is at most this, as in the authors' code.
SILENCE_THRESHOLD = 1e-5


def segment_scores(references: np.ndarray, estimates: np.ndarray, samples: int) -> dict[str, np.ndarray]:
    """Score mono sources `[K, T, 1]` segment by segment: by metric, `[K, segments]` float64 in dB, NaN for no score.

    SI-SDR and SD-SDR are computed where neither the reference nor the estimate is all zero, and PES,
    `10 log₁₀(Σ ŝ² + 1e-8)`, where the reference is all zero. SDR, SIR and SAR are computed by BSS Eval v3, without
    permutation, over the sources that are not all zero over the whole length. A segment has them only if all of these
    sources sound in it: `Σ |x| > 1e-5` in the reference and in the estimate.

    Args:
      samples: Length of a segment. Samples after the last complete segment are not scored.

    Raises:
      ValueError: if the shapes differ, there is more than one channel, or the signals are shorter than a segment.
    """
    sources, length, channels = references.shape
    if references.shape != estimates.shape or channels != 1 or length < samples:
        raise ValueError(
            f"references {references.shape} and estimates {estimates.shape} must both be [K, T, 1], T at least "
            f"{samples} samples"
        )
    count = length // samples
    segmented = [
        signals[:, : count * samples, 0].reshape(sources, count, samples) for signals in (references, estimates)
    ]
    present = np.flatnonzero(segmented[0].any((1, 2)))
    scores = {name: np.full((sources, count), np.nan) for name in METRICS}
    for segment in range(count):
        reference, estimate = (np.ascontiguousarray(signals[:, segment], np.float32) for signals in segmented)
        for name, values in zip((*RATIOS, "PES"), np.asarray(_ratios(reference, estimate)), strict=True):
            scores[name][:, segment] = values
        pair = reference[present, :, None], estimate[present, :, None]
        if all((np.abs(signals).sum(1) > SILENCE_THRESHOLD).all() for signals in pair):
            bss_scores = bss_eval(*pair, sample_rate=1, version="v3", metrics=BSS)
            for name in BSS:
                scores[name][present, segment] = bss_scores[name][:, 0]
    return scores


@jax.jit
def _ratios(reference: Array, estimate: Array) -> Array:
    """SI-SDR, SD-SDR and PES of one segment of `[K, T]`: `[3, K]`."""
    sounding = reference.any(1) & estimate.any(1)
    ratios = [jnp.where(sounding, ratio(reference, estimate), jnp.nan) for ratio in (si_sdr, sd_sdr)]
    level = partial(predicted_energy_at_silence, sample_rate=1, window=reference.shape[1], hop=reference.shape[1])
    return jnp.stack([*ratios, level(reference[..., None], estimate[..., None])])
