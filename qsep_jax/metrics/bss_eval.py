"""BSS Eval: version 4 as museval computes it, version 3 as mir_eval's `bss_eval_sources`, in float64 on the device.

Version 4 (Stöter et al. 2018) fits distortion filters of 512 taps once to the whole signals, then scores frames. It
splits an estimate `ŝ` into the reference `s`, spatial distortion, interference and artefacts. The sum of the three
errors is `ŝ − s` for any filters. If SDR is the only metric, it is therefore computed as a ratio of energies, without
the filters.

Three rules differ from museval and mir_eval. They raise an error for a stem that is all zero in the references or the
estimates; here it has NaN as its scores and takes no part in the scores of the other stems. They raise an error for an
estimate without error; here it has an SDR of +∞. They give a single stem, with which nothing can interfere, the ratio
to a rounding error as its SIR, about 325 dB; here it is NaN.
"""

import warnings
from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from data_pipelines import processes

TAPS = 512
METRICS = ("SDR", "ISR", "SIR", "SAR")

# Correlations are summed over blocks of this many samples, so that memory does not depend on the length.
_BLOCK = 2**14 - TAPS


def bss_eval(
    references: np.ndarray,
    estimates: np.ndarray,
    sample_rate: float,
    version: Literal["v4", "v3"] = "v4",
    window: float = 1.0,
    hop: float = 1.0,
    metrics: Sequence[str] = METRICS,
    permute: bool = False,
) -> dict[str, np.ndarray]:
    """Score `[S, T, C]` estimates against references of the same shape: by metric, `[S, frames]` float64 in dB.

    A frame is NaN for all stems if any stem of the references or the estimates is silent in it, which means that the
    sum of its channels is zero throughout the frame. Samples after the last complete frame are not scored.

    Args:
      sample_rate: Sample rate in Hz.
      version: `v4` scores multichannel images in frames. `v3` scores mono sources over the whole signal as one frame
        and has no ISR.
      window: Length of a frame in seconds; v3 ignores it.
      hop: Distance between the starts of two frames in seconds; v3 ignores it.
      metrics: Metrics to compute, of SDR, ISR, SIR and SAR. SIR is NaN if fewer than two stems are scored.
      permute: Whether to match estimates to references so that the mean SIR is highest. The result then also has
        `permutation`, `[S]`: the index of the estimate that belongs to each reference.

    Raises:
      ValueError: for an unknown version or metric, or for signals whose shapes or values cannot be scored.
    """
    references, estimates = np.asarray(references), np.asarray(estimates)
    _check(references, estimates, version, metrics)
    stems, length, _ = references.shape
    whole = version == "v3"
    size = length if whole else min(length, round(window * sample_rate))
    step = length if whole else round(hop * sample_rate)
    if size < 1 or step < 1:
        raise ValueError(f"window and hop must be at least a sample long, not {window} and {hop} s at {sample_rate} Hz")
    starts = np.arange(0, length - size + 1, step)
    frames = [slice(start, start + size) for start in starts]
    sounding = _sounding(references, frames) & _sounding(estimates, frames)  # [S, frames]
    pairs = zip(references, estimates, strict=True)
    scored = np.flatnonzero(
        [row.any() or (_sounds(a) and _sounds(b)) for row, (a, b) in zip(sounding, pairs, strict=True)]
    )
    if len(scored) < stems:
        silent = ", ".join(str(stem) for stem in range(stems) if stem not in scored)
        warnings.warn(
            f"scored NaN: stem {silent} of {stems} is all zero in the references or the estimates", stacklevel=2
        )
        references, estimates = references[scored], estimates[scored]
    sounding = np.all(sounding[scored], axis=0).reshape(-1)

    table = np.full((len(METRICS), len(scored), len(scored), len(starts)), np.nan)
    scored_frames = [frame for frame, sound in zip(frames, sounding, strict=True) if sound]
    if len(scored) and scored_frames:
        if set(metrics) == {"SDR"} and not (whole or permute):
            table[..., sounding] = _energy_ratios(references, estimates, scored_frames)
        else:
            with jax.enable_x64(True):
                table[..., sounding] = _projection_ratios(references, estimates, scored_frames, whole, permute)
    if len(scored) < 2:
        table[METRICS.index("SIR")] = np.nan
    order = _best_order(table[METRICS.index("SIR")][..., sounding]) if permute else np.arange(len(scored))

    scores = {name: np.full((stems, len(starts)), np.nan) for name in metrics}
    for name in metrics:
        scores[name][scored] = table[METRICS.index(name), np.arange(len(scored)), order]
    if permute:
        scores["permutation"] = np.arange(stems)
        scores["permutation"][scored] = scored[order]
    return scores


