"""§4.4, Fig. 4: `python -m benchmarks.papers.lee2019.interpolation --workdir RUN`.

Mixtures of two classes are asked for what lies between their means (slerp, Eq. 7): from vocals to drums and from drums
to bass. How much of either is in an estimate is read off its least-squares projection on the two true sources.
"""

import dataclasses

import numpy as np

from benchmarks.papers import published
from benchmarks.papers.lee2019 import figures, places
from benchmarks.papers.lee2019.setting import Setting, Subject, begin, need_stems
from data_pipelines.prepared.corpus import Corpus
from data_pipelines.progress import Progress
from qsep_jax.command_line import console
from qsep_jax.figures.spectrograms import strips
from qsep_jax.inference.conditions import slerp
from qsep_jax.inference.separation import separate_blocks
from qsep_jax.metrics.aggregate import summarize

EXAMPLE = "python -m benchmarks.papers.lee2019.interpolation --workdir runs/band"
PAIRS = (("vocals", "drums"), ("drums", "bass"))
ALPHAS = (0.0, 0.25, 0.5, 0.75, 1.0)
# The lowest level that counts, so that a mean over silence is finite.
LOWEST_DB = -80.0


@dataclasses.dataclass(frozen=True)
class Interpolation(Setting):
    """Ask for what lies between two class means, on mixtures of both: vocals to drums and drums to bass.

    Mixtures are places of one song in which both can be heard, at the levels that are stored; no two overlap.

    Attributes:
      excerpts: of each pair, at most; fewer where the split has fewer places.
      seconds: of a mixture.
      seed: of the places.
    """

    excerpts: int = 50
    seconds: float = 6.0
    seed: int = 2019

    def check(self) -> None:
        """Raise ValueError for what cannot be done."""
        console.need_positive(self, "excerpts", "seconds")


@dataclasses.dataclass(frozen=True)
class Parts:
    """What of two sources is in an estimate.

    Attributes:
      share: of the first source in the energy of both.
      levels: of each, dB, against its level in the mixture.
      left: the share of the estimate's energy that is neither.
    """

    share: float
    levels: tuple[float, float]
    left: float


def parts(estimate: np.ndarray, sources: np.ndarray) -> Parts:
    """What of the sources `[2, T]` is in an estimate `[T]`, by least squares; a share of 1/2 where there is nothing."""
    true, found = sources.astype(np.float64).T, estimate.astype(np.float64)
    gains = np.linalg.lstsq(true, found)[0]
    energies = np.square(gains) * np.square(true).sum(axis=0)
    whole, left = float(np.square(found).sum()), float(np.square(found - true @ gains).sum())
    levels = 20.0 * np.log10(np.maximum(np.abs(gains), 10.0 ** (LOWEST_DB / 20)))
    share = float(energies[0] / energies.sum()) if energies.sum() else 0.5
    return Parts(share, (float(levels[0]), float(levels[1])), left / whole if whole else 0.0)


def between(subject: Subject, pair: tuple[str, str], sources: np.ndarray) -> np.ndarray:
    """The estimates of the sum of `[2, T]` for each α, `[α, T]`."""
    first, second = (subject.bank.mean(stem) for stem in pair)
    conditions = [slerp(first, second, alpha) for alpha in ALPHAS]
    mixture = sources.sum(axis=0)[:, None]
    return np.concatenate(list(separate_blocks(subject.model, [mixture], 1, conditions)), axis=1)[..., 0]


def study(subject: Subject, pair: tuple[str, str], found: list[places.Place], corpus: Corpus, protocol: str) -> list:
    """The rows of a pair, one for each α."""
    measured, before = [], []
    with Progress(f"{pair[0]} to {pair[1]}", len(found), unit="excerpt") as progress:
        for place in progress.over(found):
            sources = _read(corpus, place)
            before.append(parts(sources.sum(axis=0), sources).share)
            measured.append([parts(estimate, sources) for estimate in between(subject, pair, sources)])
    shares = np.array([[part.share for part in line] for line in measured])  # [excerpts, α]
    facts = {
        "first": pair[0],
        "second": pair[1],
        "songs": len({place[0].track for place in found}),
        "mixture_share": float(np.mean(before)),
        "falls_throughout": float((np.diff(shares) <= 0).all(axis=1).mean()),
    }
    rows = []
    for column, alpha in enumerate(ALPHAS):
        here = [line[column] for line in measured]
        numbers = dataclasses.asdict(summarize(shares[:, column]))
        for which, name in enumerate(("first", "second")):
            level = summarize(np.array([part.levels[which] for part in here]))
            numbers |= {f"{name}_level_db": level.mean, f"{name}_level_ci95": level.ci95}
        numbers["left"] = float(np.mean([part.left for part in here]))
        rows.append(subject.row(protocol, **facts, alpha=alpha, metric="share of the first source", **numbers))
    return rows


