"""§4.5, Fig. 6: `python -m benchmarks.papers.lee2019.retrieval --workdir RUN`.

A stem is separated twice: with the latent of the training track that is nearest to the reference stem, and with the
class mean. The experiment tests whether the gain in SDR (ΔSDR, Eq. 9) grows with how much nearer that latent is to the
reference than the class mean is (ΔCD, Eq. 10).
"""

import dataclasses
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from benchmarks.papers import published
from benchmarks.papers.lee2019 import figures
from benchmarks.papers.lee2019.context import Context, load_context, require_stems
from benchmarks.papers.lee2019.scores import TrackOptions, differences, protocol_of, scores_of_tracks, title
from data_pipelines.prepared.corpus import Corpus, Excerpt
from qsep_jax.command_line import console
from qsep_jax.inference.bank import Bank
from qsep_jax.inference.conditions import cosine_distance, encode, is_loud
from qsep_jax.inference.model import Model
from qsep_jax.metrics.aggregate import Summary, summarize

EXAMPLE = "python -m benchmarks.papers.lee2019.retrieval --workdir runs/band"
RETRIEVED, MEAN = "model_nearest", "model_mean"


@dataclasses.dataclass(frozen=True)
class Retrieval(TrackOptions):
    """Separate the test tracks with the nearest training track as the query, and compare with the class mean.

    Attributes:
      stem: One or more stems to report; all stems are separated in any case.
    """

    stem: tuple[str, ...] = ("vocals",)

    def check(self) -> None:
        """Raise ValueError for invalid options."""
        if not self.stem:
            raise ValueError("--stem needs a name, such as vocals")


@dataclasses.dataclass(frozen=True)
class Point:
    """A test track in Fig. 6, with the name of the retrieved training track."""

    track: str
    retrieved: str
    delta_cd: float
    delta_sdr: float


def points_of(model: Model, bank: Bank, corpus: Corpus, stem: str, gains: dict[str, float]) -> list[Point]:
    """The points of Fig. 6 for the tracks in `gains` (ΔSDR by track) whose stem is not silent."""
    points, center = [], bank.mean(stem)
    for track, gain in gains.items():
        audio = corpus.read(Excerpt(track, stem, 0, corpus.length(track, stem)))
        if is_loud(audio.mean(axis=1)):
            latent = encode(model, audio, f"the reference of {stem}")
            name = bank.nearest(stem, latent)
            delta = cosine_distance(latent, center) - cosine_distance(latent, bank.tracks[stem][name])
            points.append(Point(track, name, delta, gain))
    return points


def rank_correlation(x: np.ndarray, y: np.ndarray) -> tuple[float | None, float | None]:
    """Spearman's ρ and its p-value; (None, None) for fewer than three points or constant values."""
    if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None, None
    result: Any = spearmanr(x, y)
    return float(result.statistic), float(result.pvalue)


def measure(context: Context, stem: str, points: list[Point], protocol: str) -> dict[str, Any]:
    """The row of a stem; also plots its points as in Fig. 6.

    Raises:
      ValueError: if the stem has no points.
    """
    if not points:
        raise ValueError(f"no track has a score for '{stem}'")
    x, y = (np.array([getattr(point, name) for point in points]) for name in ("delta_cd", "delta_sdr"))
    rho, p = rank_correlation(x, y)
    heading = f"{stem}: {len(points)} tracks" + ("" if rho is None else f", Spearman's ρ = {rho:.2f}, p = {p:.2g}")
    texts = {"title": heading, "xlabel": "ΔCD", "ylabel": "ΔSDR in dB"}
    figures.plot_points({stem: x}, {stem: y}, context.out / f"{stem}.png", **texts)
    numbers: dict[str, Any] = {"spearman_rho": rho, "p_value": p, **dataclasses.asdict(summarize(y))}
    for name, chosen in {"nearer": x > 0, "farther": x <= 0}.items():
        numbers[name] = dataclasses.asdict(summarize(y[chosen])) if chosen.any() else None
    fields = [dataclasses.asdict(point) for point in points]
    return context.row(protocol, stem=stem, metric="SDR retrieved − mean", **numbers, points=fields)


def table(rows: list[dict[str, Any]], heading: str) -> str:
    """The Markdown table with a line for each stem."""
    columns = ["stem", "tracks", "Spearman's ρ", "p", "ΔSDR: mean ± 95 %", "median"]
    columns += ["if ΔCD > 0 (tracks)", "if ΔCD ≤ 0 (tracks)"]
    lines = []
    for row in rows:
        rho, p = (f"{row[name]:.3g}" if row[name] is not None else "–" for name in ("spearman_rho", "p_value"))
        halves = []
        for name in ("nearer", "farther"):
            summary = Summary(**row[name]) if row[name] else None
            halves.append(f"{published.mean_and_interval(summary)} ({summary.count if summary else 0})")
        all_tracks = [f"{row['mean']:+.2f} ± {row['ci95']:.2f}", f"{row['median']:+.2f}"]
        lines.append([row["stem"], str(row["count"]), rho, p, *all_tracks, *halves])
    return published.markdown(f"{heading}; nearest training track minus class mean, dB", columns, lines)


def main() -> None:
    options = console.parse(Retrieval, "python -m benchmarks.papers.lee2019.retrieval", EXAMPLE)
    options.check()
    context = load_context(options, "retrieval", EXAMPLE)
    corpus = context.corpus(channels=options.channels)
    require_stems(corpus, *options.stem)
    scores = scores_of_tracks(context, options, corpus, ("mean", "nearest"))
    gains = differences(scores, RETRIEVED, MEAN)
    rows = []
    for stem in options.stem:
        stem_gains = {track: gain for (name, track), gain in gains.items() if name == stem}
        stem_points = points_of(context.model, context.bank, corpus, stem, stem_gains)
        rows.append(measure(context, stem, stem_points, protocol_of(corpus)))
    published.publish(context.out, rows, table(rows, title(rows, scores)))


if __name__ == "__main__":
    console.run(main)
