"""What a recipe is within a step: the recipes of `data_pipelines` again, as pure functions of a key.

Each draws with the same chances as its namesake, in numbers of its own. It says first what it wants to read, then makes
an example of that, and may ask for some of it to be drawn again.
"""

import abc
import dataclasses
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from data_pipelines.prepared.corpus import Corpus
from qsep_jax.on_device.memory import Index, Piece, Shelf, Source

Example = dict[str, Array]


@dataclasses.dataclass(frozen=True)
class Drawing(abc.ABC):
    """How examples of `samples` of a corpus are drawn; `stems` of its view, `rate` in Hz.

    Attributes:
      redraws: whether it may want some drawn again.
    """

    recipe: Any
    samples: int
    stems: int
    rate: int

    redraws = False

    @property
    @abc.abstractmethod
    def reads(self) -> int:
        """Excerpts that an example is made of."""

    @abc.abstractmethod
    def places(self, key: Array, attempts: Array, index: Index) -> tuple[Array, Any]:
        """What to read, `[reads, 3]`: source, track, first sample; and what `example` is to know besides.

        Args:
          attempts: how often each excerpt was refused before, `[reads]`.
          index: of the corpus that the example is of.
        """

    @abc.abstractmethod
    def example(self, drawn: Any, audio: Array, index: Index) -> tuple[Example, Array]:
        """An example of the excerpts `[reads, T, C]`, and which of them to draw again, `[reads]`."""

    def index(self, corpora: Sequence[Corpus], shelf: Shelf) -> Index:
        """Put on the shelf what has to lie in memory.

        Raises:
          ValueError: if a corpus is not what the recipe needs.
        """
        for corpus in corpora:
            self.check(corpus)
        return shelf.index(corpora, stem_sources(corpora))

    def check(self, corpus: Corpus) -> None:  # noqa: B027 (most recipes take any corpus)
        """Raise ValueError if a corpus is not what the recipe needs."""

    def anywhere_of(self, key: Array, stem: Array, index: Index) -> tuple[Array, Array]:
        """A random track that has a stem, and where in it an excerpt begins."""
        track_key, start_key = jax.random.split(key)
        track = self.track_of(track_key, stem, index)
        return track, begin(start_key, index.length(stem, track), self.samples)

    def track_of(self, key: Array, stem: Array, index: Index) -> Array:
        """A random track that has a stem."""
        return index.tracks[stem, jax.random.randint(key, (), 0, index.having[stem])]

    def anywhere(self, key: Array, index: Index, samples: int) -> tuple[Array, Array]:
        """A random track, and where in it so many samples begin; 0 where it is shorter."""
        track_key, start_key = jax.random.split(key)
        track = index.first + jax.random.randint(track_key, (), 0, index.count)
        longest = index.samples[: self.stems, track].max()
        return track, begin(start_key, longest, samples)

    def none_again(self) -> Array:
        return jnp.zeros(self.reads, bool)


def begin(key: Array, length: Array, samples: int) -> Array:
    """Where in so long a track an excerpt begins; 0 where that is shorter."""
    return jax.random.randint(key, (), 0, jnp.maximum(length - samples, 0) + 1)


def stem_sources(corpora: Sequence[Corpus]) -> list[Source]:
    return [pieces_of(corpora, stem) for stem in corpora[0].stems]


def pieces_of(corpora: Sequence[Corpus], name: str) -> dict[tuple[int, str], list[Piece]]:
    """Of a stem or a variant, by corpus and track."""
    return {
        (number, track): [
            Piece((corpus.folder, corpus.split, row), row.samples, partial(corpus.segments, row))
            for row in corpus.parts(track, name)
        ]
        for number, corpus in enumerate(corpora)
        for track in corpus.tracks(name)
    }
