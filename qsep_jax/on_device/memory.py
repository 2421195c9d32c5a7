"""Corpora in the memory of accelerators, as int16, and reading excerpts of them there.

Records are rows of one array that is split over the devices: each holds an equal part of all that is there, and what is
read is sent to whoever asked for it.
"""

import dataclasses
import os
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import Array, lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from data_pipelines.prepared.corpus import Corpus
from data_pipelines.schema import AUDIO_DTYPE, FULL_SCALE

# The part of a device's memory that corpora may take, the step being there, too.
SHARE = 0.5
AXIS = "data"


class DoesNotFit(ValueError):
    """Why a corpus cannot lie in the memory of the devices; the sentence begins with `it`."""


class Index(struct.PyTreeNode):
    """Where everything of a stream is, as numbers, in G corpora: N tracks, one corpus after the other.

    Sources are the K stems of the view, then whatever else a recipe reads.

    Attributes:
      rows: the first row of each part of a source in a track, `[Q, N, P]`.
      samples: of each part, 0 where there is none, `[Q, N, P]`.
      first, count: of a corpus, its tracks are these, `[G]`.
      tracks: of a corpus, those that have a stem, then the others, `[G, K, N]`.
      having: how many have it, `[G, K]`.
      more: what only some recipes need.
    """

    rows: Array
    samples: Array
    first: Array
    count: Array
    tracks: Array
    having: Array
    more: dict[str, Array] = struct.field(default_factory=dict)

    def within(self, corpus: Array) -> "Index":
        """Only one of the corpora, whose axis is gone."""
        fields = ("first", "count", "tracks", "having")
        return self.replace(**{name: getattr(self, name)[corpus] for name in fields})

    def length(self, source: Array, track: Array) -> Array:
        """Samples of a source in a track, 0 where it is not there."""
        return self.samples[source, track].max(-1)


@dataclasses.dataclass(frozen=True)
class Piece:
    """Audio that lies in consecutive rows: a stored stem, or something made of it.

    Attributes:
      key: what it is; the same is kept once.
      segments: gives it row by row, int16 `[n, C]`, n as long as a row but for the last.
    """

    key: Hashable
    samples: int
    segments: Callable[[], Iterable[np.ndarray]]


# The pieces that a source is the sum of, by corpus and track.
Source = Mapping[tuple[int, str], Sequence[Piece]]


