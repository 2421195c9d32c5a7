"""BSS Eval: version 4 as museval computes it, version 3 as mir_eval's `bss_eval_sources`, in float64 on the device.

Version 4 (Stöter et al. 2018) fits distortion filters of 512 taps once to the whole signals and scores frames; an
estimate `ŝ` is split into the reference `s`, spatial distortion, interference and artefacts. Their sum is `ŝ − s`
whatever the filters are, so SDR, asked for alone, is a plain ratio of energies and takes that way.

Two rules differ from the originals, which raise: a stem that is all zero, in the references or the estimates, is scored
NaN and left out of everything else; an estimate without error has SDR +∞.
"""

import itertools
import warnings
from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

TAPS = 512
METRICS = ("SDR", "ISR", "SIR", "SAR")

# Samples of the blocks in which correlations are summed up, which bounds the memory whatever the length.
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
    """Scores in dB, each `[S, frames]` float64, of `[S, T, C]` estimates against references of the same shape.

    A frame in which any stem of the references or estimates is silent (its channels add up to zero throughout) is NaN
    for all stems; samples after the last whole frame are not scored.

    Args:
      sample_rate: Hz.
      version: `v4`: stereo images in frames; `v3`: mono sources over the whole signal, one frame, no ISR.
      window, hop: of a frame, seconds; not used by v3.
      metrics: which of SDR, ISR, SIR and SAR.
      permute: match estimates to references so that the mean SIR is highest; the result then has `permutation` too,
        `[S]`: which estimate belongs to each reference.

    Raises:
      ValueError: for shapes, metrics or a version that do not fit.
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
    parts = [slice(start, start + size) for start in starts]
    sounding = _sounding(references, parts) & _sounding(estimates, parts)  # [S, frames]
    both = zip(references, estimates, strict=True)
    heard = np.flatnonzero(
        [row.any() or (_sounds(a) and _sounds(b)) for row, (a, b) in zip(sounding, both, strict=True)]
    )
    if len(heard) < stems:
        mute = ", ".join(str(stem) for stem in range(stems) if stem not in heard)
        warnings.warn(
            f"scored NaN: stem {mute} of {stems} is all zero in the references or the estimates", stacklevel=2
        )
        references, estimates = references[heard], estimates[heard]
    sounding = np.all(sounding[heard], axis=0).reshape(-1)

    table = np.full((len(METRICS), len(heard), len(heard), len(starts)), np.nan)
    scored = [part for part, sound in zip(parts, sounding, strict=True) if sound]
    if len(heard) and scored:
        ratios = _energy_ratios if set(metrics) == {"SDR"} and not (whole or permute) else _projection_ratios
        with jax.enable_x64(True):
            table[..., sounding] = ratios(references, estimates, scored, whole, permute)
    order = _best_order(table[METRICS.index("SIR")][..., sounding]) if permute else np.arange(len(heard))

    scores = {name: np.full((stems, len(starts)), np.nan) for name in metrics}
    for name in metrics:
        scores[name][heard] = table[METRICS.index(name), np.arange(len(heard)), order]
    if permute:
        scores["permutation"] = np.arange(stems)
        scores["permutation"][heard] = heard[order]
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


def _sounding(signals: np.ndarray, parts: list[slice]) -> np.ndarray:
    """Which parts of `[S, T, C]` sound, `[S, parts]`."""
    return np.array([[_sounds(signal[part]) for part in parts] for signal in signals])


def _sounds(signal: np.ndarray) -> bool:
    """Whether the channels of `[T, C]` do not add up to zero throughout, which is what museval goes by."""
    return any(signal[part].sum(axis=1).any() for part in (slice(256), slice(256, None)))


def _decibels(signal: np.ndarray, distortion: np.ndarray) -> np.ndarray:
    """`10 log₁₀` of a ratio of energies; +∞ where there is no distortion."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(distortion == 0, np.inf, 10 * np.log10(signal / distortion))