def _read(corpus: Corpus, place: places.Place) -> np.ndarray:
    return np.stack([corpus.read(excerpt)[:, 0] for excerpt in place])


def shown(subject: Subject, pair: tuple[str, str], sources: np.ndarray) -> dict[str, np.ndarray]:
    """A row of Fig. 4, the true sources at its ends."""
    estimates = between(subject, pair, sources)
    panels = {f"true {pair[0]}": sources[0]}
    panels |= {f"α = {alpha:g}": estimate for alpha, estimate in zip(ALPHAS, estimates, strict=True)}
    return {title: audio[:, None] for title, audio in (panels | {f"true {pair[1]}": sources[1]}).items()}


def table(rows: list[dict]) -> str:
    """A line for each pair and α."""
    columns = ["from", "to", "α", "excerpts", "songs", "share of the first: mean ± 95 %", "median"]
    columns += ["level of the first", "level of the second", "neither"]
    lines = [
        [
            *(row["first"], row["second"], f"{row['alpha']:g}", str(row["count"]), str(row["songs"])),
            *(f"{row['mean']:.3f} ± {row['ci95']:.3f}", f"{row['median']:.3f}"),
            *(f"{row[f'{name}_level_db']:+.1f} ± {row[f'{name}_level_ci95']:.1f}" for name in ("first", "second")),
            f"{100 * row['left']:.0f} %",
        ]
        for row in rows
    ]
    first = rows[0]
    title = (
        f"{first['corpus']}, {first['split']} split; {first['protocol']}; share of the energy of both sources in the "
        "estimate, levels in dB against the mixture, energy of the estimate that is neither"
    )
    notes = {
        f"{row['first']} → {row['second']}: {row['mixture_share']:.3f} in the mixture itself; it falls from each α "
        f"to the next in {100 * row['falls_throughout']:.0f} % of the excerpts."
        for row in rows
    }
    listed = "".join(f"- {note}\n" for note in sorted(notes))
    return published.markdown(title, columns, lines, words=2) + f"\nShare of the first source:\n{listed}"


def main() -> None:
    options = console.parse(Interpolation, "python -m benchmarks.papers.lee2019.interpolation", EXAMPLE)
    options.check()
    subject = begin(options, "interpolation", EXAMPLE)
    corpus = subject.corpus()
    need_stems(corpus, *dict.fromkeys(stem for pair in PAIRS for stem in pair))
    protocol = f"{options.seconds:g}-s excerpts of two stems as stored, mono at {corpus.sample_rate} Hz"
    protocol += f", class means, seed {options.seed}"
    rows, pictures, curves = [], {}, {}
    for number, pair in enumerate(PAIRS):
        rng = np.random.default_rng([options.seed, number])
        found = places.together(corpus, pair, options.seconds, options.excerpts, rng)
        if not found:
            raise ValueError(f"{corpus.folder}: no {options.seconds:g} s of {' and '.join(pair)} in one song")
        of_pair = study(subject, pair, found, corpus, protocol)
        rows += of_pair
        curves[" → ".join(pair)] = tuple(np.array([row[key] for row in of_pair]) for key in ("mean", "ci95"))
        pictures[" → ".join(pair)] = shown(subject, pair, _read(corpus, found[0]))
    strips(pictures, corpus.sample_rate, subject.out / "spectrograms.png")
    figures.shares(ALPHAS, curves, subject.out / "shares.png")
    published.publish(subject.out, rows, table(rows))


if __name__ == "__main__":
    console.run(main)