def _check(references: np.ndarray, estimates: np.ndarray, version: str, metrics: Sequence[str]) -> None:
    if references.ndim != 3 or references.shape != estimates.shape or not references.size:
        raise ValueError(f"references {references.shape} and estimates {estimates.shape} must both be [S, T, C]")
    if version not in ("v3", "v4"):
        raise ValueError(f"version must be v3 or v4, not '{version}'")
    known = METRICS if version == "v4" else ("SDR", "SIR", "SAR")
    unknown = [name for name in metrics if name not in known]
    if unknown or not metrics:
        raise ValueError(f"metrics of {version} are {', '.join(known)}, not {', '.join(unknown) or 'none'}")
    if version == "v3" and references.shape[-1] != 1:
        raise ValueError(f"v3 scores mono sources, these have {references.shape[-1]} channels: mix down or use v4")
    for name, signals in {"references": references, "estimates": estimates}.items():
        if not all(np.isfinite(signal).all() for signal in signals):
            raise ValueError(f"the {name} hold NaN or infinite samples")


def _sounding(signals: np.ndarray, frames: list[slice]) -> np.ndarray:
    """Which frames of `[S, T, C]` are not silent: bool `[S, frames]`."""
    return np.array([[_sounds(signal[frame]) for frame in frames] for signal in signals])


def _sounds(signal: np.ndarray) -> bool:
    """Whether the sum of the channels of `[T, C]` is not zero throughout, which is museval's test of silence."""
    # The first samples are tested alone, because they decide in most cases.
    return any(signal[part].sum(axis=1).any() for part in (slice(256), slice(256, None)))


