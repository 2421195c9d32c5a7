"""§4.3, Fig. 3: `python -m benchmarks.papers.lee2019.targeting --workdir RUN`.

A source that never was a class of its own is asked for by an example of it from another test song: the hi-hat of
kick, hi-hat and bass; the piano of piano and guitar. Beside it stand the mean of the class that it is part of, which
is all that a model without queries could be asked for, and the ideal ratio mask, a bound for whoever masks.
"""

import dataclasses

import jax.numpy as jnp
import numpy as np

from benchmarks.papers import published
from benchmarks.papers.lee2019 import places
from benchmarks.papers.lee2019.setting import Setting, Subject, begin
from data_pipelines.prepared.corpus import Corpus, Excerpt
from data_pipelines.progress import Progress
from data_pipelines.recipes.mixing import rms
from data_pipelines.schema import BAND_PARENTS
from qsep_jax.command_line import console
from qsep_jax.figures.spectrograms import strips
from qsep_jax.inference.conditions import encode
from qsep_jax.inference.separation import separate_blocks
from qsep_jax.metrics.aggregate import summarize
from qsep_jax.metrics.oracles import ideal_ratio_mask
from qsep_jax.metrics.ratios import si_sdr, snr

EXAMPLE = "python -m benchmarks.papers.lee2019.targeting --workdir runs/band"
# What a mixture is made of; the first is the target.
TASKS = (("hihat", "kick", "bass"), ("piano", "guitar"))
METRICS = {"SI-SDR": si_sdr, "SDR": snr}
QUERY, CLASS, BOUND, GAP = "query", "class mean", "ideal ratio mask", "query − class mean"


@dataclasses.dataclass(frozen=True)
class Targeting(Setting):
    """Separate the hi-hat of kick, hi-hat and bass, and the piano of piano and guitar, asked for by an example.

    Mixtures are places of one song in which all sources can be heard, at the levels that are stored, and no two
    overlap. Only where no song has all of them does each come from a song of its own, at equal RMS.

    Attributes:
      mixtures: of each kind, at most; fewer where the split has fewer places.
      seconds: of a mixture and of its query.
      seed: of places and queries.
    """

    mixtures: int = 50
    seconds: float = 6.0
    seed: int = 2019

    def check(self) -> None:
        """Raise ValueError for what cannot be done."""
        console.need_positive(self, "mixtures", "seconds")


@dataclasses.dataclass(frozen=True)
class Item:
    """A mixture, its target being the first source, and what it is asked for by."""

    sources: places.Place
    query: Excerpt

    def waveforms(self, corpus: Corpus) -> tuple[np.ndarray, np.ndarray]:
        """The sources `[S, T]`, as stored if they are of one song, else at equal RMS, and the query `[T, 1]`."""
        sources = np.stack([corpus.read(source)[:, 0] for source in self.sources])
        if len({source.track for source in self.sources}) > 1:
            levels = np.array([rms(source) for source in sources], np.float32)
            sources *= (levels.mean() / levels)[:, None]
        return sources, corpus.read(self.query)


def draw(options: Targeting, corpus: Corpus, stems: tuple[str, ...], rng: np.random.Generator) -> list[Item]:
    """The mixtures of a task, each with a query from a song that is not in it.

    Raises:
      ValueError: if the sources are nowhere to be heard, or nothing is left to ask by.
    """
    found = places.together(corpus, stems, options.seconds, options.mixtures, rng)
    found = found or places.apart(corpus, stems, options.seconds, options.mixtures, rng)
    if not found:
        raise ValueError(f"{corpus.folder}: no {options.seconds:g} s of {', '.join(stems)} in the {corpus.split} split")
    return [Item(place, places.query_for(corpus, place, options.seconds, rng)) for place in found]


def estimates(subject: Subject, item: Item, corpus: Corpus) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The sources `[S, T]`, and by name what is taken for the target `[T]`."""
    sources, query = item.waveforms(corpus)
    mixture = sources.sum(axis=0)[:, None]
    conditions = [encode(subject.model, query), subject.bank.mean(BAND_PARENTS[item.sources[0].stem])]
    asked = np.concatenate(list(separate_blocks(subject.model, [mixture], 1, conditions)), axis=1)[..., 0]
    return sources, {QUERY: asked[0], CLASS: asked[1], BOUND: np.asarray(ideal_ratio_mask(jnp.asarray(sources))[0])}


def improvements(sources: np.ndarray, found: dict[str, np.ndarray]) -> dict[tuple[str, str], float]:
    """By estimate and metric, what is gained over the untouched mixture; the mixture's own score as `mixture`."""
    gained = {}
    for metric, score in METRICS.items():
        before = gained["mixture", metric] = float(score(jnp.asarray(sources[0]), jnp.asarray(sources.sum(axis=0))))
        for name, estimate in found.items():
            gained[name, metric] = float(score(jnp.asarray(sources[0]), jnp.asarray(estimate))) - before
        gained[GAP, metric] = gained[QUERY, metric] - gained[CLASS, metric]
    return gained


