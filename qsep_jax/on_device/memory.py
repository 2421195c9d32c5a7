"""A corpus in the memory of accelerators, as int16, and reading excerpts of it there.

Its records are rows of one array that is split over the devices: each holds an equal part of the corpus, and what is
read is sent to whoever asked for it.
"""

import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import Array, lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from data_pipelines.schema import AUDIO_DTYPE, FULL_SCALE
from data_pipelines.sources import Corpus
from data_pipelines.store import Row

# The part of a device's memory that corpora may take, the step being there, too.
SHARE = 0.5
AXIS = "data"


class DoesNotFit(ValueError):
    """Why a corpus cannot lie in the memory of the devices; the sentence begins with `it`."""


class Index(struct.PyTreeNode):
    """Where everything is, as numbers: sources are the stems of a view, then whatever else a recipe reads.

    Attributes:
      rows: the first row of each part of a source in a track, `[Q, N, P]`.
      samples: of each part, 0 where there is none, `[Q, N, P]`.
      tracks: of each stem, `[K, N]`, those that have it first.
      counts: how many those are, `[K]`.
      more: what only some recipes need.
    """

    rows: Array
    samples: Array
    tracks: Array
    counts: Array
    more: dict[str, Array] = struct.field(default_factory=dict)

    def length(self, source: Array, track: Array) -> Array:
        """Samples of a source in a track, 0 where it is not there."""
        return self.samples[source, track].max(-1)


@dataclasses.dataclass(frozen=True)
class Piece:
    """Audio that lies in consecutive rows: a stored stem, or something made of it.

    Attributes:
      stored: of the corpus, or None where `audio` holds it.
      audio: int16 `[T, C]`.
    """

    stored: Row | None
    audio: np.ndarray | None
    samples: int


