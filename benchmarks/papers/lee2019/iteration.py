"""§4.6: `python -m benchmarks.papers.lee2019.iteration --workdir RUN`.

The iterative method separates with the class mean and then separates again with the estimate as the query. The
experiment measures its gain for each stem.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.papers import published
from benchmarks.papers.lee2019 import figures
from benchmarks.papers.lee2019.context import Context, load_context
from benchmarks.papers.lee2019.scores import (
    TrackOptions,
    differences,
    frame_scores,
    protocol_of,
    scores_of_tracks,
    title,
)
from qsep_jax.command_line import console
from qsep_jax.evaluation.comparison import by_track
from qsep_jax.metrics.aggregate import Summary, summarize, summarize_tracks
from qsep_jax.metrics.tracks import TrackScores

EXAMPLE = "python -m benchmarks.papers.lee2019.iteration --workdir runs/band"
SINGLE, ITERATIVE = "model_mean", "model_iterative"
# The gain in dB above which the paper marks a track (Fig. 7).
MARK_DB = 0.4
# Median SDR on MUSDB18, §4.6: single step and iterative.
PAPER = {"vocals": (4.84, 4.90), "drums": (4.31, 4.34), "bass": (3.11, 3.09), "other": (2.97, 3.16)}


@dataclasses.dataclass(frozen=True)
class Iteration(TrackOptions):
    """Compare the iterative method with a single step by the class means, on complete tracks."""


def track_gains(scores: list[TrackScores]) -> dict[tuple[str, str], float]:
    """The gain in SDR by iteration, for each stem and track, dB."""
    return dict(differences(scores, ITERATIVE, SINGLE))


def large_gains(gains: Mapping[tuple[str, str], float], stem: str) -> dict[str, float]:
    """The tracks whose stem gains more than `MARK_DB`, the largest gain first."""
    large = {track: gain for (name, track), gain in gains.items() if name == stem and gain > MARK_DB}
    return dict(sorted(large.items(), key=lambda item: -item[1]))


def measure(context: Context, scores: list[TrackScores], stems: Sequence[str], protocol: str) -> list[dict[str, Any]]:
    """One row for each stem.

    Raises:
      ValueError: if no stem of any track has scores of both methods.
    """
    gains, rows = track_gains(scores), []
    for stem in stems:
        values = np.array([gain for (name, _), gain in gains.items() if name == stem])
        if values.size:
            numbers: dict[str, Any] = dataclasses.asdict(summarize(values))
            for name, estimate in {"single_step": SINGLE, "iterative": ITERATIVE}.items():
                numbers[f"{name}_median"] = summarize_tracks(frame_scores(scores, estimate, stem)).median
            numbers |= {"mark_db": MARK_DB, "marked": large_gains(gains, stem)}
            rows.append(context.row(protocol, stem=stem, metric="SDR iterative − single step", **numbers))
    if not rows:
        raise ValueError("no stem of any track has scores of both methods")
    return rows


def table(rows: list[dict[str, Any]], heading: str) -> str:
    """The Markdown table with a line for each stem, with the paper's medians beside ours."""
    columns = ["stem", "tracks", "single step", "iterative", "difference, mean ± 95 %", "median"]
    columns += [f"songs that gain > {MARK_DB:g} dB", "paper (MUSDB18): single step → iterative"]
    lines = []
    for row in rows:
        ours = [f"{row['single_step_median']:.2f}", f"{row['iterative_median']:.2f}"]
        difference = Summary(row["mean"], row["median"], row["ci95"], row["count"])
        paper = " → ".join(f"{value:.2f}" for value in PAPER.get(row["stem"], ())) or "–"
        paired = [published.mean_and_interval(difference), f"{row['median']:+.2f}", str(len(row["marked"]))]
        lines.append([row["stem"], str(row["count"]), *ours, *paired, paper])
    return published.markdown(f"{heading}; dB: medians over tracks, paired differences", columns, lines)


def main() -> None:
    options = console.parse(Iteration, "python -m benchmarks.papers.lee2019.iteration", EXAMPLE)
    context = load_context(options, "iteration", EXAMPLE)
    corpus = context.corpus(channels=options.channels)
    scores = scores_of_tracks(context, options, corpus, ("mean", "iterative"))
    rows = measure(context, scores, corpus.stems, protocol_of(corpus))
    single, gains = by_track(scores, SINGLE), track_gains(scores)
    groups = {row["stem"]: [key for key in gains if key[0] == row["stem"]] for row in rows}
    x = {stem: np.array([single[key] for key in keys]) for stem, keys in groups.items()}
    y = {stem: np.array([gains[key] for key in keys]) for stem, keys in groups.items()}
    texts = {"title": "gain by iteration for each track", "xlabel": "SDR of the single step, dB"}
    figures.plot_points(x, y, context.out / "gains.png", **texts, ylabel="SDR iterative − single step, dB")
    published.publish(context.out, rows, table(rows, title(rows, scores)))


if __name__ == "__main__":
    console.run(main)
