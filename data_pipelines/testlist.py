"""A list of test mixtures, drawn once from a seed, so that every model is judged on the same ones."""

import dataclasses
import itertools
from typing import Literal

import numpy as np

from data_pipelines.prepared.corpus import Corpus, Excerpt
from data_pipelines.recipes.mixing import rms

# Each third of an excerpt must be louder than this (-50 dB re full scale), or another is drawn.
AUDIBLE = 10.0 ** (-50 / 20)
MOST_DRAWS = 1000


@dataclasses.dataclass(frozen=True)
class TestList:
    """Which mixtures a system is judged on.

    Attributes:
      kind: `pairs`: two stems (or `sources`) from as many different tracks, at equal level, over all combinations of
        stems in turn; `tracks`: all stems of one track as they are, over all tracks in turn.
      mixtures: how many; for `pairs` 0 means every combination of stems once.
      seconds: of a mixture, and of a query. A query is of the target's stem, from a track that is in no source of the
        mixture.
      seed: of the whole list.
      sources: how many stems a mixture of `pairs` has.
      corpus: whose tracks they are; by default those of the first stream. Of several, joined by `+`, lists take the
        first.
    """

    # Not a test, whatever pytest thinks of the name.
    __test__ = False

    split: str = "test"
    kind: Literal["pairs", "tracks"] = "tracks"
    mixtures: int = 0
    seconds: float = 6.0
    seed: int = 2019
    sources: int = 2
    corpus: str = ""


@dataclasses.dataclass(frozen=True)
class Item:
    """One target of one mixture: the excerpts it is the sum of, which of them is wanted, and the query for it."""

    mixture: int
    sources: tuple[Excerpt, ...]
    target: int
    query: Excerpt

    @property
    def stem(self) -> str:
        return self.sources[self.target].stem


def draw(settings: TestList, corpus: Corpus) -> list[Item]:
    """Every source of every mixture as a target.

    Raises:
      ValueError: if the corpus has too few stems, tracks or audible places for the list.
    """
    rng = np.random.default_rng(settings.seed)
    samples = round(settings.seconds * corpus.sample_rate)
    mixtures = (
        _pairs(settings, corpus, rng, samples) if settings.kind == "pairs" else _tracks(settings, corpus, rng, samples)
    )
    items = []
    for number, sources in enumerate(mixtures):
        tracks = {source.track for source in sources}
        for target, source in enumerate(sources):
            items.append(Item(number, sources, target, _audible(corpus, rng, source.stem, samples, tracks)))
    return items


def _pairs(settings: TestList, corpus: Corpus, rng: np.random.Generator, samples: int) -> list[tuple[Excerpt, ...]]:
    together = list(itertools.combinations(corpus.stems, settings.sources))
    if settings.sources < 2 or not together:
        raise ValueError(
            f"mixtures of {settings.sources} need at least two and as many stems, {corpus.folder} has "
            f"{', '.join(corpus.stems)}"
        )
    order = [together[index] for index in rng.permutation(len(together))]
    mixtures = []
    for stems in itertools.islice(itertools.cycle(order), settings.mixtures or len(together)):
        sources: list[Excerpt] = []
        for stem in stems:
            sources.append(_audible(corpus, rng, stem, samples, {source.track for source in sources}))
        mixtures.append(tuple(sources))
    return mixtures


def _tracks(settings: TestList, corpus: Corpus, rng: np.random.Generator, samples: int) -> list[tuple[Excerpt, ...]]:
    tracks = sorted({track for stem in corpus.stems for track in corpus.tracks(stem)})
    order = [tracks[index] for index in rng.permutation(len(tracks))]
    mixtures = []
    for track in itertools.islice(itertools.cycle(order), settings.mixtures or len(tracks)):
        stems = [stem for stem in corpus.stems if track in corpus.tracks(stem)]
        for _ in range(MOST_DRAWS):
            room = corpus.length(track, stems[0]) - samples
            start = int(rng.integers(room + 1)) if room > 0 else 0
            sources = tuple(Excerpt(track, stem, start, samples) for stem in stems)
            audible = tuple(source for source in sources if is_audible(corpus.read(source)))
            if len(audible) > 1:
                mixtures.append(audible)
                break
        else:
            raise ValueError(f"'{track}' has no {settings.seconds} s in which two stems sound")
    return mixtures


def _audible(corpus: Corpus, rng: np.random.Generator, stem: str, samples: int, without: set[str]) -> Excerpt:
    if set(corpus.tracks(stem)) <= without:
        raise ValueError(
            f"{corpus.folder} has too few {corpus.split} tracks with '{stem}' for a query from another one"
        )
    for _ in range(MOST_DRAWS):
        excerpt = corpus.draw(rng, stem, samples)
        if excerpt.track not in without and is_audible(corpus.read(excerpt)):
            return excerpt
    raise ValueError(f"{MOST_DRAWS} draws of '{stem}' from {corpus.folder} found nothing audible")


def is_audible(audio: np.ndarray) -> bool:
    return all(rms(part) > AUDIBLE for part in np.array_split(audio, 3))


def waveforms(item: Item, corpus: Corpus, settings: TestList) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mixture `[T, C]`, its sources `[S, T, C]` and the query `[T, C]` of an item, float32."""
    sources = np.stack([corpus.read(source) for source in item.sources])
    if settings.kind == "pairs":
        levels = np.array([rms(source) for source in sources], np.float32)
        sources *= (levels.mean() / levels)[:, None, None]
    return sources.sum(axis=0), sources, corpus.read(item.query)
