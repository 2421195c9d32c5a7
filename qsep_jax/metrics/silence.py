"""What sounds where nothing should, and what is missed where nothing sounds: PES and EPS, for frames without an SDR.

Both are energies in dB, relative to one sample at full scale; lower is better. They grow with the length of a frame, so
its window belongs beside the number. Frames are those of `bss_eval`: whole ones only, a signal shorter than a window
being one frame. A frame is silent if every sample of every channel is zero; very soft does not count.

Source: Schulze-Forster et al. 2019, "Weakly informed audio source separation". ε sets the floor, which is the score of
a silence that is met: 1e-8, −80 dB, is what Slizovskaia et al. 2021 computed with; 1e-12, −120 dB, the first authors.
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

    NaN for a source that is silent in no frame. The sum is over the samples and channels of a frame.

    Args:
      sample_rate: Hz.
      window, hop: of a frame, seconds.

    Raises:
      ValueError: if the shapes do not fit, or a frame has no sample.
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

    NaN for an estimate that is silent in no frame. Frames in which the reference is silent, too, count at the floor, as
    in the authors' code; the tables of their paper left them out. Arguments and errors as in
    `predicted_energy_at_silence`.
    """
    size, step = _frame(references, estimates, sample_rate, window, hop)
    return _level_at_silence(references, estimates, size, step, epsilon)


def _frame(references: Array, estimates: Array, sample_rate: float, window: float, hop: float) -> tuple[int, int]:
    """Samples in a frame and between frames."""
    if references.ndim != 3 or references.shape != estimates.shape or not references.size:
        raise ValueError(f"references {references.shape} and estimates {estimates.shape} must both be [S, T, C]")
    size, step = min(references.shape[1], round(window * sample_rate)), round(hop * sample_rate)
    if size < 1 or step < 1:
        raise ValueError(f"window and hop must be at least a sample long, not {window} and {hop} s at {sample_rate} Hz")
    return size, step


@partial(jax.jit, static_argnums=(2, 3))
def _level_at_silence(measured: Array, watched: Array, size: int, step: int, epsilon: float) -> Array:
    """Mean level of `measured` over the frames in which `watched` is silent, one frame after the other."""

    def frame(start: Array) -> tuple[Array, Array]:
        energy = jnp.square(lax.dynamic_slice_in_dim(measured, start, size, axis=1).astype(jnp.float32)).sum((1, 2))
        sounds = (lax.dynamic_slice_in_dim(watched, start, size, axis=1) != 0).any((1, 2))
        return 10.0 * jnp.log10(energy + epsilon), ~sounds

    levels, silent = lax.map(frame, jnp.arange(0, measured.shape[1] - size + 1, step))
    return jnp.where(silent, levels, 0.0).sum(0) / silent.sum(0)
