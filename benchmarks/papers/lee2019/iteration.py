"""§4.6: `python -m benchmarks.papers.lee2019.iteration --workdir RUN`.

Separate by the class mean, take the estimate as the query, separate again. What that brings, stem by stem.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.papers import published
from benchmarks.papers.lee2019 import figures
from benchmarks.papers.lee2019.scores import WholeTracks, differences, frames, on_tracks, scoring, title
from benchmarks.papers.lee2019.setting import Subject, begin
from qsep_jax.command_line import console
from qsep_jax.evaluation.comparison import by_track
from qsep_jax.metrics.aggregate import Summary, summarize, summarize_tracks
from qsep_jax.metrics.tracks import TrackScores

EXAMPLE = "python -m benchmarks.papers.lee2019.iteration --workdir runs/band"
SINGLE, ITERATIVE = "model_mean", "model_iterative"
# A gain in dB above which the paper marks a track (Fig. 7).
MARK_DB = 0.4
# §4.6, MUSDB18: single step and iterative.
PAPER = {"vocals": (4.84, 4.90), "drums": (4.31, 4.34), "bass": (3.11, 3.09), "other": (2.97, 3.16)}


@dataclasses.dataclass(frozen=True)
class Iteration(WholeTracks):
    """Set the iterative method against a single step by the class means, on whole tracks."""


def gains(scored: list[TrackScores]) -> dict[tuple[str, str], float]:
    """By stem and track, what iteration adds to the SDR, dB."""
    return dict(differences(scored, ITERATIVE, SINGLE))


def marked(gained: Mapping[tuple[str, str], float], stem: str) -> dict[str, float]:
    """The tracks whose stem gains more than `MARK_DB`, the most first."""
    found = {track: gain for (name, track), gain in gained.items() if name == stem and gain > MARK_DB}
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def study(subject: Subject, scored: list[TrackScores], stems: Sequence[str], protocol: str) -> list[dict[str, Any]]:
    """A row for each stem."""
    gained, rows = gains(scored), []
    for stem in stems:
        values = np.array([gain for (name, _), gain in gained.items() if name == stem])
        if values.size:
            numbers: dict[str, Any] = dataclasses.asdict(summarize(values))
            for name, estimate in {"single_step": SINGLE, "iterative": ITERATIVE}.items():
                numbers[f"{name}_median"] = summarize_tracks(frames(scored, estimate, stem)).median
            numbers |= {"mark_db": MARK_DB, "marked": marked(gained, stem)}
            rows.append(subject.row(protocol, stem=stem, metric="SDR iterative − single step", **numbers))
    if not rows:
        raise ValueError("no stem of any track has a score both ways")
    return rows


def table(rows: list[dict[str, Any]], heading: str) -> str:
    """A line for each stem, the paper's medians beside ours."""
    columns = ["stem", "tracks", "single step", "iterative", "difference: mean ± 95 %", "median"]
    columns += [f"gain > {MARK_DB:g} dB", "paper, MUSDB18: single step", "iterative"]
    lines = []
    for row in rows:
        ours = [f"{row['single_step_median']:.2f}", f"{row['iterative_median']:.2f}"]
        difference = Summary(row["mean"], row["median"], row["ci95"], row["count"])
        paper = [f"{value:.2f}" for value in PAPER.get(row["stem"], ())] or ["–", "–"]
        paired = [published.spread(difference), f"{row['median']:+.2f}", str(len(row["marked"]))]
        lines.append([row["stem"], str(row["count"]), *ours, *paired, *paper])
    return published.markdown(f"{heading}; dB: medians over tracks, differences paired", columns, lines)


def main() -> None:
    options = console.parse(Iteration, "python -m benchmarks.papers.lee2019.iteration", EXAMPLE)
    subject = begin(options, "iteration", EXAMPLE)
    corpus = subject.corpus(channels=options.channels)
    scored = on_tracks(subject, options, corpus, ("mean", "iterative"))
    rows = study(subject, scored, corpus.stems, scoring(corpus))
    single, gained = by_track(scored, SINGLE), gains(scored)
    groups = {row["stem"]: [key for key in gained if key[0] == row["stem"]] for row in rows}
    x = {stem: np.array([single[key] for key in keys]) for stem, keys in groups.items()}
    y = {stem: np.array([gained[key] for key in keys]) for stem, keys in groups.items()}
    texts = {"title": "what iteration adds, track by track", "xlabel": "SDR of the single step, dB"}
    figures.scatter(x, y, subject.out / "gains.png", **texts, ylabel="SDR iterative − single step, dB")
    published.publish(subject.out, rows, table(rows, title(rows, scored)))


if __name__ == "__main__":
    console.run(main)
