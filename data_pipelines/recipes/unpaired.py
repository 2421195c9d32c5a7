"""Stoller et al. 2018: excerpts of songs whose stems are known, of mixtures without stems, and of single sources.

Mixtures and sources are drawn independently of each other, so that neither belongs to the other.
"""

import dataclasses

import numpy as np

from data_pipelines.prepared.corpus import Corpus, Excerpt
from data_pipelines.recipes.mixing import anywhere
from data_pipelines.schema import MIXTURE, SOURCES, TARGET

Gain = tuple[float, float]


@dataclasses.dataclass(frozen=True)
class PairedExcerpt:
    """A random place of a random track: its stems as they are, and their sum."""

    def __call__(self, rng: np.random.Generator, corpus: Corpus, samples: int) -> dict[str, np.ndarray]:
        """Draw `mixture` `[T, C]` and `sources` `[S, T, C]`, S in the order of the view; a missing stem is silent."""
        sources = np.stack(_anywhere(rng, corpus, samples))
        return {MIXTURE: sources.sum(0), SOURCES: sources}


@dataclasses.dataclass(frozen=True)
class UnpairedMixture:
    """The sum of all stems at a random place of a random track, times a gain from `gain`."""

    gain: Gain = (0.2, 1.2)

    def __call__(self, rng: np.random.Generator, corpus: Corpus, samples: int) -> dict[str, np.ndarray]:
        """Draw `mixture` `[T, C]`."""
        mixture = np.sum(_anywhere(rng, corpus, samples), axis=0)
        return {MIXTURE: np.float32(rng.uniform(*self.gain)) * mixture}


@dataclasses.dataclass(frozen=True)
class SoloExcerpt:
    """A random place of a random track of the only stem of the view, times a gain from `gain`.

    The tracks need no other stem: recordings of one instrument will do.
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
            raise ValueError(f"a solo excerpt is of one stem, the view has {', '.join(corpus.stems)}: give one")


def _anywhere(rng: np.random.Generator, corpus: Corpus, samples: int) -> list[np.ndarray]:
    """All stems of a random track at the same random place, `[T, C]` each."""
    track, start = anywhere(rng, corpus, samples)
    silence = np.zeros((samples, corpus.channels), np.float32)
    return [
        corpus.read(Excerpt(track, stem, start, samples)) if track in corpus.tracks(stem) else silence
        for stem in corpus.stems
    ]
