"""BSS Eval: version 4 as museval computes it, version 3 as mir_eval's `bss_eval_sources`, in float64 on the device.

Version 4 (Stöter et al. 2018) fits distortion filters of 512 taps once to the whole signals and scores frames; an
estimate `ŝ` is split into the reference `s`, spatial distortion, interference and artefacts. Their sum is `ŝ − s`
whatever the filters are, so SDR, asked for alone, is a plain ratio of energies and takes that way.

Two rules differ from the originals, which raise: a stem that is all zero, in the references or the estimates, is scored
NaN and left out of everything else; an estimate without error has SDR +∞.
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
        if set(metrics) == {"SDR"} and not (whole or permute):
            table[..., sounding] = _energy_ratios(references, estimates, scored)
        else:
            with jax.enable_x64(True):
                table[..., sounding] = _projection_ratios(references, estimates, scored, whole, permute)
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


def _energy_ratios(references: np.ndarray, estimates: np.ndarray, parts: list[slice]) -> np.ndarray:
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
    from scipy.optimize import linear_sum_assignment  # half a second to import

    mean = sir.mean(axis=-1) if sir.shape[-1] else np.zeros(sir.shape[:2])
    return linear_sum_assignment(mean, maximize=True)[1]


def _projection_ratios(
    references: np.ndarray, estimates: np.ndarray, parts: list[slice], whole: bool, permute: bool
) -> np.ndarray:
    """All metrics of each reference and its own estimate, or with any for `permute`, `[4, S, S, frames]`, else NaN."""
    from scipy.fft import next_fast_len  # half a second to import

    processes.return_freed_memory()
    stems, size = len(references), parts[0].stop - parts[0].start
    pairs = tuple((n, m) for n in range(stems) for m in range(stems) if permute or n == m)
    correlations = _correlations(references, estimates)
    window: Any = next_fast_len(size + TAPS - 1, real=True)
    every = _spectra(_projection(correlations, range(stems), range(stems)), window)
    own = jnp.stack([_spectra(_projection(correlations, [n], [m]), window)[0, :, 0] for n, m in pairs])
    table = np.full((len(METRICS), stems, stems, len(parts)), np.nan)
    rows, columns = np.array(pairs).T
    for frame, part in enumerate(parts):
        heard = np.concatenate([references[:, part], estimates[:, part]]).swapaxes(1, 2).astype(float)
        energies = np.asarray(_energies(heard, every, own, pairs, window))
        true, matched, all_, spatial, interference, artefacts, error, filtered_error = energies
        wanted, missed = (matched, filtered_error) if whole else (true, error)
        ratios = ((wanted, missed), (true, spatial), (matched, interference), (all_, artefacts))
        table[:, rows, columns, frame] = [_decibels(*ratio) for ratio in ratios]
    return table


def _correlations(references: np.ndarray, estimates: np.ndarray) -> np.ndarray:
    """`Σ_u x[u] y[u + lag]` for lags 0 … 511, x the references, y references and estimates: `[S, C, 2S, C, lag]`.

    Summed up over blocks, so that the memory does not grow with the signals.
    """
    stems, length, channels = references.shape
    total = jnp.zeros((stems * channels, 2 * stems * channels, (_BLOCK + TAPS) // 2 + 1), complex)
    for start in range(0, length, _BLOCK):
        ahead = np.concatenate([signals[:, start : start + _BLOCK + TAPS] for signals in (references, estimates)])
        padded = np.zeros((2 * stems, channels, _BLOCK + TAPS))
        padded[..., : ahead.shape[1]] = ahead.swapaxes(1, 2)
        # Waited for, or blocks would pile up in memory before the device.
        total = jax.block_until_ready(_add_block(total, padded.reshape(-1, _BLOCK + TAPS)))
    lags = np.asarray(jnp.fft.irfft(total, _BLOCK + TAPS)[..., :TAPS])
    return lags.reshape(stems, channels, 2 * stems, channels, TAPS)


@partial(jax.jit, donate_argnums=0)
def _add_block(total: Array, ahead: Array) -> Array:
    here = jnp.where(jnp.arange(ahead.shape[1])[None] < ahead.shape[1] - TAPS, ahead[: len(total)], 0.0)
    return total + jnp.fft.rfft(here).conj()[:, None] * jnp.fft.rfft(ahead)[None]


def _projection(correlations: np.ndarray, references: Sequence[int], estimates: Sequence[int]) -> np.ndarray:
    """Filters that bring delayed references nearest to each estimate: `[S, C, taps, estimates, C]`.

    On the host, where the one large matrix is factored in its own memory: an accelerator would gain a second.
    """
    import scipy.linalg  # half a second to import

    stems, channels = len(references), correlations.shape[1]
    size = stems * channels * TAPS
    columns = np.asarray(estimates) + correlations.shape[0]
    right = correlations[references][:, :, columns].reshape(stems * channels, -1, TAPS)
    right = right.swapaxes(1, 2).reshape(size, -1)
    cholesky, pivoted = scipy.linalg.get_lapack_funcs(("potrf", "pstrf"), dtype=float)
    factor, failed = cholesky(_gram(correlations, references).T, clean=False, overwrite_a=True)
    if failed:  # references that are linear in one another, to rounding, such as one in the centre of a stereo image
        factor, order, rank, _ = pivoted(_gram(correlations, references).T, overwrite_a=True)
        kept, solved = order[:rank] - 1, np.zeros_like(right)
        solved[kept] = scipy.linalg.cho_solve((factor[:rank, :rank], False), right[kept], check_finite=False)
    else:
        solved = scipy.linalg.cho_solve((factor, False), right, check_finite=False)
    return solved.reshape(stems, channels, TAPS, len(estimates), channels)


def _gram(correlations: np.ndarray, references: Sequence[int]) -> np.ndarray:
    """Correlations among delayed references, `[S · C · taps]` squared, with a machine epsilon on the diagonal.

    So has museval.
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
    """`[S, C, taps, estimates, C]` → `[S, C, estimates, C, F]`."""
    return jnp.fft.rfft(jnp.asarray(np.moveaxis(filters, 2, -1)), window)


