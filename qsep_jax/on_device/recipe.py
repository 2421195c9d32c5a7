"""The base of recipes that run inside the jitted step: those of `data_pipelines` again, as pure functions of a key.

Each recipe has the same distribution as its namesake, but draws other random numbers. It first chooses the excerpts to
read, then makes an example of their audio, and may request that some excerpts are drawn again.
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
from qsep_jax.on_device.memory import Index, Piece, RowLayout, Source

Example = dict[str, Array]


@dataclasses.dataclass(frozen=True)
class DeviceRecipe(abc.ABC):
    """Draws examples from a corpus in the devices' memory.

    Attributes:
      recipe: The recipe of `data_pipelines` whose distribution the examples have.
      samples: Length of an example in samples.
      stems: Number of stems of the corpus's view.
      sample_rate: Sample rate in Hz.
      redraws: Whether the recipe may request that excerpts are drawn again.
    """

    recipe: Any
    samples: int
    stems: int
    sample_rate: int

    redraws = False

    @property
    @abc.abstractmethod
    def excerpts(self) -> int:
        """Number of excerpts that an example is made of."""

    @abc.abstractmethod
    def choose(self, key: Array, attempts: Array, index: Index) -> tuple[Array, Any]:
        """Choose the excerpts of an example.

        Args:
          key: random key of the example.
          attempts: how often each excerpt was drawn again so far, `[excerpts]`.
          index: index of the corpus from which the example is drawn.

        Returns:
          The positions to read, `[excerpts, 3]`: source, track and first sample; and the choices for `example`.
        """

    @abc.abstractmethod
    def example(self, choices: Any, audio: Array, index: Index) -> tuple[Example, Array]:
        """Make an example of the excerpts `[excerpts, T, C]`; return also which to draw again, `[excerpts]` bool."""

    def index(self, corpora: Sequence[Corpus], layout: RowLayout) -> Index:
        """Add the audio that the recipe reads to the layout, and return its index.

        Raises:
          ValueError: if a corpus does not fit the recipe.
        """
        for corpus in corpora:
            self.check(corpus)
        return layout.index(corpora, stem_sources(corpora))

    def check(self, corpus: Corpus) -> None:  # noqa: B027 (most recipes accept any corpus)
        """Raise ValueError if a corpus does not fit the recipe."""

    def random_excerpt_of(self, key: Array, stem: Array, index: Index) -> tuple[Array, Array]:
        """Draw a track that has a stem, and the first sample of an excerpt in it."""
        track_key, start_key = jax.random.split(key)
        track = self.random_track_of(track_key, stem, index)
        return track, random_start(start_key, index.length(stem, track), self.samples)

    def random_track_of(self, key: Array, stem: Array, index: Index) -> Array:
        """Draw a track that has a stem."""
        return index.tracks[stem, jax.random.randint(key, (), 0, index.track_counts[stem])]

    def random_excerpt(self, key: Array, index: Index, samples: int) -> tuple[Array, Array]:
        """Draw any track, and the first sample of an excerpt of `samples` in it; 0 in shorter tracks."""
        track_key, start_key = jax.random.split(key)
        track = index.first + jax.random.randint(track_key, (), 0, index.count)
        longest = index.samples[: self.stems, track].max()
        return track, random_start(start_key, longest, samples)

    def no_redraw(self) -> Array:
        """Return a mask that requests no excerpt again."""
        return jnp.zeros(self.excerpts, bool)


def random_start(key: Array, length: Array, samples: int) -> Array:
    """Draw the first sample of an excerpt of `samples` in a track of `length`; 0 if the track is shorter."""
    return jax.random.randint(key, (), 0, jnp.maximum(length - samples, 0) + 1)


def stem_sources(corpora: Sequence[Corpus]) -> list[Source]:
    """Return the sources of all stems of the view."""
    return [pieces_of(corpora, stem) for stem in corpora[0].stems]


def pieces_of(corpora: Sequence[Corpus], name: str) -> dict[tuple[int, str], list[Piece]]:
    """Return the pieces of a stem or of a variant, by corpus and track."""
    return {
        (number, track): [
            Piece((corpus.folder, corpus.split, row), row.samples, partial(corpus.segments, row))
            for row in corpus.parts(track, name)
        ]
        for number, corpus in enumerate(corpora)
        for track in corpus.tracks(name)
    }
