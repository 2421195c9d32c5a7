"""Scores of segments that do not overlap, each by itself, also of sources that nobody plays: Slizovskaia et al. 2021.

What has an energy is compared with the estimate; what has none says how much of the rest has leaked into it.
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
# Sum of magnitudes of a segment up to which the authors leave BSS Eval out.
NOTHING = 1e-5


def segment_scores(references: np.ndarray, estimates: np.ndarray, samples: int) -> dict[str, np.ndarray]:
    """Scores in dB of mono sources `[K, T, 1]`, each `[K, segments]` float64, NaN where there is none.

    SI-SDR and SD-SDR where neither reference nor estimate is all zero; PES, `10 log₁₀(Σ ŝ² + 1e-8)`, where the
    reference is. SDR, SIR and SAR by BSS Eval v3, without permutation, over the sources that are not zero throughout,
    and only where all of these sound: `Σ |x| > 1e-5` in the reference and in the estimate.

    Args:
      samples: of a segment; what remains after the last whole one is not scored.

    Raises:
      ValueError: if the shapes differ, there is more than one channel, or not a whole segment.
    """
    sources, length, channels = references.shape
    if references.shape != estimates.shape or channels != 1 or length < samples:
        raise ValueError(
            f"references {references.shape} and estimates {estimates.shape} must both be [K, T, 1], of {samples} "
            "samples or more"
        )
    count = length // samples
    cut = [signals[:, : count * samples, 0].reshape(sources, count, samples) for signals in (references, estimates)]
    present = np.flatnonzero(cut[0].any((1, 2)))
    table = {name: np.full((sources, count), np.nan) for name in METRICS}
    for segment in range(count):
        true, made = (np.ascontiguousarray(signals[:, segment], np.float32) for signals in cut)
        for name, values in zip((*RATIOS, "PES"), np.asarray(_ratios(true, made)), strict=True):
            table[name][:, segment] = values
        pair = true[present, :, None], made[present, :, None]
        if all((np.abs(signals).sum(1) > NOTHING).all() for signals in pair):
            found = bss_eval(*pair, sample_rate=1, version="v3", metrics=BSS)
            for name in BSS:
                table[name][present, segment] = found[name][:, 0]
    return table


@jax.jit
def _ratios(true: Array, made: Array) -> Array:
    """SI-SDR, SD-SDR and PES of `[K, T]`, `[3, K]`."""
    sounds, heard = true.any(1), made.any(1)
    ratios = [jnp.where(sounds & heard, ratio(true, made), jnp.nan) for ratio in (si_sdr, sd_sdr)]
    level = partial(predicted_energy_at_silence, sample_rate=1, window=true.shape[1], hop=true.shape[1])
    return jnp.stack([*ratios, level(true[..., None], made[..., None])])
