"""Tables of the scores of segments: means and standard deviations over all segments of all tracks."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data_pipelines.files import write_json, write_text
from qsep_jax.evaluation.comparison import Scores
from qsep_jax.metrics.aggregate import summarize
from qsep_jax.metrics.tracks import TrackScores


def by_segment(scored: Sequence[TrackScores], estimate: str) -> Scores:
    """The first metric of the protocol for each stem and segment of one kind of estimate."""
    return {
        (stem, f"{scores.track}/{segment}"): float(value)
        for scores in scored
        if scores.estimate == estimate
        for stem, metrics in scores.stems.items()
        for segment, value in enumerate(metrics[scores.protocol.metrics[0]])
    }


def write_segment_report(scored: Sequence[TrackScores], run: str, corpus: str, split: str, out: Path) -> str:
    """Write `results.json` and `table.md`, and return the table.

    Raises:
      ValueError: if no segment has a score.
    """
    rows = segment_rows(scored, run, corpus, split)
    if not rows:
        raise ValueError(f"no segment of {corpus} has a score")
    text = table(rows, scored)
    write_json(out / "results.json", rows)
    write_text(out / "table.md", text)
    return text


def segment_rows(scored: Sequence[TrackScores], run: str, corpus: str, split: str) -> list[dict[str, Any]]:
    """The rows of `results.json`: mean, standard deviation, median and interval over the segments of all tracks.

    A row's `stem` is `all` if it pools all stems. Its `sources` is the number of stems in the tracks that it pools, or
    None if it pools all tracks.
    """
    scores_of: dict[tuple[str, str, int | None, str], list[np.ndarray]] = {}
    for scores in scored:
        count = len(scores.facts["sources"])
        for stem, metrics in scores.stems.items():
            for metric, values in metrics.items():
                for row_stem, sources in (("all", None), ("all", count), (stem, None)):
                    scores_of.setdefault((scores.estimate, row_stem, sources, metric), []).append(values)
    context = {"run": run, "corpus": corpus, "split": split, "protocol": str(scored[0].protocol)}
    rows = []
    for key in sorted(scores_of, key=lambda key: _order(key, scored)):
        pooled = np.concatenate(scores_of[key])
        pooled = pooled[np.isfinite(pooled)]
        if pooled.size:
            spread = {"std": float(pooled.std(ddof=1)) if pooled.size > 1 else 0.0}
            named = dict(zip(("estimate", "stem", "sources", "metric"), key, strict=True))
            rows.append({**context, **named, **dataclasses.asdict(summarize(pooled)), **spread})
    return rows


def _order(key: tuple[str, str, int | None, str], scored: Sequence[TrackScores]) -> tuple[int, ...]:
    """The place of a row: all stems first, then by number of sources, by stem, and by kind of estimate."""
    estimate, stem, sources, metric = key
    stems, estimates = ["all", *scored[0].stems], list(dict.fromkeys(scores.estimate for scores in scored))
    return stems.index(stem), sources or 0, estimates.index(estimate), scored[0].protocol.metrics.index(metric)


def table(rows: list[dict[str, Any]], scored: Sequence[TrackScores]) -> str:
    """Format rows as a Markdown table: mean ± standard deviation over all, by number of sources, and by stem."""
    metrics = scored[0].protocol.metrics
    cells = {(row["stem"], row["sources"], row["estimate"], row["metric"]): row for row in rows}
    tracks = len({scores.track for scores in scored})
    lines = [
        f"{rows[0]['corpus']}, {rows[0]['split']} split, {tracks} tracks; {rows[0]['protocol']}; dB: mean ± "
        "standard deviation over segments and stems",
        "",
        f"| stems | estimate | sounding | silent | {' | '.join(metrics)} |",
        f"| --- | --- | --: | --: |{' --: |' * len(metrics)}",
    ]
    for stem, sources, estimate in dict.fromkeys((row["stem"], row["sources"], row["estimate"]) for row in rows):
        line = [cells.get((stem, sources, estimate, metric)) for metric in metrics]
        counts = [row["count"] if row else 0 for row in (line[0], line[metrics.index("PES")])]
        label = f"{stem} in tracks of {sources}" if sources else stem
        values = " | ".join(f"{row['mean']:.2f} ± {row['std']:.2f}" if row else "–" for row in line)
        lines.append(f"| {label} | {estimate} | {counts[0]} | {counts[1]} | {values} |")
    return "\n".join(lines) + "\n"
