"""Evaluation of a model on a fixed list of short test mixtures.

Each target of a mixture is selected by its query, or the model is conditioned on what the corpus knows of the mixture.
The estimates of the model are scored beside the unprocessed mixture and the ideal ratio mask; audio of the first
mixtures and a picture are stored.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from data_pipelines.audio.writing import write_wav
from data_pipelines.files import read_json, write_json, write_text
from data_pipelines.prepared.corpus import Corpus
from data_pipelines.progress import Progress
from data_pipelines.testlist import Item, TestList, draw, waveforms
from qsep_jax.evaluation.comparison import Scores
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
class ScoredItem:
    """An item of the list with the SI-SDR in dB of each kind of estimate."""

    item: Item
    si_sdr: Mapping[str, float]

    def to_dict(self) -> dict[str, Any]:
        """The item as plain data, by which others can reproduce the mixture and its score."""
        return {**dataclasses.asdict(self.item), "stem": self.item.stem, "si_sdr": dict(self.si_sdr)}


def evaluate(run: SavedModel, experiment: Experiment, model: Model, out: Path, audio: int = 10) -> list[dict]:
    """Score `model` on the list of `experiment`, write all results to `out`, and return the rows of `results.json`.

    Args:
      audio: Number of mixtures of which audio files are written.

    Raises:
      ValueError: if the corpus is not prepared, is too small for the list, or has songs that the model was trained on.
    """
    settings, stream, rate = experiment.evaluation, experiment.judged, model.system.sample_rate
    corpus = stream.open(experiment.data.root, stream.corpora[0], rate, settings.split)
    if settings.split == "test":
        refuse_overlap(experiment, corpus)
    items, estimator = draw(settings, corpus), _estimator(model, corpus, features_of(stream))
    scored, example = [], None
    with Progress("evaluating", len(items), unit="target") as progress:
        for item in items:
            mixture, sources, query = waveforms(item, corpus, settings)
            estimate = estimator(item, mixture, query)
            scored.append(ScoredItem(item, _score(sources, item.target, mixture, estimate)))
            if item.mixture < audio:
                _write_audio(out / "audio", item, mixture, sources[item.target], estimate, rate)
            example = example or spectrograms.Example(mixture, sources[item.target], estimate, item.stem, rate)
            progress.advance()
    rows = _rows(scored, describe(run), stream.corpora[0], settings)
    write_json(out / "results.json", rows)
    write_text(out / "table.md", table(rows))
    write_json(out / "list.json", [score.to_dict() for score in scored], indent=1)
    if example:
        spectrograms.overview(example, run.path / "metrics.jsonl", out / "overview.png")
    return rows


def improvements(out: Path) -> Scores:
    """The improvement of the model over the mixture for each item that `evaluate` stored in `out`."""
    return {
        (item["stem"], f"{item['mixture']}/{item['target']}"): item["si_sdr"]["model"] - item["si_sdr"]["mixture"]
        for item in read_json(out / "list.json", "evaluate the model again")
    }


def _estimator(model: Model, corpus: Corpus, features: str) -> Callable[[Item, np.ndarray, np.ndarray], np.ndarray]:
    """Return a function that estimates the target `[T, C]` of an item from the item, its mixture and its query."""
    if "query" in model.system.cues:
        return lambda item, mixture, query: separate(model, mixture, encode(model, query))[0]
    # All stems of the current mixture. Its items follow one another, so it is separated once.
    current: dict[int, np.ndarray] = {}

    def estimator(item: Item, mixture: np.ndarray, query: np.ndarray) -> np.ndarray:
        stem = index_of(model.system, item.stem)
        if item.mixture not in current:
            current.clear()
            current[item.mixture] = separate(model, mixture, from_corpus(model, corpus, item.sources, features))
        return current[item.mixture][stem]

    return estimator


def _score(sources: np.ndarray, target: int, mixture: np.ndarray, estimate: np.ndarray) -> dict[str, float]:
    """SI-SDR in dB of each kind of estimate over the complete excerpt, with the channels concatenated."""
    references = jnp.asarray(sources).swapaxes(1, 2)  # [S, C, T]
    channels = range(references.shape[1])
    masked = jnp.stack([ideal_ratio_mask(references[:, channel])[target] for channel in channels])
    estimates = {"mixture": mixture.T, "model": estimate.T, "irm": masked}
    return {name: float(si_sdr(references[target].ravel(), jnp.ravel(signal))) for name, signal in estimates.items()}


def _rows(scored: Sequence[ScoredItem], run: Mapping[str, Any], corpus: str, settings: TestList) -> list[dict]:
    kind = settings.kind if settings.sources == 2 or settings.kind != "pairs" else f"mixtures of {settings.sources}"
    protocol = f"SI-SDR of whole {settings.seconds:g}-s excerpts, {kind}, list seed {settings.seed}"
    context = {
        "run": run.get("run", run.get("bundle")),
        "step": run.get("step"),
        "corpus": corpus,
        "split": settings.split,
        "protocol": protocol,
    }
    rows = []
    for stem in ("all", *sorted({score.item.stem for score in scored})):
        scores = [score for score in scored if stem in ("all", score.item.stem)]
        before = np.array([score.si_sdr["mixture"] for score in scores])
        for estimate in ESTIMATES:
            values = np.array([score.si_sdr[estimate] for score in scores])
            metrics = {"si_sdr": values, "si_sdr_improvement": values - before, "made_worse": values < before}
            for metric, numbers in metrics.items():
                summary = dataclasses.asdict(summarize(numbers))
                rows.append({**context, "estimate": estimate, "stem": stem, "metric": metric, **summary})
    return rows


def table(rows: list[dict]) -> str:
    """Format rows as a Markdown table: each kind of estimate over all targets, then the model for each stem."""
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


def _write_audio(
    folder: Path, item: Item, mixture: np.ndarray, target: np.ndarray, estimate: np.ndarray, rate: int
) -> None:
    """Write mixture, target and estimate as WAV; they share one gain, so that nothing clips and levels compare."""
    names = "+".join(source.stem for source in item.sources)
    item_folder = folder / f"{item.mixture:02d}_{names}"
    peak = max(1.0, *(float(np.abs(signal).max()) for signal in (mixture, target, estimate)))
    for name, signal in {"mixture": mixture, f"{item.stem}_target": target, f"{item.stem}_estimate": estimate}.items():
        write_wav(item_folder / f"{name}.wav", signal / peak, rate)