class Shelf:
    """What is to lie in memory, row by row, and the index of it; on the host.

    Args:
      sources: pieces by source and track, the stems of the view first. A piece that is there twice is kept once.
    """

    def __init__(self, corpus: Corpus, sources: Sequence[Mapping[str, Sequence[Piece]]], more: dict[str, np.ndarray]):
        self.corpus, self.size = corpus, corpus.metadata.segment_samples
        self._pieces: list[tuple[int, Piece]] = []
        self.count, places = 0, {}
        names = {track: number for number, track in enumerate(corpus.all_tracks)}
        most = max(len(parts) for source in sources for parts in source.values())
        rows = np.zeros((len(sources), len(names), most), np.int32)
        samples = np.zeros_like(rows)
        for number, source in enumerate(sources):
            for track, parts in source.items():
                for place, piece in enumerate(parts):
                    known = piece.stored or id(piece)
                    if known not in places:
                        places[known] = self.count
                        self._pieces.append((self.count, piece))
                        self.count += -(-piece.samples // self.size)
                    rows[number, names[track], place] = places[known]
                    samples[number, names[track], place] = piece.samples
        present = samples[: len(corpus.stems)].any(-1)
        tracks = np.argsort(~present, axis=1, kind="stable").astype(np.int32)
        self.index = Index(rows, samples, tracks, present.sum(1).astype(np.int32), dict(more))  # pyright: ignore

    def bytes_per_device(self, devices: int) -> int:
        rows = -(-self.count // devices)
        width = AUDIO_DTYPE().itemsize * self.size * self.corpus.metadata.channels
        return rows * width + sum(leaf.nbytes for leaf in jax.tree.leaves(self.index))

    def place(self, mesh: Mesh) -> "Placed":
        """Read it from disk, each process what its devices hold."""
        total = -(-self.count // mesh.size) * mesh.size
        shape = (total, self.size, self.corpus.metadata.channels)

        def part(index: Any) -> np.ndarray:
            first, stop, _ = index[0].indices(total)
            return self._read(first, stop)

        audio = jax.make_array_from_callback(shape, NamedSharding(mesh, PartitionSpec(AXIS)), part)
        everywhere = NamedSharding(mesh, PartitionSpec())
        index = jax.tree.map(lambda leaf: jax.make_array_from_process_local_data(everywhere, leaf), self.index)
        return Placed(audio, index, self.corpus.channels)

    def _read(self, first: int, stop: int) -> np.ndarray:
        """Rows `first … stop`, int16 `[n, S, C]`."""
        found = np.zeros((stop - first, self.size, self.corpus.metadata.channels), AUDIO_DTYPE)
        for begin, piece in self._pieces:
            if begin >= stop or begin + -(-piece.samples // self.size) <= first:
                continue
            for number, audio in enumerate(self._segments(piece), begin):
                if first <= number < stop:
                    found[number - first, : len(audio)] = audio
        return found

    def _segments(self, piece: Piece) -> Iterator[np.ndarray]:
        if piece.stored:
            yield from self.corpus.segments(piece.stored)
        elif piece.audio is not None:
            yield from (piece.audio[start : start + self.size] for start in range(0, piece.samples, self.size))


class Placed(struct.PyTreeNode):
    """A corpus in memory: rows int16 `[R, S, C]`, split over the devices, and its index, which each has.

    Attributes:
      channels: of what is read; 1 mixes down.
    """

    audio: Array
    index: Index
    channels: int = struct.field(pytree_node=False)

    def read(self, places: Array, samples: int, devices: int) -> Array:
        """Excerpts `[b, n, samples, channels]` float32 in −1…1 of `places` `[b, n, 3]`: source, track, first sample.

        What the track does not have, or no longer, is zeros. Each device asks for its own; called by all of them
        together, within `shard_map`, where there are several.
        """
        _, size, stored = self.audio.shape
        count = (size + samples - 2) // size + 1

        def wanted(place: Array) -> Array:
            """The rows `[P, count]` that an excerpt lies in."""
            source, track, start = place
            return (self.index.rows[source, track] + start // size)[:, None] + jnp.arange(count)[None]

        def excerpt(place: Array, rows: Array) -> Array:
            """Of rows `[P, count, S, C]`."""
            source, track, start = place
            parts = lax.dynamic_slice_in_dim(rows.reshape(-1, count * size, stored), start % size, samples, axis=1)
            there = (start + jnp.arange(samples))[None] < self.index.samples[source, track][:, None]
            return jnp.where(there[..., None], parts, 0).astype(jnp.float32).sum(0) / FULL_SCALE

        flat = places.reshape(-1, 3)
        audio = jax.vmap(excerpt)(flat, self._fetch(jax.vmap(wanted)(flat), devices))
        audio = audio.reshape(*places.shape[:-1], samples, stored)
        if self.channels == 1 < stored:
            return audio.mean(-1, keepdims=True)
        return jnp.broadcast_to(audio, (*audio.shape[:-1], self.channels))

    def _fetch(self, rows: Array, devices: int) -> Array:
        """The rows of these numbers `[b, …]` → `[b, …, S, C]`; beyond the last one, whatever."""
        if devices == 1:
            return self.audio.at[rows].get(mode="clip")
        # Everybody looks up what all ask for, as far as he has it, and keeps of the sum what he asked for himself.
        asked = lax.all_gather(rows, AXIS, tiled=True) - lax.axis_index(AXIS) * len(self.audio)
        mine = (asked >= 0) & (asked < len(self.audio))
        found = jnp.where(mine[..., None, None], self.audio.at[asked].get(mode="clip"), 0)
        return lax.psum_scatter(found, AXIS, tiled=True)


def room(device: Any) -> int:
    """Bytes that corpora may take of a device: `SHARE` of its memory, on a CPU of the host's."""
    said = device.memory_stats() or {}
    if "bytes_limit" in said:
        return int(SHARE * said["bytes_limit"])
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return int(SHARE * memory / jax.local_device_count())
