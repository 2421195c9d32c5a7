"""Scoring protocols by name: the metrics of a track, the frames that they are computed in, and a description."""

import dataclasses
from typing import Literal

import jax.numpy as jnp
import numpy as np

from qsep_jax.metrics.bss_eval import METRICS, bss_eval
from qsep_jax.metrics.ratios import sd_sdr, si_sdr, snr, utterance_sdr
from qsep_jax.metrics.segments import METRICS as SEGMENT_METRICS
from qsep_jax.metrics.segments import segment_scores
from qsep_jax.metrics.silence import energy_at_predicted_silence, predicted_energy_at_silence

# Protocols for complete tracks.
TrackProtocolName = Literal["bss_eval_v4", "bss_eval_v4_sdr", "bss_eval_v3", "whole_track"]
Name = TrackProtocolName | Literal["segments"]


@dataclasses.dataclass(frozen=True)
class Protocol:
    """How the stems of a track are scored.

    Attributes:
      name: `bss_eval_v4` computes SDR, ISR, SIR and SAR as museval does; `bss_eval_v4_sdr` computes the same SDR
        without the other three, which is much faster; `bss_eval_v3` computes SDR, SIR and SAR as mir_eval's
        `bss_eval_sources` does, with the channels mixed down; `whole_track` computes SI-SDR, SD-SDR, SNR, utterance
        SDR, PES and EPS; `segments` computes SI-SDR, SD-SDR, PES and BSS Eval version 3 in each `window` separately.
      window: Length of a frame in seconds, for BSS Eval version 4, PES and EPS; length of a segment.
      hop: Distance between the starts of two frames in seconds.
    """

    name: Name = "bss_eval_v4"
    window: float = 1.0
    hop: float = 1.0

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the metrics in the order of the table; the box plot shows the first."""
        return {
            "bss_eval_v4": METRICS,
            "bss_eval_v4_sdr": ("SDR",),
            "bss_eval_v3": ("SDR", "SIR", "SAR"),
            "whole_track": ("SI-SDR", "SD-SDR", "SNR", "uSDR", "PES", "EPS"),
            "segments": SEGMENT_METRICS,
        }[self.name]

    @property
    def framed(self) -> bool:
        """Whether all metrics have one score for each frame, and not one for the track."""
        return self.name.startswith("bss_eval_v4") or self.name == "segments"

    def __str__(self) -> str:
        frames = f"{self.window:g}-s frames every {self.hop:g} s, median over frames"
        return {
            "bss_eval_v4": f"BSS Eval v4 (museval), {frames}",
            "bss_eval_v4_sdr": f"BSS Eval v4 (museval), {frames}",
            "bss_eval_v3": "BSS Eval v3 (mir_eval bss_eval_sources), whole track, mixed down, no permutation",
            "whole_track": f"ratios over the whole track, all channels; PES and EPS in {self.window:g}-s frames "
            f"every {self.hop:g} s",
            "segments": f"segments of {self.window:.3f} s, each by itself; PES where a stem is silent; "
            "SDR, SIR and SAR by BSS Eval v3 over the stems of the piece",
        }[self.name]

    def score(self, references: np.ndarray, estimates: np.ndarray, sample_rate: int) -> dict[str, np.ndarray]:
        """Score `[S, T, C]` estimates against references: by metric, an array `[S, frames]`."""
        if self.name == "segments":
            return segment_scores(references, estimates, round(self.window * sample_rate))
        if self.framed:
            options = {"window": self.window, "hop": self.hop, "metrics": self.metrics}
            return bss_eval(references, estimates, sample_rate, "v4", **options)
        if self.name == "bss_eval_v3":
            references, estimates = (signals.mean(axis=2, keepdims=True) for signals in (references, estimates))
            return bss_eval(references, estimates, sample_rate, "v3", metrics=self.metrics)
        return _whole_track(references, estimates, sample_rate, self.window, self.hop)


def _whole_track(
    references: np.ndarray, estimates: np.ndarray, sample_rate: int, window: float, hop: float
) -> dict[str, np.ndarray]:
    """The metrics of `whole_track`, `[S, 1]` each.

    Ratios are NaN for a stem whose reference is all zero; scale-free ratios also where the estimate is all zero.
    """
    flat = [jnp.asarray(signals).reshape(len(signals), -1) for signals in (references, estimates)]
    ratios = {"SI-SDR": si_sdr(*flat), "SD-SDR": sd_sdr(*flat), "SNR": snr(*flat)}
    ratios["uSDR"] = utterance_sdr(jnp.asarray(references), jnp.asarray(estimates))
    in_reference, in_estimate = (signals.reshape(len(signals), -1).any(axis=1) for signals in (references, estimates))
    scores = {name: np.where(in_reference, np.asarray(values), np.nan) for name, values in ratios.items()}
    scores |= {name: np.where(in_estimate, scores[name], np.nan) for name in ("SI-SDR", "SD-SDR")}
    levels = {"PES": predicted_energy_at_silence, "EPS": energy_at_predicted_silence}
    for name, level in levels.items():
        scores[name] = np.asarray(level(jnp.asarray(references), jnp.asarray(estimates), sample_rate, window, hop))
    return {name: values[:, None] for name, values in scores.items()}
