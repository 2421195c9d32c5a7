"""Judge a model on segments of the length that it was trained on, each by itself, as Slizovskaia et al. 2021 do.

All stems of the model are scored, also those that nobody plays: nothing is silenced that the model has not. The last,
incomplete segment of a track is left out, and a track that is shorter than one is padded with zeros.
"""

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from data_pipelines.files import write_text
from data_pipelines.prepared.corpus import Corpus
from qsep_jax.dsp.stft import istft, stft
from qsep_jax.dsp.wiener import EPSILON, wiener
from qsep_jax.evaluation.comparison import Scores
from qsep_jax.evaluation.tracks import Estimate, Oracle, ScoredTrack, Stems, facts_of, mixed, tracks_of
from qsep_jax.inference.cues import MixtureCondition, index_of, playing
from qsep_jax.inference.model import Model
from qsep_jax.inference.rows import in_rows, repeat_condition
from qsep_jax.metrics import oracles
from qsep_jax.metrics.aggregate import summarize
from qsep_jax.metrics.protocols import Protocol
from qsep_jax.metrics.tracks import TrackScores
from qsep_jax.nn import xla
from qsep_jax.systems.base import Condition, System, Variables
from qsep_jax.systems.capabilities import EstimatesSpectrograms, uses_stft


def protocol_of(system: System) -> Protocol:
    seconds = system.chunk_samples / system.sample_rate
    return Protocol("segments", seconds, seconds)


def of_corpus(
    corpus: Corpus, system: System, estimates: Mapping[str, Estimate], model: Mapping[str, Any]
) -> list[ScoredTrack]:
    """The tracks of a split that have two stems or more, cut to whole segments, all stems of the system in their order.

    Those that are not in a track are zeros; `facts["sources"]` names the others.

    Raises:
      ValueError: if there is no such track, the system lacks a stem of the corpus, or this has several channels.
    """
    if corpus.channels != 1:
        raise ValueError(f"segments are scored in mono, not with {corpus.channels} channels: mix down")
    for stem in corpus.stems:
        index_of(system, stem)
    samples = system.chunk_samples

    def references(name: str) -> Stems:
        stems = playing(corpus, name)
        length = max(max(stem.samples for stem in stems) // samples, 1) * samples
        found = {stem.stem: corpus.read(dataclasses.replace(stem, samples=length)) for stem in stems}
        return {stem: found.get(stem, np.zeros((length, 1), np.float32)) for stem in system.stems}

    found = tracks_of(corpus, references, estimates, facts_of(corpus, model))
    sources = {track.name: [stem.stem for stem in playing(corpus, track.name)] for track in found}
    return [dataclasses.replace(track, facts={**track.facts, "sources": sources[track.name]}) for track in found]


def by_model(model: Model, told: Callable[[str], MixtureCondition], iterations: Sequence[int]) -> dict[str, Estimate]:
    """What a model makes of the segments of a track, after each number of Wiener iterations: `model_w0`, `model_w2`, …

    The network runs once for all of them.

    Args:
      told: what the model is told of a track; where it depends on the time, it is asked for each segment.
    """
    counts = tuple(dict.fromkeys(iterations))
    run = partial(_estimates, model.system, model.variables, counts)
    held: dict[str, np.ndarray] = {}  # of the track at hand, `[n, W, K, T]`

    def estimate(place: int, track: str, references: Stems) -> Stems:
        if track not in held:
            held.clear()
            mixture = _cut(mixed(references), model)
            held[track] = in_rows(run, mixture, _of_segments(told(track), mixture))
        return _joined(held[track][:, place], references)

    return {f"model_w{count}": partial(estimate, place) for place, count in enumerate(counts)}


def by_oracle(model: Model, names: Sequence[Oracle]) -> dict[str, Estimate]:
    """`mixture` for every stem; the ideal ratio or binary masks `irm` and `ibm`, of the model's own STFT."""
    stft_of = uses_stft(model.system)
    masks = {"irm": oracles.ideal_ratio_mask, "ibm": oracles.ideal_binary_mask}

    def estimate(name: str, track: str, references: Stems) -> Stems:
        if name == "mixture":
            return dict.fromkeys(references, mixed(references))
        sources = np.stack([_cut(stem, model) for stem in references.values()], axis=1)
        found = [np.asarray(masks[name](part, stft_of.window_length, stft_of.hop_length)) for part in sources]
        return _joined(np.stack(found), references)

    return {name: partial(estimate, name) for name in names}


def _cut(audio: np.ndarray, model: Model) -> np.ndarray:
    """`[n · T, 1]` → `[n, T]`."""
    return audio.reshape(-1, model.system.chunk_samples)


def _joined(segments: np.ndarray, references: Stems) -> Stems:
    """`[n, K, T]` → `[n · T, 1]` of each stem."""
    whole = segments.swapaxes(0, 1).reshape(segments.shape[1], -1, 1)
    return dict(zip(references, whole, strict=True))


def _of_segments(told: MixtureCondition, mixture: np.ndarray) -> Condition:
    """Of `[1, …]`, or, where it depends on the time, of `[n, …]`."""
    if not callable(told):
        return told
    found = [told(start) for start in range(0, mixture.size, mixture.shape[1])]
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *found)


