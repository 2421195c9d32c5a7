"""Comparison of several models on the same items, with differences paired by item."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from data_pipelines.files import write_text
from qsep_jax.metrics.aggregate import summarize, track_medians
from qsep_jax.metrics.tracks import TrackScores

# Score in dB by (stem, item).
Scores = Mapping[tuple[str, str], float]


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """The result of evaluating one model.

    Attributes:
      table: Results as a Markdown table.
      folder: Folder that holds all results.
      scores: Scores to compare models by, under a description of what was scored and how.
      failures: One line for each track that was left out, because it could not be scored.
    """

    table: str
    folder: Path
    scores: Mapping[str, Scores]
    failures: tuple[str, ...] = ()


def by_track(scored: list[TrackScores], estimate: str) -> Scores:
    """The first metric of the protocol for one kind of estimate, as the median over the frames of each track."""
    return {
        (stem, scores.track): float(track_medians([metrics[scores.protocol.metrics[0]]])[0])
        for scores in scored
        if scores.estimate == estimate
        for stem, metrics in scores.stems.items()
    }


def compare(evaluations: Mapping[str, Evaluation], out: Path) -> str:
    """Compare evaluated models by name in a Markdown text, which is also written to `out`.

    Raises:
      ValueError: if no score has the same description in all evaluations, or the models have no item in common.
    """
    descriptions = dict.fromkeys(what for evaluation in evaluations.values() for what in evaluation.scores)
    common = [what for what in descriptions if all(what in evaluation.scores for evaluation in evaluations.values())]
    if not common:
        raise ValueError(
            f"the models cannot be compared, because they were not evaluated in the same way: {'; '.join(descriptions)}"
        )
    tables = [
        comparison_table({name: evaluation.scores[what] for name, evaluation in evaluations.items()}, what)
        for what in common
    ]
    text = "\n".join(tables)
    write_text(out, text)
    return text


def comparison_table(runs: Mapping[str, Scores], what: str) -> str:
    """A Markdown table of the mean and median of each run for each stem, and of the paired differences from the first.

    Only items for which all runs have a finite score count.

    Raises:
      ValueError: if there is no such item.
    """
    first, *others = runs
    common = {key for key in runs[first] if all(key in scores and np.isfinite(scores[key]) for scores in runs.values())}
    if not common:
        raise ValueError(f"{', '.join(runs)} have no item in common: evaluate them on the same corpus and split")
    lines = [
        f"{what}; dB: mean (median); differences paired, mean ± 95 % interval",
        "",
        f"| stem | items | {' | '.join(runs)} | {' | '.join(f'{run} − {first}' for run in others)} |",
        f"| --- | --: |{' --: |' * (len(runs) + len(others))}",
    ]
    for stem in ("all", *dict.fromkeys(stem for stem, _ in runs[first])):
        keys = sorted(key for key in common if stem in ("all", key[0]))
        if keys:
            values = {run: np.array([scores[key] for key in keys]) for run, scores in runs.items()}
            cells = [f"{np.mean(scores):.2f} ({np.median(scores):.2f})" for scores in values.values()]
            for run in others:
                difference = summarize(values[run] - values[first])
                cells.append(f"{difference.mean:+.2f} ± {difference.ci95:.2f}")
            lines.append(f"| {stem} | {len(keys)} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
