"""Recipes of Stoller et al. 2018: excerpts of songs with their stems, of mixtures alone, and of single sources.

Mixtures and single sources are drawn independently, so that no source is part of a mixture.
"""

import dataclasses

import numpy as np

from data_pipelines.prepared.corpus import Corpus, Excerpt
from data_pipelines.recipes.mixing import random_position
from data_pipelines.schema import MIXTURE, SOURCES, TARGET

Gain = tuple[float, float]


@dataclasses.dataclass(frozen=True)
class PairedExcerpt:
    """The unchanged stems at a random position of a random track, and their sum."""

    def __call__(self, rng: np.random.Generator, corpus: Corpus, samples: int) -> dict[str, np.ndarray]:
        """Draw `mixture` `[T, C]` and `sources` `[S, T, C]`, in the order of the view; missing stems are silent."""
        sources = np.stack(_random_excerpt(rng, corpus, samples))
        return {MIXTURE: sources.sum(0), SOURCES: sources}


@dataclasses.dataclass(frozen=True)
class UnpairedMixture:
    """The sum of all stems at a random position of a random track, multiplied by a random gain.

    Attributes:
      gain: Range of the uniformly distributed gain.
    """

    gain: Gain = (0.2, 1.2)

    def __call__(self, rng: np.random.Generator, corpus: Corpus, samples: int) -> dict[str, np.ndarray]:
        """Draw `mixture` `[T, C]`."""
        mixture = np.sum(_random_excerpt(rng, corpus, samples), axis=0)
        return {MIXTURE: np.float32(rng.uniform(*self.gain)) * mixture}


@dataclasses.dataclass(frozen=True)
class SoloExcerpt:
    """The only stem of the view at a random position of a random track, multiplied by a random gain.

    The tracks need no other stem, so that the corpus may consist of recordings of one instrument.

    Attributes:
      gain: Range of the uniformly distributed gain.
    """

    gain: Gain = (0.2, 1.2)

    def __call__(self, rng: np.random.Generator, corpus: Corpus, samples: int) -> dict[str, np.ndarray]:
        """Draw `target` `[T, C]`.

        Raises:
          ValueError: if the view has several stems.
        """
        self.check(corpus)
        excerpt = corpus.draw(rng, corpus.stems[0], samples)
        audio = np.zeros((samples, corpus.channels), np.float32)
        corpus.add(excerpt, rng.uniform(*self.gain), audio)
        return {TARGET: audio}

    def check(self, corpus: Corpus) -> None:
        """Raise ValueError if the view has several stems."""
        if len(corpus.stems) != 1:
            raise ValueError(
                f"a solo excerpt needs a view of one stem, but the view has {', '.join(corpus.stems)}: give one"
            )


def _random_excerpt(rng: np.random.Generator, corpus: Corpus, samples: int) -> list[np.ndarray]:
    """All stems of a random track at the same random position, each `[T, C]`."""
    track, start = random_position(rng, corpus, samples)
    silence = np.zeros((samples, corpus.channels), np.float32)
    return [
        corpus.read(Excerpt(track, stem, start, samples)) if track in corpus.tracks(stem) else silence
        for stem in corpus.stems
    ]