class Shelf:
    """What is to lie in memory, row by row; on the host.

    Args:
      size: samples of a row.
      channels: of all that lies there; what has a single one is repeated.
    """

    def __init__(self, size: int, channels: int):
        self.size, self.channels, self.rows = size, channels, 0
        self._pieces: dict[Hashable, tuple[int, Piece]] = {}

    def put(self, piece: Piece) -> int:
        """The first row of a piece, which is added if it is not there yet."""
        if piece.key not in self._pieces:
            self._pieces[piece.key] = self.rows, piece
            self.rows += -(-piece.samples // self.size)
        return self._pieces[piece.key][0]

    def index(self, corpora: Sequence[Corpus], sources: Sequence[Source], **more: np.ndarray) -> Index:
        """Put sources there, the stems of the view first, and tell where they are; numpy."""
        stems, counts = len(corpora[0].stems), [len(corpus.all_tracks) for corpus in corpora]
        names = [(number, track) for number, corpus in enumerate(corpora) for track in corpus.all_tracks]
        most = max(len(parts) for source in sources for parts in source.values())
        rows = np.zeros((len(sources), len(names), most), np.int32)
        samples = np.zeros_like(rows)
        for number, source in enumerate(sources):
            for name, parts in source.items():
                track = names.index(name)
                rows[number, track, : len(parts)] = [self.put(piece) for piece in parts]
                samples[number, track, : len(parts)] = [piece.samples for piece in parts]
        first = np.cumsum([0, *counts[:-1]])
        belongs = np.repeat(np.arange(len(corpora)), counts)[None] == np.arange(len(corpora))[:, None]
        present = samples[None, :stems].any(-1) & belongs[:, None]
        tracks = np.argsort(~present, axis=-1, kind="stable")
        numbers: Any = [np.asarray(each, np.int32) for each in (rows, samples, first, counts, tracks, present.sum(-1))]
        return Index(*numbers, more)  # pyright: ignore[reportCallIssue]

    def bytes_per_device(self, devices: int) -> int:
        return -(-self.rows // devices) * AUDIO_DTYPE().itemsize * self.size * self.channels

    def place(self, mesh: Mesh) -> Array:
        """The rows int16 `[R, S, C]`, split over devices; read from disk, by each process what its devices hold."""
        total = -(-self.rows // mesh.size) * mesh.size

        def part(index: Any) -> np.ndarray:
            first, stop, _ = index[0].indices(total)
            return self._read(first, stop)

        where = NamedSharding(mesh, PartitionSpec(AXIS))
        return jax.make_array_from_callback((total, self.size, self.channels), where, part)

    def _read(self, first: int, stop: int) -> np.ndarray:
        """Rows `first … stop`."""
        found = np.zeros((stop - first, self.size, self.channels), AUDIO_DTYPE)
        for begin, piece in self._pieces.values():
            if begin < stop and begin + -(-piece.samples // self.size) > first:
                for number, audio in enumerate(piece.segments(), begin):
                    if first <= number < stop:
                        found[number - first, : len(audio)] = audio
        return found


def replicated(index: Index, mesh: Mesh) -> Index:
    """An index on every device."""
    everywhere = NamedSharding(mesh, PartitionSpec())
    return jax.tree.map(lambda leaf: jax.make_array_from_process_local_data(everywhere, leaf), index)


def read(rows: Array, index: Index, places: Array, samples: int, channels: int, devices: int) -> Array:
    """Excerpts `[b, n, samples, channels]` float32 in −1…1 of `places` `[b, n, 3]`: source, track, first sample.

    What the track does not have, or no longer, is zeros. Each device asks for its own; called by all of them together,
    within `shard_map`, where there are several.

    Args:
      rows: this device's, int16 `[R, S, C]`.
      channels: 1 mixes down.
    """
    _, size, stored = rows.shape
    count = (size + samples - 2) // size + 1

    def wanted(place: Array) -> Array:
        """The rows `[P, count]` that an excerpt lies in."""
        source, track, start = place
        return (index.rows[source, track] + start // size)[:, None] + jnp.arange(count)[None]

    def excerpt(place: Array, found: Array) -> Array:
        """Of rows `[P, count, S, C]`."""
        source, track, start = place
        parts = lax.dynamic_slice_in_dim(found.reshape(-1, count * size, stored), start % size, samples, axis=1)
        there = (start + jnp.arange(samples))[None] < index.samples[source, track][:, None]
        return jnp.where(there[..., None], parts, 0).astype(jnp.float32).sum(0) / FULL_SCALE

    flat = places.reshape(-1, 3)
    audio = jax.vmap(excerpt)(flat, _fetch(rows, jax.vmap(wanted)(flat), devices))
    audio = audio.reshape(*places.shape[:-1], samples, stored)
    if channels == 1 < stored:
        return audio.mean(-1, keepdims=True)
    return jnp.broadcast_to(audio, (*audio.shape[:-1], channels))


def _fetch(rows: Array, numbers: Array, devices: int) -> Array:
    """The rows of these numbers `[b, …]` → `[b, …, S, C]`; beyond the last one, whatever."""
    if devices == 1:
        return rows.at[numbers].get(mode="clip")
    # Everybody looks up what all ask for, as far as he has it, and keeps of the sum what he asked for himself.
    asked = lax.all_gather(numbers, AXIS, tiled=True) - lax.axis_index(AXIS) * len(rows)
    mine = (asked >= 0) & (asked < len(rows))
    found = jnp.where(mine[..., None, None], rows.at[asked].get(mode="clip"), 0)
    return lax.psum_scatter(found, AXIS, tiled=True)


def room(device: Any) -> int:
    """Bytes that corpora may take of a device: `SHARE` of its memory, on a CPU of the host's."""
    said = device.memory_stats() or {}
    if "bytes_limit" in said:
        return int(SHARE * said["bytes_limit"])
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return int(SHARE * memory / jax.local_device_count())