def study(subject: Subject, items: list[Item], corpus: Corpus, protocol: str) -> tuple[list[dict], int]:
    """The rows of a task, and which of its mixtures is the median by the SI-SDR improvement of the query."""
    stems = [source.stem for source in items[0].sources]
    scored = []
    with Progress(f"{stems[0]} of {' + '.join(stems)}", len(items), unit="mixture") as progress:
        for item in progress.over(items):
            scored.append(improvements(*estimates(subject, item, corpus)))
    songs = {source.track for item in items for source in item.sources}
    levels = "as stored" if len({source.track for source in items[0].sources}) == 1 else "different songs, equal RMS"
    table = []
    for name, metric in scored[0]:
        if name != "mixture":
            values = np.array([scores[name, metric] for scores in scored])
            before = float(np.mean([scores["mixture", metric] for scores in scored]))
            facts = {"sources": stems, "levels": levels, "songs": len(songs), "estimate": name, "mixture_mean": before}
            numbers = dataclasses.asdict(summarize(values)) | {"made_worse": float((values < 0).mean())}
            table.append(subject.row(protocol, **facts, metric=f"{metric} improvement", **numbers))
    order = np.argsort([scores[QUERY, "SI-SDR"] for scores in scored])
    return table, int(order[len(order) // 2])


def shown(subject: Subject, item: Item, corpus: Corpus) -> tuple[str, dict[str, np.ndarray]]:
    """A row of Fig. 3."""
    sources, found = estimates(subject, item, corpus)
    panels = {"mixture": sources.sum(axis=0), "query": corpus.read(item.query)[:, 0]}
    panels |= {"estimate": found[QUERY], "truth": sources[0]}
    heading = f"{item.sources[0].stem} of {' + '.join(source.stem for source in item.sources)}"
    return heading, {title: audio[:, None] for title, audio in panels.items()}


def table(rows: list[dict]) -> str:
    """A line for each task and estimate."""
    columns = ["target", "of", "estimate", "mixtures", "songs"]
    for metric in METRICS:
        columns += [f"mixture {metric}", f"{metric} improvement", "median", "made worse"]
    lines: dict[tuple, list[str]] = {}
    for row in rows:
        key = (row["sources"][0], " + ".join(row["sources"]), row["estimate"], str(row["count"]), str(row["songs"]))
        cells = [f"{row['mixture_mean']:.2f}", f"{row['mean']:+.2f} ± {row['ci95']:.2f}", f"{row['median']:+.2f}"]
        lines.setdefault(key, [*key]).extend([*cells, f"{100 * row['made_worse']:.0f} %"])
    first = rows[0]
    levels = ", ".join(dict.fromkeys(f"{row['sources'][0]}: levels {row['levels']}" for row in rows))
    title = f"{first['corpus']}, {first['split']} split; {first['protocol']}; {levels}; dB: mean ± 95 % over mixtures; "
    title += f"{GAP}: paired, made worse where the query is"
    return published.markdown(title, columns, lines.values(), words=3)


def main() -> None:
    options = console.parse(Targeting, "python -m benchmarks.papers.lee2019.targeting", EXAMPLE)
    options.check()
    subject = begin(options, "targeting", EXAMPLE)
    view = {stem: (stem,) for stems in TASKS for stem in stems}
    try:
        corpus = subject.corpus(view)
    except ValueError as error:
        raise ValueError(f"{error}. Sub-stems are needed, which `band` has: give --corpus band") from None
    protocol = f"{options.seconds:g}-s excerpts, mono at {corpus.sample_rate} Hz, queries from other songs"
    protocol += f", seed {options.seed}"
    drawn = [draw(options, corpus, stems, np.random.default_rng([options.seed, n])) for n, stems in enumerate(TASKS)]
    rows, pictures = [], {}
    for items in drawn:
        found, typical = study(subject, items, corpus, protocol)
        rows += found
        heading, panels = shown(subject, items[typical], corpus)
        pictures[heading] = panels
    strips(pictures, corpus.sample_rate, subject.out / "spectrograms.png")
    published.publish(subject.out, rows, table(rows))


if __name__ == "__main__":
    console.run(main)