def _energy_ratios(
    references: np.ndarray, estimates: np.ndarray, parts: list[slice], whole: bool, permute: bool
) -> np.ndarray:
    """SDR of version 4 of each reference and its own estimate, `[4, S, S, frames]`, the others NaN."""
    table = np.full((len(METRICS), len(references), len(references), len(parts)), np.nan)
    for frame, part in enumerate(parts):
        for stem, (reference, estimate) in enumerate(zip(references, estimates, strict=True)):
            wanted = reference[part].ravel().astype(float)
            error = estimate[part].ravel() - wanted
            table[0, stem, stem, frame] = _decibels(wanted @ wanted, error @ error)
    return table


def _best_order(sir: np.ndarray) -> np.ndarray:
    """Of `[S, S, frames]`, reference by estimate: the estimate for each reference that makes the mean highest."""
    rows, mean = np.arange(len(sir)), sir.mean(axis=-1) if sir.shape[-1] else np.zeros(sir.shape[:2])
    return np.array(max(itertools.permutations(rows), key=lambda order: mean[rows, list(order)].mean()))


def _projection_ratios(
    references: np.ndarray, estimates: np.ndarray, parts: list[slice], whole: bool, permute: bool
) -> np.ndarray:
    """All metrics of each reference and its own estimate, or with any for `permute`, `[4, S, S, frames]`, else NaN."""
    from scipy.fft import next_fast_len  # half a second to import

    stems, size = len(references), parts[0].stop - parts[0].start
    pairs = tuple((n, m) for n in range(stems) for m in range(stems) if permute or n == m)
    correlations = _correlations(references, estimates)
    window: Any = next_fast_len(size + TAPS - 1, real=True)
    every = _spectra(_projection(correlations, range(stems), range(stems)), window)
    own = jnp.stack([_spectra(_projection(correlations, [n], [m]), window) for n, m in pairs])
    table = np.full((len(METRICS), stems, stems, len(parts)), np.nan)
    rows, columns = np.array(pairs).T
    for frame, part in enumerate(parts):
        heard = (signals[:, part].astype(float) for signals in (references, estimates))
        energies = np.asarray(_energies(*heard, every, own, pairs, window))
        true, matched, all_, spatial, interference, artefacts, error, filtered_error = energies
        wanted, missed = (matched, filtered_error) if whole else (true, error)
        ratios = ((wanted, missed), (true, spatial), (matched, interference), (all_, artefacts))
        table[:, rows, columns, frame] = [_decibels(*ratio) for ratio in ratios]
    return table


