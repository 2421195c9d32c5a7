"""Two runs or more on the same items, side by side, with the difference item by item."""

from collections.abc import Mapping

import numpy as np

from qsep_jax.metrics.aggregate import summarize, track_medians
from qsep_jax.metrics.tracks import TrackScores

# Score in dB of each (stem, item).
Scores = Mapping[tuple[str, str], float]


def by_track(scored: list[TrackScores], estimate: str) -> Scores:
    """The first metric of the protocol, median over frames, of one kind of estimate."""
    chosen = [scores for scores in scored if scores.estimate == estimate]
    return {
        (stem, scores.track): float(track_medians([found[scores.protocol.metrics[0]]])[0])
        for scores in chosen
        for stem, found in scores.stems.items()
    }


def side_by_side(runs: Mapping[str, Scores], what: str) -> str:
    """A Markdown table: for each stem the runs' means and medians, and each run less the first one, paired.

    Only items that all runs have a finite score for count.

    Raises:
      ValueError: if there are none.
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
            cells = [f"{np.mean(found):.2f} ({np.median(found):.2f})" for found in values.values()]
            for run in others:
                difference = summarize(values[run] - values[first])
                cells.append(f"{difference.mean:+.2f} ± {difference.ci95:.2f}")
            lines.append(f"| {stem} | {len(keys)} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
