"""§4.3, Fig. 3: `python -m benchmarks.papers.lee2019.targeting --workdir RUN`.

The experiment separates sources that were never a class of their own, with a query from another test song: the hi-hat
in kick, hi-hat and bass, and the piano in piano and guitar. It compares the query with the mean of the class that the
source is part of, which is the only condition that a model without queries offers, and with the ideal ratio mask, an
upper bound for separation by masks.
"""

import dataclasses

import jax.numpy as jnp
import numpy as np

from benchmarks.papers import published
from benchmarks.papers.lee2019 import excerpt_groups
from benchmarks.papers.lee2019.context import CommonOptions, Context, load_context
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
# The sources of the mixtures; the first one is the target.
TASKS = (("hihat", "kick", "bass"), ("piano", "guitar"))
METRICS = {"SI-SDR": si_sdr, "SDR": snr}
QUERY, CLASS, BOUND, GAP = "query", "class mean", "ideal ratio mask", "query − class mean"


@dataclasses.dataclass(frozen=True)
class Targeting(CommonOptions):
    """Separate the hi-hat from kick, hi-hat and bass, and the piano from piano and guitar, with a query.

    A mixture is an excerpt of one song in which all sources are audible, at the stored levels; excerpts do not overlap.
    If no song has all sources, each source comes from another song, and all have the same RMS.

    Attributes:
      mixtures: Number of mixtures of each kind; fewer if the split has fewer such excerpts.
      seconds: Length of a mixture and of its query in seconds.
      seed: Seed of the excerpts and queries.
    """

    mixtures: int = 50
    seconds: float = 6.0
    seed: int = 2019

    def check(self) -> None:
        """Raise ValueError for invalid options."""
        console.need_positive(self, "mixtures", "seconds")


@dataclasses.dataclass(frozen=True)
class Item:
    """A mixture, whose first source is the target, and a query of the target."""

    sources: excerpt_groups.ExcerptGroup
    query: Excerpt

    def waveforms(self, corpus: Corpus) -> tuple[np.ndarray, np.ndarray]:
        """The sources `[S, T]`, at stored levels if they are of one song, else at equal RMS, and the query `[T, 1]`."""
        sources = np.stack([corpus.read(source)[:, 0] for source in self.sources])
        if len({source.track for source in self.sources}) > 1:
            levels = np.array([rms(source) for source in sources], np.float32)
            sources *= (levels.mean() / levels)[:, None]
        return sources, corpus.read(self.query)


def draw_items(options: Targeting, corpus: Corpus, stems: tuple[str, ...], rng: np.random.Generator) -> list[Item]:
    """The mixtures of a task, each with a query from a song that is not in the mixture.

    Raises:
      ValueError: if the sources are audible nowhere, or if no other song has a query.
    """
    groups = excerpt_groups.simultaneous(corpus, stems, options.seconds, options.mixtures, rng)
    groups = groups or excerpt_groups.of_different_songs(corpus, stems, options.seconds, options.mixtures, rng)
    if not groups:
        raise ValueError(f"{corpus.folder}: no {options.seconds:g} s of {', '.join(stems)} in the {corpus.split} split")
    return [Item(group, excerpt_groups.query_for(corpus, group, options.seconds, rng)) for group in groups]