@partial(xla.jit, static_argnums=(0, 2))
def _estimates(
    system: System, variables: Variables, iterations: tuple[int, ...], rows: Array, condition: Condition
) -> Array:
    """Outputs for mixtures `[rows, T]` after each number of Wiener iterations, `[rows, W, K, T]`."""
    conditions, stft_of = repeat_condition(condition, rows), uses_stft(system)
    window_length, hop_length = stft_of.window_length, stft_of.hop_length
    outputs = system.separate(variables, rows[..., None], conditions)[..., 0]
    if isinstance(system, EstimatesSpectrograms):
        spectrograms = system.spectrograms(variables, rows[..., None], conditions)
    else:
        spectrograms = stft(outputs, window_length, hop_length)[..., None]
    mixtures = stft(rows, window_length, hop_length)[..., None]

    def filtered(count: int) -> Array:
        refine = partial(refined, iterations=count)
        found = jax.lax.map(lambda pair: refine(*pair), (jnp.abs(spectrograms), mixtures))
        return istft(found[..., 0], window_length, hop_length)

    return jnp.stack([filtered(count) if count else outputs for count in iterations], axis=1)


def refined(magnitudes: Array, mixture: Array, iterations: int) -> Array:
    """Estimates of these magnitudes `[K, N, F, C]` in a complex mixture `[N, F, C]`, as `norbert.wiener` has them.

    The estimates share out the mixture, no residual beside them: soft masks `v_k / (ε + Σ v)`, then iterations of the
    Wiener filter.
    """
    shares = magnitudes / (EPSILON + magnitudes.sum(0, keepdims=True))
    return wiener(shares * mixture[None], mixture, iterations)


def rows(scored: Sequence[TrackScores], run: str, corpus: str, split: str) -> list[dict[str, Any]]:
    """Rows of `results.json`: mean, standard deviation and so on over the segments of all tracks.

    `stem` is `all` for all stems pooled, and `sources` the number of stems of the tracks, None for all tracks.
    """
    found: dict[tuple[str, str, int | None, str], list[np.ndarray]] = {}
    for track in scored:
        count = len(track.facts["sources"])
        for stem, metrics in track.stems.items():
            for metric, values in metrics.items():
                for of, sources in (("all", None), ("all", count), (stem, None)):
                    found.setdefault((track.estimate, of, sources, metric), []).append(values)
    place = {"run": run, "corpus": corpus, "split": split, "protocol": str(scored[0].protocol)}
    table = []
    for (estimate, stem, sources, metric), values in sorted(found.items(), key=lambda item: _order(item[0], scored)):
        scores = np.concatenate(values)
        scores = scores[np.isfinite(scores)]
        if scores.size:
            spread = {"std": float(scores.std(ddof=1)) if scores.size > 1 else 0.0}
            what = {"estimate": estimate, "stem": stem, "sources": sources, "metric": metric}
            table.append({**place, **what, **dataclasses.asdict(summarize(scores)), **spread})
    return table


def _order(key: tuple[str, str, int | None, str], scored: Sequence[TrackScores]) -> tuple[int, ...]:
    """All, then by number of sources, then by stem; within that by estimate."""
    estimate, stem, sources, metric = key
    stems, estimates = ["all", *scored[0].stems], list(dict.fromkeys(scores.estimate for scores in scored))
    return stems.index(stem), sources or 0, estimates.index(estimate), scored[0].protocol.metrics.index(metric)


def report(scored: Sequence[TrackScores], run: str, corpus: str, split: str, out: Path) -> str:
    """Write `results.json` and `table.md`; the table.

    Raises:
      ValueError: if there is no score.
    """
    found = rows(scored, run, corpus, split)
    if not found:
        raise ValueError(f"no segment of {corpus} has a score")
    written = table(found, scored)
    write_text(out / "results.json", json.dumps(found, indent=2))
    write_text(out / "table.md", written)
    return written


def table(found: list[dict[str, Any]], scored: Sequence[TrackScores]) -> str:
    """The rows as a Markdown table: mean ± standard deviation of all, by number of sources, and by stem."""
    metrics = scored[0].protocol.metrics
    cells = {(row["stem"], row["sources"], row["estimate"], row["metric"]): row for row in found}
    tracks = len({scores.track for scores in scored})
    lines = [
        f"{found[0]['corpus']}, {found[0]['split']} split, {tracks} tracks; {found[0]['protocol']}; dB: mean ± "
        "standard deviation over segments and stems",
        "",
        f"| stems | estimate | sounding | silent | {' | '.join(metrics)} |",
        f"| --- | --- | --: | --: |{' --: |' * len(metrics)}",
    ]
    for stem, sources, estimate in dict.fromkeys((row["stem"], row["sources"], row["estimate"]) for row in found):
        line = [cells.get((stem, sources, estimate, metric)) for metric in metrics]
        counts = [row["count"] if row else 0 for row in (line[0], line[metrics.index("PES")])]
        what = f"{stem} in tracks of {sources}" if sources else stem
        values = " | ".join(f"{row['mean']:.2f} ± {row['std']:.2f}" if row else "–" for row in line)
        lines.append(f"| {what} | {estimate} | {counts[0]} | {counts[1]} | {values} |")
    return "\n".join(lines) + "\n"


def by_segment(scored: Sequence[TrackScores], estimate: str) -> Scores:
    """The first metric of the protocol of each stem and segment, for one kind of estimate."""
    return {
        (stem, f"{scores.track}/{segment}"): float(value)
        for scores in scored
        if scores.estimate == estimate
        for stem, found in scores.stems.items()
        for segment, value in enumerate(found[scores.protocol.metrics[0]])
    }
