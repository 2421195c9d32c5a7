"""Estimates of the segments of tracks, as Slizovskaia et al. 2021 score them: each has the model's training length.

A model separates each segment without the others. All of its stems are scored as it estimates them, including stems
that are absent from the track. The incomplete last segment of a track is dropped; a track shorter than one segment is
padded with zeros.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from data_pipelines.prepared.corpus import Corpus
from qsep_jax.dsp.stft import istft, stft
from qsep_jax.dsp.wiener import EPSILON, wiener
from qsep_jax.evaluation.estimates import Estimator, Oracle, Stems, mixture_of
from qsep_jax.evaluation.tracks import ScoredTrack, corpus_facts, make_tracks
from qsep_jax.inference.cues import MixtureCondition, index_of, stem_excerpts
from qsep_jax.inference.model import Model
from qsep_jax.inference.rows import in_rows, repeat_condition
from qsep_jax.metrics import oracles
from qsep_jax.metrics.protocols import Protocol
from qsep_jax.nn import xla
from qsep_jax.systems.base import Condition, System, Variables
from qsep_jax.systems.capabilities import EstimatesSpectrograms, uses_stft


def segment_protocol(system: System) -> Protocol:
    """The protocol for segments of the length that `system` was trained on."""
    seconds = system.chunk_samples / system.sample_rate
    return Protocol("segments", seconds, seconds)


def corpus_segments(
    corpus: Corpus, system: System, estimators: Mapping[str, Estimator], model_facts: Mapping[str, Any]
) -> list[ScoredTrack]:
    """The tracks of a split that have at least two stems, cut to complete segments.

    References are all stems of the system in its order; absent stems are zeros, and `facts["sources"]` names the stems
    that are present.

    Raises:
      ValueError: if there is no such track, the system lacks a stem of the corpus, or the corpus is not mono.
    """
    if corpus.channels != 1:
        raise ValueError(f"segments are scored in mono, not with {corpus.channels} channels: mix down")
    for stem in corpus.stems:
        index_of(system, stem)
    samples = system.chunk_samples

    def references(name: str) -> Stems:
        stems = stem_excerpts(corpus, name)
        length = max(max(stem.samples for stem in stems) // samples, 1) * samples
        audio = {stem.stem: corpus.read(dataclasses.replace(stem, samples=length)) for stem in stems}
        return {stem: audio.get(stem, np.zeros((length, 1), np.float32)) for stem in system.stems}

    tracks = make_tracks(corpus, references, estimators, corpus_facts(corpus, model_facts))
    sources = {track.name: [stem.stem for stem in stem_excerpts(corpus, track.name)] for track in tracks}
    return [dataclasses.replace(track, facts={**track.facts, "sources": sources[track.name]}) for track in tracks]


def model_estimators(
    model: Model, condition_of: Callable[[str], MixtureCondition], iterations: Sequence[int]
) -> dict[str, Estimator]:
    """Estimators by a model, one for each number of Wiener iterations: `model_w0`, `model_w2`, …

    The network runs once for all of them.

    Args:
      condition_of: Returns the condition of a track by its name; a condition that depends on the time is evaluated at
        the start of each segment.
    """
    counts = tuple(dict.fromkeys(iterations))
    run = partial(_separate_and_filter, model.system, model.variables, counts)
    current: dict[str, np.ndarray] = {}  # estimates `[segments, W, K, T]` of the current track

    def estimator(place: int, track: str, references: Stems) -> Stems:
        if track not in current:
            current.clear()
            mixture = _to_segments(mixture_of(references), model)
            current[track] = in_rows(run, mixture, _segment_conditions(condition_of(track), mixture))
        return _to_stems(current[track][:, place], references)

    return {f"model_w{count}": partial(estimator, place) for place, count in enumerate(counts)}


def oracle_estimators(model: Model, names: Sequence[Oracle]) -> dict[str, Estimator]:
    """Estimators by oracles: the mixture for every stem, or the ideal ratio or binary mask in the model's own STFT."""
    stft_of = uses_stft(model.system)
    masks = {"irm": oracles.ideal_ratio_mask, "ibm": oracles.ideal_binary_mask}

    def estimator(name: str, track: str, references: Stems) -> Stems:
        if name == "mixture":
            return dict.fromkeys(references, mixture_of(references))
        segments = np.stack([_to_segments(stem, model) for stem in references.values()], axis=1)
        estimates = [
            np.asarray(masks[name](sources, stft_of.window_length, stft_of.hop_length)) for sources in segments
        ]
        return _to_stems(np.stack(estimates), references)

    return {name: partial(estimator, name) for name in names}


def _to_segments(audio: np.ndarray, model: Model) -> np.ndarray:
    """Cut audio into segments: `[n · T, 1]` → `[n, T]`."""
    return audio.reshape(-1, model.system.chunk_samples)


def _to_stems(segments: np.ndarray, references: Stems) -> Stems:
    """Join segments `[n, K, T]` to a signal `[n · T, 1]` for each stem."""
    signals = segments.swapaxes(0, 1).reshape(segments.shape[1], -1, 1)
    return dict(zip(references, signals, strict=True))


def _segment_conditions(condition: MixtureCondition, mixture: np.ndarray) -> Condition:
    """The condition of segments `[n, T]`: of `[1, …]`, or of `[n, …]` if it depends on the time."""
    if not callable(condition):
        return condition
    conditions = [condition(start) for start in range(0, mixture.size, mixture.shape[1])]
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *conditions)


@partial(xla.jit, static_argnums=(0, 2))
def _separate_and_filter(
    system: System, variables: Variables, iterations: tuple[int, ...], rows: Array, condition: Condition
) -> Array:
    """Separate mixtures `[rows, T]`: estimates after each number of Wiener iterations, `[rows, W, K, T]`."""
    conditions, stft_of = repeat_condition(condition, rows), uses_stft(system)
    window_length, hop_length = stft_of.window_length, stft_of.hop_length
    outputs = system.separate(variables, rows[..., None], conditions)[..., 0]
    if isinstance(system, EstimatesSpectrograms):
        spectrograms = system.spectrograms(variables, rows[..., None], conditions)
    else:
        spectrograms = stft(outputs, window_length, hop_length)[..., None]
    mixtures = stft(rows, window_length, hop_length)[..., None]

    def filtered(count: int) -> Array:
        refine = partial(filter_estimates, iterations=count)
        estimates = jax.lax.map(lambda pair: refine(*pair), (jnp.abs(spectrograms), mixtures))
        return istft(estimates[..., 0], window_length, hop_length)

    return jnp.stack([filtered(count) if count else outputs for count in iterations], axis=1)


def filter_estimates(magnitudes: Array, mixture: Array, iterations: int) -> Array:
    """Apply the Wiener filter of `norbert.wiener` to estimates of magnitudes `[K, N, F, C]`.

    The estimates share out the complex mixture `[N, F, C]` without a residual: soft masks `v_k / (ε + Σ v)` come first,
    then the iterations of the filter.
    """
    shares = magnitudes / (EPSILON + magnitudes.sum(0, keepdims=True))
    return wiener(shares * mixture[None], mixture, iterations)
