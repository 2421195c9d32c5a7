"""Energies in silent frames, which have no SDR: predicted energy at silence and energy at predicted silence.

PES is the energy of an estimate where its reference is silent; EPS is the energy of a reference where its estimate is
silent. Both are in dB relative to one sample at full scale, and lower is better. They grow with the length of a frame,
so state the window beside the number. Frames are those of `bss_eval`: only complete ones count, and a signal shorter
than a window is one frame. A frame is silent if every sample of every channel is exactly zero.

Source: Schulze-Forster et al. 2019, "Weakly informed audio source separation". ε sets the lowest possible score, which
a silent estimate of silence gets: Slizovskaia et al. 2021 used 1e-8 (−80 dB), the first authors 1e-12 (−120 dB).
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import Array, lax


def predicted_energy_at_silence(
    references: Array,
    estimates: Array,
    sample_rate: float,
    window: float = 1.0,
    hop: float = 1.0,
    epsilon: float = 1e-8,
) -> Array:
    """PES: mean of `10 log₁₀(Σ ŝ² + ε)` dB over the frames in which the reference is silent, `[S, T, C]` → `[S]`.

    The sum is over the samples and channels of a frame. The result is NaN for a source that is silent in no frame.

    Args:
      sample_rate: Sample rate in Hz.
      window: Length of a frame in seconds.
      hop: Distance between the starts of two frames in seconds.
      epsilon: ε, which sets the lowest possible score.

    Raises:
      ValueError: if the shapes differ or are not `[S, T, C]`, or a frame has no sample.
    """
    size, step = _frame(references, estimates, sample_rate, window, hop)
    return _level_at_silence(estimates, references, size, step, epsilon)


def energy_at_predicted_silence(
    references: Array,
    estimates: Array,
    sample_rate: float,
    window: float = 1.0,
    hop: float = 1.0,
    epsilon: float = 1e-8,
) -> Array:
    """EPS: mean of `10 log₁₀(Σ s² + ε)` dB over the frames in which the estimate is silent, `[S, T, C]` → `[S]`.

    The result is NaN for an estimate that is silent in no frame. Frames in which the reference is silent as well count
    with the lowest possible score, as in the authors' code; the tables of their paper leave them out. Arguments and
    errors are those of `predicted_energy_at_silence`.
    """
    size, step = _frame(references, estimates, sample_rate, window, hop)
    return _level_at_silence(references, estimates, size, step, epsilon)


def _frame(references: Array, estimates: Array, sample_rate: float, window: float, hop: float) -> tuple[int, int]:
    """The length of a frame and the distance between the starts of two frames, in samples."""
    if references.ndim != 3 or references.shape != estimates.shape or not references.size:
        raise ValueError(f"references {references.shape} and estimates {estimates.shape} must both be [S, T, C]")
    size, step = min(references.shape[1], round(window * sample_rate)), round(hop * sample_rate)
    if size < 1 or step < 1:
        raise ValueError(f"window and hop must be at least a sample long, not {window} and {hop} s at {sample_rate} Hz")
    return size, step


@partial(jax.jit, static_argnums=(2, 3))
def _level_at_silence(measured: Array, silenced: Array, size: int, step: int, epsilon: float) -> Array:
    """The mean level of `measured` over the frames in which `silenced` is silent; frames are processed in sequence."""

    def frame(start: Array) -> tuple[Array, Array]:
        energy = jnp.square(lax.dynamic_slice_in_dim(measured, start, size, axis=1).astype(jnp.float32)).sum((1, 2))
        sounds = (lax.dynamic_slice_in_dim(silenced, start, size, axis=1) != 0).any((1, 2))
        return 10.0 * jnp.log10(energy + epsilon), ~sounds

    levels, silent = lax.map(frame, jnp.arange(0, measured.shape[1] - size + 1, step))
    return jnp.where(silent, levels, 0.0).sum(0) / silent.sum(0)
