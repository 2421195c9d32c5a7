"""Means and paired differences of scores over repeated trainings, with intervals over seeds or over items.

An interval over items (songs, sources) says how precisely one network is measured. Whether one system is better than
another also depends on the seed of the training, for which there are intervals over seeds where a system has several.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from qsep_jax.metrics.aggregate import Summary, summarize, summarize_few

# The score of each item in dB, in one training.
Scores = Mapping[Any, float]


@dataclasses.dataclass(frozen=True)
class Paired:
    """The difference of two systems.

    Attributes:
      items: Over items, whose scores are first averaged over the trainings of each system.
      seeds: Over the seeds that both systems were trained with, each the mean over items; None for a single seed.
    """

    items: Summary
    seeds: Summary | None


def mean_of(runs: Sequence[Scores]) -> Summary | None:
    """The mean over items; the interval is over runs, or over items if there is a single run. None without a score."""
    if not runs or not all(runs):
        return None
    if len(runs) == 1:
        return summarize(np.array(list(runs[0].values())))
    return summarize_few(np.array([np.mean(list(run.values())) for run in runs]))


def over_runs(runs: Sequence[Scores]) -> dict[Any, float]:
    """The mean of each item over the runs; an item without a score in one of them is left out."""
    return {item: float(np.mean([run[item] for run in runs])) for item in runs[0] if all(item in run for run in runs)}


def difference(first: Scores, second: Scores) -> dict[Any, float]:
    """The difference of two runs, by item; items that one of them lacks are left out."""
    return {item: value - second[item] for item, value in first.items() if item in second}


def paired(first: Mapping[int, Scores], second: Mapping[int, Scores]) -> Paired | None:
    """The first system minus the second on the same items, from the scores of each by seed; None without a score."""
    by_item = difference(over_runs(list(first.values())), over_runs(list(second.values())))
    if not by_item:
        return None
    by_seed = [difference(first[seed], second[seed]) for seed in first if seed in second]
    return Paired(summarize(np.array(list(by_item.values()))), mean_of(by_seed) if len(by_seed) > 1 else None)
