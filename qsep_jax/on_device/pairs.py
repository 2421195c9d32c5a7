"""The recipe of `data_pipelines.recipes.instrument_pairs` within a step."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from data_pipelines.prepared.corpus import Corpus
from data_pipelines.prepared.store import Row
from data_pipelines.recipes.instrument_pairs import InstrumentPairs, notes_between, sounding_parts
from data_pipelines.recipes.mixing import SILENCE
from data_pipelines.schema import NOTES, OTHERS, QUERIES, SOURCES, variant_name
from qsep_jax.on_device.drawing import Drawing, Example, pieces_of, stem_sources
from qsep_jax.on_device.memory import DoesNotFit, Index, Piece, Shelf


class DrawnInstrumentPairs(Drawing):
    """`InstrumentPairs`. Of each instrument are read: source, again from there and from elsewhere, and two queries.

    Sources of the index are the stems, their variants, and of each variant what sounds of it, without the silence in
    between and once more from the beginning as far as an excerpt can reach.
    """

    recipe: InstrumentPairs

    @property
    def reads(self) -> int:
        return 10

    def index(self, corpora: Sequence[Corpus], shelf: Shelf) -> Index:
        if len(corpora) > 1:
            raise DoesNotFit("is several corpora with pitch-shifted variants, which need not be the same in all")
        (corpus,) = corpora
        self.recipe.check(corpus)
        shifts = [[s for s in corpus.shifts(stem) if abs(s) <= self.recipe.shifts] for stem in corpus.stems]
        names = [variant_name(stem, s) for stem, of in zip(corpus.stems, shifts, strict=True) for s in of]
        variants = np.zeros((len(shifts), max(map(len, shifts))), np.int32)
        for stem, of in enumerate(shifts):
            begun = len(corpus.stems) + sum(map(len, shifts[:stem]))
            variants[stem, : len(of)] = np.arange(begun, begun + len(of))
        plain = [pieces_of(corpora, name) for name in names]
        dense = [self._dense(corpus, name, shelf.size) for name in names]
        many = np.array([len(of) for of in shifts], np.int32)
        sources = [*stem_sources(corpora), *plain, *dense]
        return shelf.index(corpora, sources, variants=variants, shifts=many, notes=self._notes(corpus, names))

    def places(self, key: Array, attempts: Array, index: Index) -> tuple[Array, Any]:
        pair_key, *stem_keys = jax.random.split(key, 3)
        chances = index.having / index.having.sum()
        pair = jax.random.choice(pair_key, self.stems, (2,), replace=False, p=chances)
        places = jax.vmap(self._of_stem, (0, 0, None))(jnp.stack(stem_keys), pair, index)
        return places.reshape(-1, 3), places[:, 0]

    def example(self, drawn: Any, audio: Array, index: Index) -> tuple[Example, Array]:
        parts = audio.reshape(2, 5, *audio.shape[1:])
        silent = jnp.sqrt(jnp.square(parts[:, 0]).mean((1, 2))) <= SILENCE
        example = {
            SOURCES: parts[:, 0],
            OTHERS: jnp.where(silent[:, None, None], parts[:, 2], parts[:, 1]),
            QUERIES: parts[:, 3:],
            NOTES: jax.vmap(self._notes_in, (0, None))(drawn, index),
        }
        return example, self.none_again()

    def _of_stem(self, key: Array, stem: Array, index: Index) -> Array:
        """`[5, 3]`."""
        keys = jax.random.split(key, 5)
        source, track, start = self._excerpt(keys[0], stem, index)
        again = self._variant(keys[1], stem, index)
        elsewhere = self._second(keys[2], index.length(stem, track))
        queries = [self._query(key, stem, index) for key in keys[3:]]
        own = [(source, track, start), (again, track, start), (again, track, elsewhere)]
        return jnp.stack([*map(jnp.stack, own), *queries])

    def _excerpt(self, key: Array, stem: Array, index: Index) -> tuple[Array, Array, Array]:
        track_key, variant_key, start_key = jax.random.split(key, 3)
        track = self.track_of(track_key, stem, index)
        return self._variant(variant_key, stem, index), track, self._second(start_key, index.length(stem, track))

    def _variant(self, key: Array, stem: Array, index: Index) -> Array:
        return index.more["variants"][stem, jax.random.randint(key, (), 0, index.more["shifts"][stem])]

    def _second(self, key: Array, length: Array) -> Array:
        """A whole second at which an excerpt still fits."""
        room = jnp.maximum(length - self.samples, 0) // self.rate
        return jax.random.randint(key, (), 0, room + 1) * self.rate

    def _query(self, key: Array, stem: Array, index: Index) -> Array:
        """A place in what sounds of a variant; where nothing says what does, a whole second of it all."""
        excerpt_key, start_key = jax.random.split(key)
        variant, track, start = self._excerpt(excerpt_key, stem, index)
        dense = variant + index.more["notes"].shape[0]
        length = index.length(dense, track) - self.samples
        anywhere = jax.random.randint(start_key, (), 0, jnp.maximum(length, 1))
        known = length > 0
        return jnp.stack([jnp.where(known, dense, variant), track, jnp.where(known, anywhere, start)])

    def _dense(self, corpus: Corpus, name: str, size: int) -> dict[tuple[int, str], list[Piece]]:
        """What sounds of a variant, by track; nothing of tracks without notes."""
        found = {}
        for track in corpus.tracks(name):
            parts = sounding_parts(corpus, track, name)
            length = sum(stop - start for start, stop in parts) + self.samples
            found[0, track] = [
                Piece(
                    (corpus.folder, corpus.split, row, "sounding", self.samples),
                    length,
                    partial(_sounding, corpus, row, parts, length, size),
                )
                for row in (corpus.parts(track, name) if parts else ())
            ]
        return found

    def _notes(self, corpus: Corpus, names: list[str]) -> np.ndarray:
        """Of each variant in each track, `[V, N, M, 3]`, M as many as the most have, the others padded with zeros."""
        tracks = {name: corpus.tracks(name.partition("@")[0]) for name in names}
        notes = {(name, track): corpus.notes(track, name) for name in names for track in tracks[name]}
        for (name, track), rows in notes.items():
            for start in range(0, max(corpus.length(track, name) - self.samples, 0) + 1, self.rate):
                heard = notes_between(rows, start / self.rate, self.samples / self.rate)
                self.recipe.check_notes(len(heard), name, track, self.samples / self.rate)
        numbers = {track: number for number, track in enumerate(corpus.all_tracks)}
        table = np.zeros((len(names), len(numbers), max(1, *map(len, notes.values())), 3), np.float32)
        for (name, track), rows in notes.items():
            table[names.index(name), numbers[track], : len(rows)] = rows
        return table

    def _notes_in(self, place: Array, index: Index) -> Array:
        """The notes `[most, 3]` of an excerpt, from its beginning on, those that sound in order, then zeros."""
        source, track, start = place
        rows = index.more["notes"][source - self.stems, track]
        begin, seconds = start / self.rate, self.samples / self.rate
        sounds = (rows[:, 0] < begin + seconds) & (rows[:, 1] > begin) & (rows[:, 2] > 0)
        times = jnp.clip(rows[:, :2] - begin, 0.0, seconds)
        kept = jnp.where(sounds[:, None], jnp.concatenate([times, rows[:, 2:]], -1), 0.0)
        kept = kept[jnp.argsort(~sounds, stable=True)[: self.recipe.most_notes]]
        return jnp.pad(kept, ((0, self.recipe.most_notes - len(kept)), (0, 0)))


def _sounding(corpus: Corpus, row: Row, parts: list[tuple[int, int]], length: int, size: int) -> Iterator[np.ndarray]:
    """So many samples of what sounds of a stored stem, over and over, in pieces of `size`, int16 `[n, C]`."""
    whole = np.concatenate(list(corpus.segments(row)))
    whole = np.pad(whole, ((0, max(0, parts[-1][1] - len(whole))), (0, 0)))  # where another part of the sum is longer
    sounding = np.concatenate([whole[start:stop] for start, stop in parts])
    around = np.resize(sounding, (length, sounding.shape[1]))
    yield from (around[start : start + size] for start in range(0, length, size))
