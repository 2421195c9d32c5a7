"""§4.5, Fig. 6: `python -m benchmarks.papers.lee2019.retrieval --workdir RUN`.

A stem is asked for by the latent of the training track that is nearest to the true stem, and by the class mean. Does it
help more (ΔSDR, Eq. 9) the nearer that latent is to the true one than the mean is (ΔCD, Eq. 10)?
"""

import dataclasses
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from benchmarks.papers import published
from benchmarks.papers.lee2019 import figures
from benchmarks.papers.lee2019.scores import WholeTracks, differences, on_tracks, scoring, title
from benchmarks.papers.lee2019.setting import Subject, begin, need_stems
from data_pipelines.prepared.corpus import Corpus, Excerpt
from qsep_jax.command_line import console
from qsep_jax.inference.bank import Bank
from qsep_jax.inference.conditions import cosine_distance, encode, is_loud
from qsep_jax.inference.model import Model
from qsep_jax.metrics.aggregate import Summary, summarize

EXAMPLE = "python -m benchmarks.papers.lee2019.retrieval --workdir runs/band"
RETRIEVED, MEAN = "model_nearest", "model_mean"


@dataclasses.dataclass(frozen=True)
class Retrieval(WholeTracks):
    """Ask for a stem of the test tracks by the nearest training track, and set that against the class mean.

    Attributes:
      stem: one or more to look at. All are separated, whichever they are.
    """

    stem: tuple[str, ...] = ("vocals",)

    def check(self) -> None:
        """Raise ValueError for what cannot be done."""
        if not self.stem:
            raise ValueError("--stem needs a name, such as vocals")


@dataclasses.dataclass(frozen=True)
class Point:
    """A test track in Fig. 6."""

    track: str
    retrieved: str
    delta_cd: float
    delta_sdr: float


def points(model: Model, bank: Bank, corpus: Corpus, stem: str, gains: dict[str, float]) -> list[Point]:
    """The tracks of `gains`, ΔSDR by track, that sound."""
    found, center = [], bank.mean(stem)
    for track, gain in gains.items():
        audio = corpus.read(Excerpt(track, stem, 0, corpus.length(track, stem)))
        if is_loud(audio.mean(axis=1)):
            true = encode(model, audio, f"the true {stem}")
            name = bank.nearest(stem, true)
            nearer = cosine_distance(true, center) - cosine_distance(true, bank.tracks[stem][name])
            found.append(Point(track, name, nearer, gain))
    return found


def rank_correlation(x: np.ndarray, y: np.ndarray) -> tuple[float | None, float | None]:
    """Spearman's ρ and its p-value; nothing for fewer than three points, or where all are the same."""
    if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None, None
    result: Any = spearmanr(x, y)
    return float(result.statistic), float(result.pvalue)


def study(subject: Subject, stem: str, found: list[Point], protocol: str) -> dict[str, Any]:
    """The row of a stem; its points are drawn as in Fig. 6.

    Raises:
      ValueError: if it has none.
    """
    if not found:
        raise ValueError(f"no track has a score for '{stem}'")
    x, y = (np.array([getattr(point, name) for point in found]) for name in ("delta_cd", "delta_sdr"))
    rho, p = rank_correlation(x, y)
    heading = f"{stem}: {len(found)} tracks" + ("" if rho is None else f", Spearman's ρ = {rho:.2f}, p = {p:.2g}")
    texts = {"title": heading, "xlabel": "ΔCD", "ylabel": "ΔSDR in dB"}
    figures.scatter({stem: x}, {stem: y}, subject.out / f"{stem}.png", **texts)
    numbers: dict[str, Any] = {"spearman_rho": rho, "p_value": p, **dataclasses.asdict(summarize(y))}
    for name, chosen in {"nearer": x > 0, "farther": x <= 0}.items():
        numbers[name] = dataclasses.asdict(summarize(y[chosen])) if chosen.any() else None
    listed = [dataclasses.asdict(point) for point in found]
    return subject.row(protocol, stem=stem, metric="SDR retrieved − mean", **numbers, points=listed)


def table(rows: list[dict[str, Any]], heading: str) -> str:
    """A line for each stem."""
    columns = ["stem", "tracks", "Spearman's ρ", "p", "ΔSDR: mean ± 95 %", "median", "where ΔCD > 0", "where ΔCD ≤ 0"]
    lines = []
    for row in rows:
        rho, p = (f"{row[name]:.3g}" if row[name] is not None else "–" for name in ("spearman_rho", "p_value"))
        halves = []
        for name in ("nearer", "farther"):
            found = Summary(**row[name]) if row[name] else None
            halves.append(f"{published.spread(found)} ({found.count if found else 0})")
        whole = [f"{row['mean']:+.2f} ± {row['ci95']:.2f}", f"{row['median']:+.2f}"]
        lines.append([row["stem"], str(row["count"]), rho, p, *whole, *halves])
    return published.markdown(f"{heading}; nearest training track less class mean, dB", columns, lines)


def main() -> None:
    options = console.parse(Retrieval, "python -m benchmarks.papers.lee2019.retrieval", EXAMPLE)
    options.check()
    subject = begin(options, "retrieval", EXAMPLE)
    corpus = subject.corpus(channels=options.channels)
    need_stems(corpus, *options.stem)
    scored = on_tracks(subject, options, corpus, ("mean", "nearest"))
    gained = differences(scored, RETRIEVED, MEAN)
    rows = []
    for stem in options.stem:
        of_stem = {track: gain for (name, track), gain in gained.items() if name == stem}
        rows.append(study(subject, stem, points(subject.model, subject.bank, corpus, stem, of_stem), scoring(corpus)))
    published.publish(subject.out, rows, table(rows, title(rows, scored)))


if __name__ == "__main__":
    console.run(main)