@partial(jax.jit, static_argnums=(3, 4))
def _energies(signals: Array, every: Array, own: Array, pairs: tuple[tuple[int, int], ...], window: int) -> Array:
    """Of one frame, `[8, pairs]`: energies of the reference, its own projection, that on all references, spatial
    distortion, interference, artefacts, the whole error, and the error against its own projection.

    In the spectrum, which the energy is the same in (Parseval), so that nothing is transformed back.

    Args:
      signals: references, then estimates, `[2S, C, T]`.
      every, own: spectra of the filters from all references to each estimate, `[S, C, S, C, F]`, and from one reference
        to one estimate for each pair, `[pairs, C, C, F]`.
    """
    references, estimates = jnp.split(jnp.fft.rfft(signals, window), 2)
    rows = jnp.array([pair[0] for pair in pairs])
    columns = jnp.array([pair[1] for pair in pairs])
    true, estimate = references[rows], estimates[columns]
    # Sums of products written out, and elementwise up to the energies: so the terms never lie in memory.
    among_all: Any = sum(references[at][None, None] * every[at] for at in np.ndindex(every.shape[:2]))
    projected = among_all[columns]
    matched: Any = sum(true[:, channel, None] * own[:, channel] for channel in range(own.shape[1]))
    parts = (true, matched, projected, matched - true, projected - matched, estimate - projected)
    parts += (estimate - true, estimate - matched)
    bins = jnp.arange(window // 2 + 1)
    twice = jnp.where((bins == 0) | (2 * bins == window), 1.0, 2.0) / window  # bins that stand for two
    energies = [((jnp.square(part.real) + jnp.square(part.imag)) * twice[None, None]).sum((1, 2)) for part in parts]
    return jnp.stack(energies)
