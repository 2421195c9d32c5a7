"""Estimates of the stems of a track: by a model, for each query mode, and by oracles that know the true stems."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Literal

import jax.numpy as jnp
import numpy as np

from data_pipelines.audio.samples import fit_length, resample
from qsep_jax.inference.bank import Bank
from qsep_jax.inference.chunks import default_plan, over_chunks
from qsep_jax.inference.conditions import encode, encode_chunks, is_loud
from qsep_jax.inference.cues import MixtureCondition
from qsep_jax.inference.model import Model
from qsep_jax.inference.separation import ConditionAt, separate_blocks
from qsep_jax.metrics import oracles
from qsep_jax.systems.base import Condition

# Where the query for a stem comes from: see `model_estimators`.
QueryMode = Literal["mean", "gt", "iterative", "nearest", "gt_segments", "iterative_segments"]
Oracle = Literal["mixture", "irm", "ibm"]
# Oracles process a track in chunks of this many samples, so that its whole spectrogram is never in memory.
ORACLE_CHUNK = 2**18
# Waveforms `[T, C]` by stem.
Stems = Mapping[str, np.ndarray]
# Returns estimates of the stems of a track, given the name of the track and its true stems.
Estimator = Callable[[str, Stems], Stems]


def mixture_of(references: Stems) -> np.ndarray:
    """The sum of all stems, `[T, C]`."""
    return np.sum(list(references.values()), axis=0)


def model_estimators(
    model: Model,
    bank: Bank | None,
    query_modes: Sequence[QueryMode],
    condition_of: Callable[[str], MixtureCondition] = lambda track: (),
) -> dict[str, Estimator]:
    """Estimators by a model: `model_MODE` for each query mode, or `model` for a system without queries.

    The query modes of Lee et al. 2019 are `mean`, the class means (§4.4); `iterative`, a second separation whose
    queries are the estimates of the first (§4.6); `gt`, the true stems, an upper bound (§4.7); and `nearest`, the
    training track nearest to the true stem (§4.5). The class mean replaces a query that would be silent. The paper does
    not say whether §4.6 and §4.7 condition a track on one latent or each segment on the latent of its own segment of
    the query; `iterative` and `gt` do the former, `iterative_segments` and `gt_segments` the latter.

    Args:
      bank: Conditions of the training tracks; None for a system without queries, which estimates all stems at once.
      query_modes: Query modes; systems without queries ignore them.
      condition_of: Returns the condition of a track, by its name, for a system without queries.
    """
    if bank is None:

        def estimate_all(track: str, references: Stems) -> Stems:
            estimates = _separate(model, references, [condition_of(track)])
            return dict(zip(model.system.stems, estimates, strict=True))

        return {"model": estimate_all}
    return {f"model_{mode}": partial(_estimate_by_queries, model, bank, mode) for mode in query_modes}


def at_sample_rate(estimator: Estimator, sample_rate: int, model_rate: int) -> Estimator:
    """An estimator of tracks at `sample_rate` by a model at `model_rate` (Hz).

    The model gets resampled tracks, and its estimates are resampled to the length of the tracks. They lack what is
    above half of the model's rate, as a user of the model hears them.
    """
    if sample_rate == model_rate:
        return estimator

    def estimate(track: str, references: Stems) -> Stems:
        resampled = {stem: resample(audio, sample_rate, model_rate) for stem, audio in references.items()}
        estimates = estimator(track, resampled)
        return {
            stem: fit_length(resample(audio, model_rate, sample_rate), len(references[stem]))
            for stem, audio in estimates.items()
        }

    return estimate


def _estimate_by_queries(model: Model, bank: Bank, mode: QueryMode, track: str, references: Stems) -> Stems:
    means = {stem: bank.mean(stem) for stem in references}
    queries = references
    if mode in ("iterative", "iterative_segments"):
        queries = dict(zip(references, _separate(model, references, list(means.values())), strict=True))
    conditions: list[Condition | ConditionAt] = []
    for stem, query in queries.items():
        condition = means[stem]
        if mode != "mean" and is_loud(query.mean(axis=1)):
            condition = encode(model, query, stem)
            if mode == "nearest":
                condition = bank.tracks[stem][bank.nearest(stem, condition)]
            elif mode in ("gt_segments", "iterative_segments"):
                condition = encode_chunks(model, query, condition)
        conditions.append(condition)
    return dict(zip(references, _separate(model, references, conditions), strict=True))


def _separate(model: Model, references: Stems, conditions: Sequence[MixtureCondition | ConditionAt]) -> np.ndarray:
    """Separate the sum of the references with each condition: `[S, T, C]`."""
    mixture = mixture_of(references)
    return np.concatenate(list(separate_blocks(model, [mixture], mixture.shape[1], conditions)), axis=1)


def oracle_estimators(names: Sequence[Oracle]) -> dict[str, Estimator]:
    """Estimators by oracles, by the names of the oracles."""
    return {name: lambda track, references, name=name: oracle_estimates(name, references) for name in names}


def oracle_estimates(name: Oracle, references: Stems) -> Stems:
    """Estimate stems by an oracle.

    `mixture` returns the unprocessed mixture for every stem; `irm` and `ibm` apply the ideal ratio or binary mask to
    each channel of the mixture.
    """
    if name == "mixture":
        return dict.fromkeys(references, mixture_of(references))
    mask = {"irm": oracles.ideal_ratio_mask, "ibm": oracles.ideal_binary_mask}[name]
    signals, estimates = np.stack(list(references.values())), []  # [S, T, C]
    for channel in range(signals.shape[2]):
        sources = [signals[:, :, channel].T]  # `over_chunks` passes the sources as if they were channels

        def apply_mask(chunks: np.ndarray) -> np.ndarray:
            return np.asarray(mask(jnp.asarray(chunks[0].T)))[None, :, :, None]

        blocks = over_chunks(sources, default_plan(ORACLE_CHUNK), 1, apply_mask)
        estimates.append(np.concatenate(list(blocks), axis=1))
    return dict(zip(references, np.concatenate(estimates, axis=2), strict=True))
