"""A list of test mixtures, drawn from a seed, so that every model is evaluated on the same mixtures."""

import dataclasses
import itertools
from typing import Literal

import numpy as np

from data_pipelines.prepared.corpus import Corpus, Excerpt
from data_pipelines.recipes.mixing import MOST_DRAWS, rms
from data_pipelines.schema import check_name

# An excerpt is audible if the RMS level of each of its thirds is above this (-50 dB re full scale).
AUDIBLE = 10.0 ** (-50 / 20)
# Seconds.
LONGEST_MIXTURE = 3_600


@dataclasses.dataclass(frozen=True)
class TestList:
    """The mixtures on which a system is evaluated.

    Attributes:
      split: Split of the corpus from which mixtures and queries are drawn.
      kind: `pairs` mixes `sources` stems from different tracks at equal level, over all combinations of stems in turn;
        `tracks` mixes all stems of one track at their stored level, over all tracks in turn.
      mixtures: Number of mixtures; 0 takes every combination of stems, or every track, once.
      seconds: Length of a mixture and of a query. A query is an excerpt of the target's stem from a track that is in no
        source of the mixture.
      seed: Seed from which the list is drawn.
      sources: Number of stems in a mixture of `pairs`.
      corpus: Corpus of the tracks; that of the first stream by default. Of several, joined by `+`, the first is used.
    """

    # pytest takes classes of this name for tests.
    __test__ = False

    split: str = "test"
    kind: Literal["pairs", "tracks"] = "tracks"
    mixtures: int = 0
    seconds: float = 6.0
    seed: int = 2019
    sources: int = 2
    corpus: str = ""

    def __post_init__(self):
        for name in filter(None, self.corpus.split("+")):
            check_name(name, "the corpus of the evaluation")
        if self.mixtures < 0 or not 0 < self.seconds <= LONGEST_MIXTURE:
            raise ValueError(
                f"the evaluation needs 0 or more mixtures of up to {LONGEST_MIXTURE} s, not {self.mixtures} of "
                f"{self.seconds} s"
            )


@dataclasses.dataclass(frozen=True)
class Item:
    """One target of one mixture.

    Attributes:
      mixture: Number of the mixture in the list.
      sources: The excerpts that the mixture is the sum of.
      target: Index of the target in `sources`.
      query: Excerpt of the target's stem from another track.
    """

    mixture: int
    sources: tuple[Excerpt, ...]
    target: int
    query: Excerpt

    @property
    def stem(self) -> str:
        return self.sources[self.target].stem


def draw(settings: TestList, corpus: Corpus) -> list[Item]:
    """Draw the list, in which every source of every mixture is a target.

    Raises:
      ValueError: If the corpus has too few stems, tracks or audible excerpts for the list.
    """
    rng = np.random.default_rng(settings.seed)
    samples = round(settings.seconds * corpus.sample_rate)
    draw_mixtures = _draw_pairs if settings.kind == "pairs" else _draw_tracks
    items = []
    for number, sources in enumerate(draw_mixtures(settings, corpus, rng, samples)):
        tracks = {source.track for source in sources}
        for target, source in enumerate(sources):
            items.append(Item(number, sources, target, _draw_audible(corpus, rng, source.stem, samples, tracks)))
    return items


def _draw_pairs(
    settings: TestList, corpus: Corpus, rng: np.random.Generator, samples: int
) -> list[tuple[Excerpt, ...]]:
    combinations = list(itertools.combinations(corpus.stems, settings.sources))
    if settings.sources < 2 or not combinations:
        raise ValueError(
            f"a mixture has at least two sources, and at most as many as {corpus.folder} has stems "
            f"({', '.join(corpus.stems)}), not {settings.sources}"
        )
    order = [combinations[index] for index in rng.permutation(len(combinations))]
    mixtures = []
    for stems in itertools.islice(itertools.cycle(order), settings.mixtures or len(combinations)):
        sources: list[Excerpt] = []
        for stem in stems:
            sources.append(_draw_audible(corpus, rng, stem, samples, {source.track for source in sources}))
        mixtures.append(tuple(sources))
    return mixtures


def _draw_tracks(
    settings: TestList, corpus: Corpus, rng: np.random.Generator, samples: int
) -> list[tuple[Excerpt, ...]]:
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
            raise ValueError(f"'{track}' has no {settings.seconds} s in which two stems are audible")
    return mixtures


def _draw_audible(corpus: Corpus, rng: np.random.Generator, stem: str, samples: int, without: set[str]) -> Excerpt:
    """An audible excerpt of a stem from a random track that is not in `without`."""
    if set(corpus.tracks(stem)) <= without:
        raise ValueError(
            f"{corpus.folder} has too few {corpus.split} tracks with '{stem}' for a query from another track"
        )
    for _ in range(MOST_DRAWS):
        excerpt = corpus.draw(rng, stem, samples)
        if excerpt.track not in without and is_audible(corpus.read(excerpt)):
            return excerpt
    raise ValueError(f"{MOST_DRAWS} draws of '{stem}' from {corpus.folder} gave no audible excerpt")


def is_audible(audio: np.ndarray) -> bool:
    """Whether each third of `audio` `[T, C]` is above the level `AUDIBLE`."""
    return all(rms(part) > AUDIBLE for part in np.array_split(audio, 3))


def waveforms(item: Item, corpus: Corpus, settings: TestList) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mixture `[T, C]`, its sources `[S, T, C]` and the query `[T, C]` of an item, float32."""
    sources = np.stack([corpus.read(source) for source in item.sources])
    if settings.kind == "pairs":
        levels = np.array([rms(source) for source in sources], np.float32)
        sources *= (levels.mean() / levels)[:, None, None]
    return sources.sum(axis=0), sources, corpus.read(item.query)
