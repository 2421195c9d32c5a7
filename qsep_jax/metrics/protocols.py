"""Scoring protocols by name: which metrics of a track, in which frames, and what a table says of them."""

import dataclasses
from typing import Literal

import jax.numpy as jnp
import numpy as np

from qsep_jax.metrics.bss_eval import METRICS, bss_eval
from qsep_jax.metrics.ratios import sd_sdr, si_sdr, snr, utterance_sdr
from qsep_jax.metrics.segments import METRICS as OF_SEGMENTS
from qsep_jax.metrics.segments import segment_scores
from qsep_jax.metrics.silence import energy_at_predicted_silence, predicted_energy_at_silence

Name = Literal["bss_eval_v4", "bss_eval_v4_sdr", "bss_eval_v3", "whole_track", "segments"]


@dataclasses.dataclass(frozen=True)
class Protocol:
    """How the stems of a track are scored.

    Attributes:
      name: `bss_eval_v4`: SDR, ISR, SIR and SAR as museval computes them; `bss_eval_v4_sdr`: its SDR alone, which is
        much faster; `bss_eval_v3`: SDR, SIR and SAR as mir_eval's `bss_eval_sources`, channels mixed down;
        `whole_track`: SI-SDR, SD-SDR, SNR, utterance SDR, PES and EPS; `segments`: SI-SDR, SD-SDR, PES and version 3
        of each `window`, by itself.
      window, hop: of a frame, seconds; for version 4, PES and EPS; the window of segments, too.
    """

    name: Name = "bss_eval_v4"
    window: float = 1.0
    hop: float = 1.0

    @property
    def metrics(self) -> tuple[str, ...]:
        """In the order of the table; the first is drawn as boxes."""
        return {
            "bss_eval_v4": METRICS,
            "bss_eval_v4_sdr": ("SDR",),
            "bss_eval_v3": ("SDR", "SIR", "SAR"),
            "whole_track": ("SI-SDR", "SD-SDR", "SNR", "uSDR", "PES", "EPS"),
            "segments": OF_SEGMENTS,
        }[self.name]

    @property
    def framed(self) -> bool:
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
        """The metrics of `[S, T, C]` estimates against references, each `[S, frames]`."""
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
    """NaN for the ratios of a stem whose reference is all zero, and for scale-free ones whose estimate is."""
    flat = [jnp.asarray(signals).reshape(len(signals), -1) for signals in (references, estimates)]
    scores = {"SI-SDR": si_sdr(*flat), "SD-SDR": sd_sdr(*flat), "SNR": snr(*flat)}
    scores["uSDR"] = utterance_sdr(jnp.asarray(references), jnp.asarray(estimates))
    sounding, made = (signals.reshape(len(signals), -1).any(axis=1) for signals in (references, estimates))
    found = {name: np.where(sounding, np.asarray(values), np.nan) for name, values in scores.items()}
    found |= {name: np.where(made, found[name], np.nan) for name in ("SI-SDR", "SD-SDR")}
    at_silence = {"PES": predicted_energy_at_silence, "EPS": energy_at_predicted_silence}
    for name, level in at_silence.items():
        found[name] = np.asarray(level(jnp.asarray(references), jnp.asarray(estimates), sample_rate, window, hop))
    return {name: values[:, None] for name, values in found.items()}
