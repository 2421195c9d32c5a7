"""Judge a model on a fixed list of test mixtures of a few seconds, each with its query or what else it is told by.

Estimates are scored beside the untouched mixture and the ideal ratio mask; audio and a picture are kept.
"""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from data_pipelines.audio.writing import write_wav
from data_pipelines.files import write_text
from data_pipelines.prepared.corpus import Corpus
from data_pipelines.progress import Progress
from data_pipelines.testlist import Item, TestList, draw, waveforms
from qsep_jax.evaluation.leakage import refuse_overlap
from qsep_jax.figures import spectrograms
from qsep_jax.inference.conditions import encode
from qsep_jax.inference.cues import features_of, from_corpus, index_of
from qsep_jax.inference.model import Model
from qsep_jax.inference.separation import separate
from qsep_jax.metrics.aggregate import summarize
from qsep_jax.metrics.oracles import ideal_ratio_mask
from qsep_jax.metrics.ratios import si_sdr
from qsep_jax.runs.bundle import SavedModel, describe
from qsep_jax.runs.experiment import Experiment

ESTIMATES = ("mixture", "model", "irm")


@dataclasses.dataclass(frozen=True)
class Scored:
    """SI-SDR in dB of each kind of estimate for one item of the list."""

    item: Item
    si_sdr: dict[str, float]


def evaluate(run: SavedModel, experiment: Experiment, model: Model, out: Path, audio: int = 10) -> list[dict]:
    """Score `model` and write everything to `out`; the rows of `results.json`.

    Raises:
      ValueError: if the corpus is not prepared or too small for the list, or has songs that it was trained on.
    """
    settings, stream, rate = experiment.evaluation, experiment.judged, model.system.sample_rate
    corpus = stream.open(experiment.data.root, stream.corpora[0], rate, settings.split)
    if settings.split == "test":
        refuse_overlap(experiment, corpus)
    items, estimated = draw(settings, corpus), _estimator(model, corpus, features_of(stream))
    scored, shown = [], None
    with Progress("evaluating", len(items), unit="target") as progress:
        for item in items:
            mixture, sources, query = waveforms(item, corpus, settings)
            estimate = estimated(item, mixture, query)
            scored.append(Scored(item, _score(sources, item.target, mixture, estimate)))
            if item.mixture < audio:
                _write_audio(out / "audio", item, mixture, sources[item.target], estimate, rate)
            shown = shown or spectrograms.Example(mixture, sources[item.target], estimate, item.stem, rate)
            progress.advance()
    rows = _rows(scored, describe(run), stream.corpora[0], settings)
    write_text(out / "results.json", json.dumps(rows, indent=2))
    write_text(out / "table.md", table(rows))
    write_text(out / "list.json", json.dumps([_listed(score) for score in scored], indent=1))
    if shown:
        spectrograms.overview(shown, run.path / "metrics.jsonl", out / "overview.png")
    return rows


def _estimator(model: Model, corpus: Corpus, features: str) -> Callable[[Item, np.ndarray, np.ndarray], np.ndarray]:
    """What gives the target of an item out of its mixture: asked by its query, or told of all sources at once."""
    if "query" in model.system.cues:
        return lambda item, mixture, query: separate(model, mixture, encode(model, query))[0]
    held: dict[int, np.ndarray] = {}  # all stems of the mixture at hand, whose items follow one another

    def estimated(item: Item, mixture: np.ndarray, query: np.ndarray) -> np.ndarray:
        stem = index_of(model.system, item.stem)
        if item.mixture not in held:
            held.clear()
            held[item.mixture] = separate(model, mixture, from_corpus(model, corpus, item.sources, features))
        return held[item.mixture][stem]

    return estimated


def _score(sources: np.ndarray, target: int, mixture: np.ndarray, estimate: np.ndarray) -> dict[str, float]:
    """SI-SDR over the whole excerpt, the channels of a source laid end to end."""
    flat = jnp.asarray(sources).swapaxes(1, 2)  # [S, C, T]
    bound = jnp.stack([ideal_ratio_mask(flat[:, channel])[target] for channel in range(flat.shape[1])])
    estimates = {"mixture": mixture.T, "model": estimate.T, "irm": bound}
    return {name: float(si_sdr(flat[target].ravel(), jnp.ravel(signal))) for name, signal in estimates.items()}


def _rows(scored: list[Scored], run: dict[str, Any], corpus: str, settings: TestList) -> list[dict]:
    kind = settings.kind if settings.sources == 2 or settings.kind != "pairs" else f"mixtures of {settings.sources}"
    protocol = f"SI-SDR of whole {settings.seconds:g}-s excerpts, {kind}, list seed {settings.seed}"
    place = {
        "run": run.get("run", run.get("bundle")),
        "step": run.get("step"),
        "corpus": corpus,
        "split": settings.split,
        "protocol": protocol,
    }
    rows = []
    for stem in ("all", *sorted({score.item.stem for score in scored})):
        chosen = [score for score in scored if stem in ("all", score.item.stem)]
        before = np.array([score.si_sdr["mixture"] for score in chosen])
        for estimate in ESTIMATES:
            values = np.array([score.si_sdr[estimate] for score in chosen])
            metrics = {"si_sdr": values, "si_sdr_improvement": values - before, "made_worse": values < before}
            for metric, numbers in metrics.items():
                summary = dataclasses.asdict(summarize(numbers))
                rows.append({**place, "estimate": estimate, "stem": stem, "metric": metric, **summary})
    return rows


def table(rows: list[dict]) -> str:
    """The rows as a Markdown table: the three estimates over all targets, then the model stem by stem."""
    cells = {(row["estimate"], row["stem"], row["metric"]): row for row in rows}
    lines = [
        f"{rows[0]['corpus']}, {rows[0]['split']} split; {rows[0]['protocol']}; dB",
        "",
        "| estimate | stem | targets | SI-SDR mean | median | improvement mean ± 95 % | median | made worse |",
        "| --- | --- | --: | --: | --: | --: | --: | --: |",
    ]
    stems = [stem for estimate, stem, metric in cells if (estimate, metric) == ("model", "si_sdr")]
    for estimate, stem in [(name, "all") for name in ESTIMATES] + [("model", stem) for stem in stems if stem != "all"]:
        ratio, gain, worse = (cells[estimate, stem, name] for name in ("si_sdr", "si_sdr_improvement", "made_worse"))
        lines.append(
            f"| {estimate} | {stem} | {ratio['count']} | {ratio['mean']:.2f} | {ratio['median']:.2f} "
            f"| {gain['mean']:.2f} ± {gain['ci95']:.2f} | {gain['median']:.2f} | {100 * worse['mean']:.0f} % |"
        )
    return "\n".join(lines) + "\n"


def _listed(score: Scored) -> dict:
    """One item as plain data, so that the list can be read, checked and scored by others."""
    return {**dataclasses.asdict(score.item), "stem": score.item.stem, "si_sdr": score.si_sdr}


def _write_audio(
    folder: Path, item: Item, mixture: np.ndarray, target: np.ndarray, estimate: np.ndarray, rate: int
) -> None:
    names = "+".join(source.stem for source in item.sources)
    place = folder / f"{item.mixture:02d}_{names}"
    # One gain for all, so that levels can be compared and nothing clips.
    peak = max(1.0, *(float(np.abs(signal).max()) for signal in (mixture, target, estimate)))
    for name, signal in {"mixture": mixture, f"{item.stem}_target": target, f"{item.stem}_estimate": estimate}.items():
        write_wav(place / f"{name}.wav", signal / peak, rate)
