"""The recipe of `data_pipelines.recipes.instrument_pairs` inside the step."""

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
from qsep_jax.on_device.memory import DoesNotFit, Index, Piece, RowLayout
from qsep_jax.on_device.recipe import DeviceRecipe, Example, pieces_of, stem_sources


class DrawnInstrumentPairs(DeviceRecipe):
    """`InstrumentPairs` on devices.

    Five excerpts are read of each instrument: the source, another variant at the same position, another variant at
    another position, and two queries. The sources of the index are the stems, their variants, and for each variant the
    audio of its notes without the silence between them. This audio continues from its beginning by the length of an
    excerpt, so that excerpts may start anywhere in it.
    """

    recipe: InstrumentPairs

    @property
    def excerpts(self) -> int:
        return 10

    def index(self, corpora: Sequence[Corpus], layout: RowLayout) -> Index:
        if len(corpora) > 1:
            raise DoesNotFit("consists of several corpora, whose pitch-shifted variants may differ")
        (corpus,) = corpora
        self.recipe.check(corpus)
        shifts = [[s for s in corpus.shifts(stem) if abs(s) <= self.recipe.shifts] for stem in corpus.stems]
        by_stem = zip(corpus.stems, shifts, strict=True)
        names = [variant_name(stem, shift) for stem, stem_shifts in by_stem for shift in stem_shifts]
        variants = np.zeros((len(shifts), max(map(len, shifts))), np.int32)
        for stem, stem_shifts in enumerate(shifts):
            first = len(corpus.stems) + sum(map(len, shifts[:stem]))
            variants[stem, : len(stem_shifts)] = np.arange(first, first + len(stem_shifts))
        plain = [pieces_of(corpora, name) for name in names]
        dense = [self._dense(corpus, name, layout.size) for name in names]
        counts = np.array([len(stem_shifts) for stem_shifts in shifts], np.int32)
        sources = [*stem_sources(corpora), *plain, *dense]
        return layout.index(corpora, sources, variants=variants, shifts=counts, notes=self._notes(corpus, names))

    def choose(self, key: Array, attempts: Array, index: Index) -> tuple[Array, Any]:
        pair_key, *stem_keys = jax.random.split(key, 3)
        chances = index.track_counts / index.track_counts.sum()
        pair = jax.random.choice(pair_key, self.stems, (2,), replace=False, p=chances)
        positions = jax.vmap(self._choose_of_stem, (0, 0, None))(jnp.stack(stem_keys), pair, index)
        return positions.reshape(-1, 3), positions[:, 0]

    def example(self, choices: Any, audio: Array, index: Index) -> tuple[Example, Array]:
        parts = audio.reshape(2, 5, *audio.shape[1:])
        silent = jnp.sqrt(jnp.square(parts[:, 0]).mean((1, 2))) <= SILENCE
        example = {
            SOURCES: parts[:, 0],
            OTHERS: jnp.where(silent[:, None, None], parts[:, 2], parts[:, 1]),
            QUERIES: parts[:, 3:],
            NOTES: jax.vmap(self._notes_in, (0, None))(choices, index),
        }
        return example, self.no_redraw()

    def _choose_of_stem(self, key: Array, stem: Array, index: Index) -> Array:
        """Choose the positions of the five excerpts of one instrument, `[5, 3]`."""
        keys = jax.random.split(key, 5)
        source, track, start = self._excerpt(keys[0], stem, index)
        variant = self._variant(keys[1], stem, index)
        other_start = self._whole_second(keys[2], index.length(stem, track))
        queries = [self._query(key, stem, index) for key in keys[3:]]
        of_track = [(source, track, start), (variant, track, start), (variant, track, other_start)]
        return jnp.stack([*map(jnp.stack, of_track), *queries])

    def _excerpt(self, key: Array, stem: Array, index: Index) -> tuple[Array, Array, Array]:
        track_key, variant_key, start_key = jax.random.split(key, 3)
        track = self.random_track_of(track_key, stem, index)
        return self._variant(variant_key, stem, index), track, self._whole_second(start_key, index.length(stem, track))

    def _variant(self, key: Array, stem: Array, index: Index) -> Array:
        return index.extra["variants"][stem, jax.random.randint(key, (), 0, index.extra["shifts"][stem])]

    def _whole_second(self, key: Array, length: Array) -> Array:
        """Draw a first sample at a whole second from which an excerpt fits."""
        last = jnp.maximum(length - self.samples, 0) // self.sample_rate
        return jax.random.randint(key, (), 0, last + 1) * self.sample_rate

    def _query(self, key: Array, stem: Array, index: Index) -> Array:
        """Draw a position in the audio of a variant's notes; without notes, a whole second of the variant."""
        excerpt_key, start_key = jax.random.split(key)
        variant, track, start = self._excerpt(excerpt_key, stem, index)
        dense = variant + index.extra["notes"].shape[0]
        length = index.length(dense, track) - self.samples
        dense_start = jax.random.randint(start_key, (), 0, jnp.maximum(length, 1))
        has_notes = length > 0
        return jnp.stack([jnp.where(has_notes, dense, variant), track, jnp.where(has_notes, dense_start, start)])

    def _dense(self, corpus: Corpus, name: str, size: int) -> dict[tuple[int, str], list[Piece]]:
        """Return the pieces with the audio of a variant's notes, by track; tracks without notes have none."""
        pieces = {}
        for track in corpus.tracks(name):
            parts = sounding_parts(corpus, track, name)
            length = sum(stop - start for start, stop in parts) + self.samples
            pieces[0, track] = [
                Piece(
                    (corpus.folder, corpus.split, row, "sounding", self.samples),
                    length,
                    partial(_dense_rows, corpus, row, parts, length, size),
                )
                for row in (corpus.parts(track, name) if parts else ())
            ]
        return pieces

    def _notes(self, corpus: Corpus, names: list[str]) -> np.ndarray:
        """Return the notes of each variant in each track, `[V, N, M, 3]`, padded with zeros to the largest number M."""
        tracks = {name: corpus.tracks(name.partition("@")[0]) for name in names}
        notes = {(name, track): corpus.notes(track, name) for name in names for track in tracks[name]}
        for (name, track), rows in notes.items():
            for start in range(0, max(corpus.length(track, name) - self.samples, 0) + 1, self.sample_rate):
                seconds = self.samples / self.sample_rate
                excerpt = notes_between(rows, start / self.sample_rate, seconds)
                self.recipe.check_notes(len(excerpt), name, track, seconds)
        numbers = {track: number for number, track in enumerate(corpus.all_tracks)}
        table = np.zeros((len(names), len(numbers), max(1, *map(len, notes.values())), 3), np.float32)
        for (name, track), rows in notes.items():
            table[names.index(name), numbers[track], : len(rows)] = rows
        return table

    def _notes_in(self, position: Array, index: Index) -> Array:
        """Return the notes of an excerpt in order, with times from its beginning, `[most_notes, 3]`, zero-padded."""
        source, track, start = position
        rows = index.extra["notes"][source - self.stems, track]
        begin, seconds = start / self.sample_rate, self.samples / self.sample_rate
        sounds = (rows[:, 0] < begin + seconds) & (rows[:, 1] > begin) & (rows[:, 2] > 0)
        times = jnp.clip(rows[:, :2] - begin, 0.0, seconds)
        notes = jnp.where(sounds[:, None], jnp.concatenate([times, rows[:, 2:]], -1), 0.0)
        notes = notes[jnp.argsort(~sounds, stable=True)[: self.recipe.most_notes]]
        return jnp.pad(notes, ((0, self.recipe.most_notes - len(notes)), (0, 0)))


def _dense_rows(corpus: Corpus, row: Row, parts: list[tuple[int, int]], length: int, size: int) -> Iterator[np.ndarray]:
    """Yield the audio of `parts` of a stored stem, repeated to `length` samples, in rows of `size`, int16 `[n, C]`."""
    audio = np.concatenate(list(corpus.segments(row)))
    audio = np.pad(audio, ((0, max(0, parts[-1][1] - len(audio))), (0, 0)))  # another part of the sum may be longer
    dense = np.concatenate([audio[start:stop] for start, stop in parts])
    repeated = np.resize(dense, (length, dense.shape[1]))
    yield from (repeated[start : start + size] for start in range(0, length, size))