def _decibels(signal: np.ndarray, distortion: np.ndarray) -> np.ndarray:
    """The ratio of two energies in dB; +∞ where there is no distortion."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(distortion == 0, np.inf, 10 * np.log10(signal / distortion))


def _energy_ratios(references: np.ndarray, estimates: np.ndarray, frames: list[slice]) -> np.ndarray:
    """SDR of version 4 for each reference and the estimate of the same stem: `[4, S, S, frames]`, all else NaN."""
    table = np.full((len(METRICS), len(references), len(references), len(frames)), np.nan)
    for number, frame in enumerate(frames):
        for stem, (reference, estimate) in enumerate(zip(references, estimates, strict=True)):
            signal = reference[frame].ravel().astype(float)
            error = estimate[frame].ravel() - signal
            table[0, stem, stem, number] = _decibels(signal @ signal, error @ error)
    return table


def _best_order(sir: np.ndarray) -> np.ndarray:
    """Assign an estimate to each reference so that the mean SIR is highest: `[S]` from `[S, S, frames]`.

    The first axis is the reference, the second the estimate.
    """
    from scipy.optimize import linear_sum_assignment  # importing it takes half a second

    mean = sir.mean(axis=-1) if sir.shape[-1] and len(sir) > 1 else np.zeros(sir.shape[:2])
    return linear_sum_assignment(mean, maximize=True)[1]


def _projection_ratios(
    references: np.ndarray, estimates: np.ndarray, frames: list[slice], whole: bool, permute: bool
) -> np.ndarray:
    """All metrics for each reference and the estimate of the same stem: `[4, S, S, frames]`, all else NaN.

    With `permute`, all metrics for each reference and every estimate.
    """
    from scipy.fft import next_fast_len  # importing it takes half a second

    processes.return_freed_memory()
    stems, size = len(references), frames[0].stop - frames[0].start
    pairs = tuple((n, m) for n in range(stems) for m in range(stems) if permute or n == m)
    correlations = _correlations(references, estimates)
    window: Any = next_fast_len(size + TAPS - 1, real=True)
    all_filters = _spectra(_projection(correlations, range(stems), range(stems)), window)
    pair_filters = jnp.stack([_spectra(_projection(correlations, [n], [m]), window)[0, :, 0] for n, m in pairs])
    table = np.full((len(METRICS), stems, stems, len(frames)), np.nan)
    rows, columns = np.array(pairs).T
    for number, frame in enumerate(frames):
        signals = np.concatenate([references[:, frame], estimates[:, frame]]).swapaxes(1, 2).astype(float)
        energies = np.asarray(_energies(signals, all_filters, pair_filters, pairs, window))
        reference, matched, projected, spatial, interference, artefacts, error, filtered_error = energies
        sdr = (matched, filtered_error) if whole else (reference, error)
        ratios = (sdr, (reference, spatial), (matched, interference), (projected, artefacts))
        table[:, rows, columns, number] = [_decibels(*ratio) for ratio in ratios]
    return table


def _correlations(references: np.ndarray, estimates: np.ndarray) -> np.ndarray:
    """The correlations `Σ_u x[u] y[u + lag]` for lags 0 … 511: `[S, C, 2S, C, lag]`.

    x is each reference; y is each reference, then each estimate. The sums run over blocks, so that memory does not
    depend on the length of the signals.
    """
    stems, length, channels = references.shape
    total = jnp.zeros((stems * channels, 2 * stems * channels, (_BLOCK + TAPS) // 2 + 1), complex)
    for start in range(0, length, _BLOCK):
        ahead = np.concatenate([signals[:, start : start + _BLOCK + TAPS] for signals in (references, estimates)])
        padded = np.zeros((2 * stems, channels, _BLOCK + TAPS))
        padded[..., : ahead.shape[1]] = ahead.swapaxes(1, 2)
        # Without waiting here, the inputs of many blocks would be queued in memory.
        total = jax.block_until_ready(_add_block(total, padded.reshape(-1, _BLOCK + TAPS)))
    lags = np.asarray(jnp.fft.irfft(total, _BLOCK + TAPS)[..., :TAPS])
    return lags.reshape(stems, channels, 2 * stems, channels, TAPS)


@partial(jax.jit, donate_argnums=0)
def _add_block(total: Array, ahead: Array) -> Array:
    """Add the cross spectra of a block to `total`; `ahead` is the block and the `TAPS` samples that follow it."""
    here = jnp.where(jnp.arange(ahead.shape[1])[None] < ahead.shape[1] - TAPS, ahead[: len(total)], 0.0)
    return total + jnp.fft.rfft(here).conj()[:, None] * jnp.fft.rfft(ahead)[None]


def _projection(correlations: np.ndarray, references: Sequence[int], estimates: Sequence[int]) -> np.ndarray:
    """Least-squares filters that map the delayed references to each estimate: `[S, C, taps, estimates, C]`.

    This runs on the host, which factors the one large matrix in place; an accelerator would save only a second.
    """
    import scipy.linalg  # importing it takes half a second

    stems, channels = len(references), correlations.shape[1]
    size = stems * channels * TAPS
    columns = np.asarray(estimates) + correlations.shape[0]
    right = correlations[references][:, :, columns].reshape(stems * channels, -1, TAPS)
    right = right.swapaxes(1, 2).reshape(size, -1)
    cholesky, pivoted = scipy.linalg.get_lapack_funcs(("potrf", "pstrf"), dtype=float)
    factor, failed = cholesky(_gram(correlations, references).T, clean=False, overwrite_a=True)
    if failed:  # delayed references are linearly dependent up to rounding, such as a source in the centre of the image
        factor, order, rank, _ = pivoted(_gram(correlations, references).T, overwrite_a=True)
        independent, solved = order[:rank] - 1, np.zeros_like(right)
        solved[independent] = scipy.linalg.cho_solve(
            (factor[:rank, :rank], False), right[independent], check_finite=False
        )
    else:
        solved = scipy.linalg.cho_solve((factor, False), right, check_finite=False)
    return solved.reshape(stems, channels, TAPS, len(estimates), channels)


def _gram(correlations: np.ndarray, references: Sequence[int]) -> np.ndarray:
    """The Gram matrix of the delayed references, `[S · C · taps, S · C · taps]`.

    A machine epsilon is added to its diagonal, as in museval.
    """
    forward = correlations[references][:, :, references]  # [S, C, S, C, lag]
    count = forward.shape[0] * forward.shape[1]
    forward = forward.reshape(count, count, TAPS)
    behind = np.concatenate([forward[..., :0:-1], forward.swapaxes(0, 1)], axis=-1)  # of x behind y, −511 … 511
    gram = np.empty((count, TAPS, count, TAPS))
    for x, y in np.ndindex(count, count):
        gram[x, :, y] = np.lib.stride_tricks.sliding_window_view(behind[x, y], TAPS)[::-1]
    gram = gram.reshape(count * TAPS, -1)
    gram[np.diag_indices(len(gram))] += np.finfo(float).eps
    return gram


def _spectra(filters: np.ndarray, window: int) -> Array:
    """Transform filters `[S, C, taps, estimates, C]` to spectra `[S, C, estimates, C, F]`."""
    return jnp.fft.rfft(jnp.asarray(np.moveaxis(filters, 2, -1)), window)


@partial(jax.jit, static_argnums=(3, 4))
def _energies(
    signals: Array, all_filters: Array, pair_filters: Array, pairs: tuple[tuple[int, int], ...], window: int
) -> Array:
    """Energies of the parts of the estimates in one frame, `[8, pairs]`.

    The eight parts are the reference; the projection of the estimate on its reference, and on all references; spatial
    distortion; interference; artefacts; the total error; and the error relative to the projection on the reference.
    Energies are computed in the frequency domain, where they are the same (Parseval), which saves inverse transforms.

    Args:
      signals: References, then estimates, `[2S, C, T]`.
      all_filters: Spectra of the filters from all references to each estimate, `[S, C, S, C, F]`.
      pair_filters: Spectra of the filters from one reference to one estimate for each pair, `[pairs, C, C, F]`.
    """
    references, estimates = jnp.split(jnp.fft.rfft(signals, window), 2)
    rows = jnp.array([pair[0] for pair in pairs])
    columns = jnp.array([pair[1] for pair in pairs])
    reference, estimate = references[rows], estimates[columns]
    # Explicit sums of elementwise products are fused up to the energies, so the terms are never stored in memory.
    projections: Any = sum(references[at][None, None] * all_filters[at] for at in np.ndindex(all_filters.shape[:2]))
    projected = projections[columns]
    channels = range(pair_filters.shape[1])
    matched: Any = sum(reference[:, channel, None] * pair_filters[:, channel] for channel in channels)
    parts = (reference, matched, projected, matched - reference, projected - matched, estimate - projected)
    parts += (estimate - reference, estimate - matched)
    bins = jnp.arange(window // 2 + 1)
    # All but the first and the Nyquist bin stand for two bins of the full spectrum.
    weights = jnp.where((bins == 0) | (2 * bins == window), 1.0, 2.0) / window
    energies = [((jnp.square(part.real) + jnp.square(part.imag)) * weights[None, None]).sum((1, 2)) for part in parts]
    return jnp.stack(energies)
