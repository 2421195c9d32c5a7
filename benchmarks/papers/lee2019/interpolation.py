"""§4.4, Fig. 4: `python -m benchmarks.papers.lee2019.interpolation --workdir RUN`.

The model separates mixtures of two classes with conditions between their means (slerp, Eq. 7): from vocals to drums and
from drums to bass. A least-squares projection of the estimate on both references gives the share of each source in it.
"""

import dataclasses

import numpy as np

from benchmarks.papers import published
from benchmarks.papers.lee2019 import excerpt_groups, figures
from benchmarks.papers.lee2019.context import CommonOptions, Context, load_context, require_stems
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
# The lowest level that counts; it keeps means over silence finite.
LOWEST_DB = -80.0


@dataclasses.dataclass(frozen=True)
class Interpolation(CommonOptions):
    """Interpolate between two class means, on mixtures of both: from vocals to drums and from drums to bass.

    A mixture is an excerpt of one song in which both stems are audible, at the stored levels; excerpts do not overlap.

    Attributes:
      excerpts: Number of excerpts of each pair; fewer if the split has fewer.
      seconds: Length of an excerpt in seconds.
      seed: Seed of the excerpts.
    """

    excerpts: int = 50
    seconds: float = 6.0
    seed: int = 2019

    def check(self) -> None:
        """Raise ValueError for invalid options."""
        console.need_positive(self, "excerpts", "seconds")


@dataclasses.dataclass(frozen=True)
class Composition:
    """The shares of two sources in an estimate.

    Attributes:
      share: Share of the first source in the energy of both sources.
      levels: Level of each source relative to its level in the mixture, dB.
      residual: Share of the estimate's energy that belongs to neither source.
    """

    share: float
    levels: tuple[float, float]
    residual: float


def decompose(estimate: np.ndarray, sources: np.ndarray) -> Composition:
    """Project an estimate `[T]` on the sources `[2, T]` by least squares; the share of a silent estimate is 1/2."""
    references, target = sources.astype(np.float64).T, estimate.astype(np.float64)
    gains = np.linalg.lstsq(references, target)[0]
    energies = np.square(gains) * np.square(references).sum(axis=0)
    total, residual = float(np.square(target).sum()), float(np.square(target - references @ gains).sum())
    levels = 20.0 * np.log10(np.maximum(np.abs(gains), 10.0 ** (LOWEST_DB / 20)))
    share = float(energies[0] / energies.sum()) if energies.sum() else 0.5
    return Composition(share, (float(levels[0]), float(levels[1])), residual / total if total else 0.0)


def interpolated_estimates(context: Context, pair: tuple[str, str], sources: np.ndarray) -> np.ndarray:
    """The estimates `[α, T]` of the sum of the sources `[2, T]`, with each α between the two class means."""
    first, second = (context.bank.mean(stem) for stem in pair)
    conditions = [slerp(first, second, alpha) for alpha in ALPHAS]
    mixture = sources.sum(axis=0)[:, None]
    return np.concatenate(list(separate_blocks(context.model, [mixture], 1, conditions)), axis=1)[..., 0]


def measure(
    context: Context, pair: tuple[str, str], groups: list[excerpt_groups.ExcerptGroup], corpus: Corpus, protocol: str
) -> list:
    """The rows of a pair, one for each α."""
    compositions, mixture_shares = [], []  # for each excerpt, the compositions by α
    with Progress(f"{pair[0]} to {pair[1]}", len(groups), unit="excerpt") as progress:
        for group in progress.over(groups):
            sources = _read(corpus, group)
            mixture_shares.append(decompose(sources.sum(axis=0), sources).share)
            estimates = interpolated_estimates(context, pair, sources)
            compositions.append([decompose(estimate, sources) for estimate in estimates])
    shares = np.array([[composition.share for composition in line] for line in compositions])  # [excerpts, α]
    facts = {
        "first": pair[0],
        "second": pair[1],
        "songs": len({group[0].track for group in groups}),
        "mixture_share": float(np.mean(mixture_shares)),
        "falls_throughout": float((np.diff(shares) <= 0).all(axis=1).mean()),
    }
    rows = []
    for column, alpha in enumerate(ALPHAS):
        at_alpha = [line[column] for line in compositions]
        numbers = dataclasses.asdict(summarize(shares[:, column]))
        for source, name in enumerate(("first", "second")):
            level = summarize(np.array([composition.levels[source] for composition in at_alpha]))
            numbers |= {f"{name}_level_db": level.mean, f"{name}_level_ci95": level.ci95}
        numbers["left"] = float(np.mean([composition.residual for composition in at_alpha]))
        rows.append(context.row(protocol, **facts, alpha=alpha, metric="share of the first source", **numbers))
    return rows


