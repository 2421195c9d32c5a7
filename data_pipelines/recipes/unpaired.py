"""Recipes of Stoller et al. 2018: excerpts of songs with their stems, of mixtures alone, and of single sources.

Mixtures and single sources are drawn independently, so that no source is part of a mixture.
"""

import dataclasses
from typing import Literal

import numpy as np

from data_pipelines.prepared.corpus import Corpus, Excerpt
from data_pipelines.recipes.mixing import random_position
from data_pipelines.schema import MIXTURE, SOURCES, TARGET

Gain = tuple[float, float]


@dataclasses.dataclass(frozen=True)
class PairedExcerpt:
    """The unchanged stems at a random position of a random track, and their sum.

    Attributes:
      draw: What is equally likely: every track (`tracks`), or every second of every track (`seconds`), so that tracks,
        and several corpora of a stream, are drawn in proportion to their duration. The published code trains with the
        former and validates on all patches of all songs, which is the latter in expectation.
    """

    draw: Literal["tracks", "seconds"] = "tracks"

    def __call__(self, rng: np.random.Generator, corpus: Corpus, samples: int) -> dict[str, np.ndarray]:
        """Draw `mixture` `[T, C]` and `sources` `[S, T, C]`, in the order of the view; missing stems are silent."""
        sources = np.stack(_random_excerpt(rng, corpus, samples, by_duration=self.draw == "seconds"))
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
      absent: Treatment of tracks that lack the stem: they are not drawn (`skip`), or drawn like the others and give an
        example of silence (`silent`). The published code does the latter: a critic compares estimates from all mixtures
        with real sources, and the voice in an instrumental song is silence.
    """

    gain: Gain = (0.2, 1.2)
    absent: Literal["skip", "silent"] = "skip"

    def __call__(self, rng: np.random.Generator, corpus: Corpus, samples: int) -> dict[str, np.ndarray]:
        """Draw `target` `[T, C]`.

        Raises:
          ValueError: if the view has several stems.
        """
        self.check(corpus)
        (stem,), names = corpus.stems, self.tracks(corpus)
        track = names[rng.integers(len(names))]
        audio = np.zeros((samples, corpus.channels), np.float32)
        if track in corpus.tracks(stem):
            room = corpus.length(track, stem) - samples
            start = int(rng.integers(room + 1)) if room > 0 else 0
            corpus.add(Excerpt(track, stem, start, samples), rng.uniform(*self.gain), audio)
        return {TARGET: audio}

    def tracks(self, corpus: Corpus) -> tuple[str, ...]:
        """The tracks from which examples are drawn."""
        return corpus.stored_tracks if self.absent == "silent" else corpus.tracks(corpus.stems[0])

    def check(self, corpus: Corpus) -> None:
        """Raise ValueError if the view has several stems."""
        if len(corpus.stems) != 1:
            raise ValueError(
                f"a solo excerpt needs a view of one stem, but the view has {', '.join(corpus.stems)}: give one"
            )


def _random_excerpt(
    rng: np.random.Generator, corpus: Corpus, samples: int, *, by_duration: bool = False
) -> list[np.ndarray]:
    """All stems of a random track at the same random position, each `[T, C]`."""
    track, start = random_position(rng, corpus, samples, by_duration=by_duration)
    silence = np.zeros((samples, corpus.channels), np.float32)
    return [
        corpus.read(Excerpt(track, stem, start, samples)) if track in corpus.tracks(stem) else silence
        for stem in corpus.stems
    ]