def _correlations(references: np.ndarray, estimates: np.ndarray) -> Array:
    """`Σ_u x[u] y[u + lag]` for lags 0 … 511, x the references, y references and estimates: `[S, C, 2S, C, lag]`.

    Summed up over blocks, so that the memory does not grow with the signals.
    """
    stems, length, channels = references.shape
    total = jnp.zeros((stems * channels, 2 * stems * channels, (_BLOCK + TAPS) // 2 + 1), complex)
    for start in range(0, length, _BLOCK):
        ahead = np.concatenate([signals[:, start : start + _BLOCK + TAPS] for signals in (references, estimates)])
        padded = np.zeros((2 * stems, channels, _BLOCK + TAPS))
        padded[..., : ahead.shape[1]] = ahead.swapaxes(1, 2)
        total = _add_block(total, padded.reshape(-1, _BLOCK + TAPS))
    lags = jnp.fft.irfft(total, _BLOCK + TAPS)[..., :TAPS]
    return lags.reshape(stems, channels, 2 * stems, channels, TAPS)


@partial(jax.jit, donate_argnums=0)
def _add_block(total: Array, ahead: Array) -> Array:
    here = jnp.where(jnp.arange(ahead.shape[1])[None] < ahead.shape[1] - TAPS, ahead[: len(total)], 0.0)
    return total + jnp.fft.rfft(here).conj()[:, None] * jnp.fft.rfft(ahead)[None]


def _projection(correlations: Array, references: Sequence[int], estimates: Sequence[int]) -> Array:
    """Filters that bring delayed references nearest to each estimate: `[S, C, taps, estimates, C]`."""
    chosen = correlations, jnp.asarray(references), jnp.asarray(estimates)
    solved = _solve(*chosen)
    if not jnp.isfinite(solved).all():  # references that are linear in one another, to rounding: one panned centre
        solved = jnp.linalg.solve(*_normal_equations(*chosen))
    if not jnp.isfinite(solved).all():
        solved = jnp.linalg.lstsq(*_normal_equations(*chosen))[0]
    stems, channels = len(references), correlations.shape[1]
    return solved.reshape(stems, channels, TAPS, len(estimates), channels)


@jax.jit
def _solve(correlations: Array, references: Array, estimates: Array) -> Array:
    """By Cholesky, in the memory of the equations; NaN where they are not positive definite."""
    gram, right = _normal_equations(correlations, references, estimates)
    factor = lax.linalg.cholesky(gram, symmetrize_input=False)
    halfway = lax.linalg.triangular_solve(factor, right, left_side=True, lower=True)
    return lax.linalg.triangular_solve(factor, halfway, left_side=True, lower=True, transpose_a=True)


@jax.jit
def _normal_equations(correlations: Array, references: Array, estimates: Array) -> tuple[Array, Array]:
    """Correlations among delayed references, `[n, n]` with n = S · C · taps, and of those with estimates, `[n, …]`.

    A machine epsilon on the diagonal, as museval has it.
    """
    forward = correlations[references][:, :, references]  # [S, C, S, C, lag]
    count = forward.shape[0] * forward.shape[1]
    forward = forward.reshape(count, count, TAPS)
    lags = jnp.concatenate([forward[..., :0:-1], forward.swapaxes(0, 1)], axis=-1)  # of x behind y, −511 … 511

    def row(behind: Array, tap: Array) -> Array:  # [y, 1023] of one x → [y, tap of y]
        return lax.dynamic_slice_in_dim(behind, TAPS - 1 - tap, TAPS, axis=-1)

    gram = jax.vmap(jax.vmap(row, (None, 0)), (0, None))(lags, jnp.arange(TAPS)).reshape(count * TAPS, count * TAPS)
    gram = jnp.fill_diagonal(gram, gram.diagonal() + jnp.finfo(gram.dtype).eps, inplace=False)
    right = correlations[references][:, :, estimates + correlations.shape[0]].reshape(count, -1, TAPS)
    return gram, right.swapaxes(1, 2).reshape(count * TAPS, -1)


def _spectra(filters: Array, window: int) -> Array:
    return jnp.fft.rfft(filters, window, axis=2)


@partial(jax.jit, static_argnums=(4, 5))
def _energies(
    references: Array, estimates: Array, every: Array, own: Array, pairs: tuple[tuple[int, int], ...], window: int
) -> Array:
    """Of one frame, `[8, pairs]`: energies of the reference, its own projection, that on all references, spatial
    distortion, interference, artefacts, the whole error, and the error against its own projection."""
    spectra = jnp.fft.rfft(references, window, axis=1)
    among_all = jnp.fft.irfft(jnp.einsum("sfc,scfkd->kfd", spectra, every), window, axis=1)
    rows = jnp.array([pair[0] for pair in pairs])
    columns = jnp.array([pair[1] for pair in pairs])
    matched = jnp.fft.irfft(jnp.einsum("pfc,pcfd->pfd", spectra[rows], own[:, 0, :, :, 0]), window, axis=1)
    pad = ((0, 0), (0, window - references.shape[1]), (0, 0))
    true, estimate = jnp.pad(references, pad)[rows], jnp.pad(estimates, pad)[columns]
    projected = among_all[columns]
    signals = (true, matched, projected, matched - true, projected - matched, estimate - projected)
    signals += (estimate - true, estimate - matched)
    return jnp.stack([jnp.square(signal).sum((1, 2)) for signal in signals])