def _read(corpus: Corpus, group: excerpt_groups.ExcerptGroup) -> np.ndarray:
    return np.stack([corpus.read(excerpt)[:, 0] for excerpt in group])


def panels_of(context: Context, pair: tuple[str, str], sources: np.ndarray) -> dict[str, np.ndarray]:
    """The audio of the panels of one row of Fig. 4, with the references at its ends."""
    estimates = interpolated_estimates(context, pair, sources)
    panels = {f"reference: {pair[0]}": sources[0]}
    panels |= {f"α = {alpha:g}": estimate for alpha, estimate in zip(ALPHAS, estimates, strict=True)}
    return {title: audio[:, None] for title, audio in (panels | {f"reference: {pair[1]}": sources[1]}).items()}


def table(rows: list[dict]) -> str:
    """The Markdown table with a line for each pair and α."""
    columns = ["from → to", "α", "excerpts", "songs", "share of the first source: mean ± 95 %", "median"]
    columns += ["level of the first source", "level of the second source", "neither"]
    lines = [
        [
            *(f"{row['first']} → {row['second']}", f"{row['alpha']:g}", str(row["count"]), str(row["songs"])),
            *(f"{row['mean']:.3f} ± {row['ci95']:.3f}", f"{row['median']:.3f}"),
            *(f"{row[f'{name}_level_db']:+.1f} ± {row[f'{name}_level_ci95']:.1f}" for name in ("first", "second")),
            f"{100 * row['left']:.0f} %",
        ]
        for row in rows
    ]
    first = rows[0]
    title = (
        f"{first['corpus']}, {first['split']} split; {first['protocol']}; share of the first source in the energy of "
        "both sources, levels in dB relative to the mixture, share of the estimate's energy that is neither source"
    )
    notes = {
        f"{row['first']} → {row['second']}: {row['mixture_share']:.3f} in the mixture; it falls at every step of α "
        f"in {100 * row['falls_throughout']:.0f} % of the excerpts."
        for row in rows
    }
    listed = "".join(f"- {note}\n" for note in sorted(notes))
    return published.markdown(title, columns, lines) + f"\nShare of the first source:\n{listed}"


def main() -> None:
    options = console.parse(Interpolation, "python -m benchmarks.papers.lee2019.interpolation", EXAMPLE)
    options.check()
    context = load_context(options, "interpolation", EXAMPLE)
    corpus = context.corpus()
    require_stems(corpus, *dict.fromkeys(stem for pair in PAIRS for stem in pair))
    protocol = f"{options.seconds:g}-s excerpts of two stems as stored, mono at {corpus.sample_rate} Hz"
    protocol += f", class means, seed {options.seed}"
    rows, figure_rows, curves = [], {}, {}
    for number, pair in enumerate(PAIRS):
        rng = np.random.default_rng([options.seed, number])
        groups = excerpt_groups.simultaneous(corpus, pair, options.seconds, options.excerpts, rng)
        if not groups:
            raise ValueError(f"{corpus.folder}: no {options.seconds:g} s of {' and '.join(pair)} in one song")
        pair_rows = measure(context, pair, groups, corpus, protocol)
        rows += pair_rows
        curves[" → ".join(pair)] = tuple(np.array([row[key] for row in pair_rows]) for key in ("mean", "ci95"))
        figure_rows[" → ".join(pair)] = panels_of(context, pair, _read(corpus, groups[0]))
    strips(figure_rows, corpus.sample_rate, context.out / "spectrograms.png")
    figures.plot_shares(ALPHAS, curves, context.out / "shares.png")
    published.publish(context.out, rows, table(rows))


if __name__ == "__main__":
    console.run(main)