def estimate_target(context: Context, item: Item, corpus: Corpus) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The sources `[S, T]` of a mixture, and the estimates of its target `[T]` by condition."""
    sources, query = item.waveforms(corpus)
    mixture = sources.sum(axis=0)[:, None]
    conditions = [encode(context.model, query), context.bank.mean(BAND_PARENTS[item.sources[0].stem])]
    outputs = np.concatenate(list(separate_blocks(context.model, [mixture], 1, conditions)), axis=1)[..., 0]
    bound = np.asarray(ideal_ratio_mask(jnp.asarray(sources))[0])
    return sources, {QUERY: outputs[0], CLASS: outputs[1], BOUND: bound}


def improvements(sources: np.ndarray, estimates: dict[str, np.ndarray]) -> dict[tuple[str, str], float]:
    """The improvement over the mixture by estimate and metric; `mixture` has the scores of the mixture itself."""
    results = {}
    for metric, score in METRICS.items():
        before = results["mixture", metric] = float(score(jnp.asarray(sources[0]), jnp.asarray(sources.sum(axis=0))))
        for name, estimate in estimates.items():
            results[name, metric] = float(score(jnp.asarray(sources[0]), jnp.asarray(estimate))) - before
        results[GAP, metric] = results[QUERY, metric] - results[CLASS, metric]
    return results


def measure(context: Context, items: list[Item], corpus: Corpus, protocol: str) -> tuple[list[dict], int]:
    """The rows of a task, and the index of the mixture with the median SI-SDR improvement by the query."""
    stems = [source.stem for source in items[0].sources]
    scores_of_items = []
    with Progress(f"{stems[0]} in {' + '.join(stems)}", len(items), unit="mixture") as progress:
        for item in progress.over(items):
            scores_of_items.append(improvements(*estimate_target(context, item, corpus)))
    songs = {source.track for item in items for source in item.sources}
    levels = "as stored" if len({source.track for source in items[0].sources}) == 1 else "different songs, equal RMS"
    rows = []
    for name, metric in scores_of_items[0]:
        if name != "mixture":
            values = np.array([scores[name, metric] for scores in scores_of_items])
            before = float(np.mean([scores["mixture", metric] for scores in scores_of_items]))
            facts = {"sources": stems, "levels": levels, "songs": len(songs), "estimate": name, "mixture_mean": before}
            numbers = dataclasses.asdict(summarize(values)) | {"made_worse": float((values < 0).mean())}
            rows.append(context.row(protocol, **facts, metric=f"{metric} improvement", **numbers))
    order = np.argsort([scores[QUERY, "SI-SDR"] for scores in scores_of_items])
    return rows, int(order[len(order) // 2])


def panels_of(context: Context, item: Item, corpus: Corpus) -> tuple[str, dict[str, np.ndarray]]:
    """The title and the audio of the panels of one row of Fig. 3."""
    sources, estimates = estimate_target(context, item, corpus)
    panels = {"mixture": sources.sum(axis=0), "query": corpus.read(item.query)[:, 0]}
    panels |= {"estimate": estimates[QUERY], "reference": sources[0]}
    heading = f"{item.sources[0].stem} in {' + '.join(source.stem for source in item.sources)}"
    return heading, {title: audio[:, None] for title, audio in panels.items()}


def table(rows: list[dict]) -> str:
    """The Markdown table with a line for each task and condition."""
    columns = ["target and mixture", "condition", "mixtures (songs)"]
    for metric in METRICS:
        columns += [f"{metric} of the mixture", f"{metric} improvement", "median", "made worse"]
    lines: dict[tuple, list[str]] = {}
    for row in rows:
        task = f"{row['sources'][0]} in {' + '.join(row['sources'])}"
        key = (task, row["estimate"], f"{row['count']} ({row['songs']})")
        cells = [f"{row['mixture_mean']:.2f}", f"{row['mean']:+.2f} ± {row['ci95']:.2f}", f"{row['median']:+.2f}"]
        lines.setdefault(key, [*key]).extend([*cells, f"{100 * row['made_worse']:.0f} %"])
    first = rows[0]
    levels = ", ".join(dict.fromkeys(f"{row['sources'][0]}: levels {row['levels']}" for row in rows))
    title = f"{first['corpus']}, {first['split']} split; {first['protocol']}; {levels}; dB: mean ± 95 % over mixtures; "
    title += f"{GAP}: paired differences, made worse if the query is the worse condition"
    return published.markdown(title, columns, lines.values(), text_columns=2)


def main() -> None:
    options = console.parse(Targeting, "python -m benchmarks.papers.lee2019.targeting", EXAMPLE)
    options.check()
    context = load_context(options, "targeting", EXAMPLE)
    view = {stem: (stem,) for stems in TASKS for stem in stems}
    try:
        corpus = context.corpus(view)
    except ValueError as error:
        raise ValueError(f"{error}. The experiment needs sub-stems, which `band` has: give --corpus band") from None
    protocol = f"{options.seconds:g}-s excerpts, mono at {corpus.sample_rate} Hz, queries from other songs"
    protocol += f", seed {options.seed}"
    items_of_tasks = [
        draw_items(options, corpus, stems, np.random.default_rng([options.seed, number]))
        for number, stems in enumerate(TASKS)
    ]
    rows, figure_rows = [], {}
    for items in items_of_tasks:
        task_rows, median = measure(context, items, corpus, protocol)
        rows += task_rows
        heading, panels = panels_of(context, items[median], corpus)
        figure_rows[heading] = panels
    strips(figure_rows, corpus.sample_rate, context.out / "spectrograms.png")
    published.publish(context.out, rows, table(rows))


if __name__ == "__main__":
    console.run(main)
