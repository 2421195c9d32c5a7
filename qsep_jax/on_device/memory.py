"""Corpora as int16 in the memory of accelerators, and reading of excerpts inside the step.

The records are rows of one array that is split over the devices. Each device holds an equal part of the rows, and rows
are sent to the devices that request them.
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

# The share of a device's memory that corpora may use; the rest is for the step.
SHARE = 0.5
AXIS = "data"


class DoesNotFit(ValueError):
    """A corpus cannot be held in the memory of the devices; the message continues a sentence that begins with `it`."""


class Index(struct.PyTreeNode):
    """The positions of all audio of a stream, for G corpora with N tracks in all, numbered corpus by corpus.

    The Q sources are the K stems of the view, then further sources that the recipe reads. A source is the sum of at
    most P parts.

    Attributes:
      rows: First row of each part of a source in a track, `[Q, N, P]`.
      samples: Length of each part in samples, 0 for missing parts, `[Q, N, P]`.
      first: Number of the first track of each corpus, `[G]`.
      count: Number of tracks in each corpus, `[G]`.
      tracks: For each corpus and stem, the tracks that have the stem, then all others, `[G, K, N]`.
      track_counts: For each corpus and stem, the number of tracks that have the stem, `[G, K]`.
      extra: Further tables of some recipes.
    """

    rows: Array
    samples: Array
    first: Array
    count: Array
    tracks: Array
    track_counts: Array
    extra: dict[str, Array] = struct.field(default_factory=dict)

    def within(self, corpus: Array) -> "Index":
        """Select one corpus; the axis G disappears."""
        fields = ("first", "count", "tracks", "track_counts")
        return self.replace(**{name: getattr(self, name)[corpus] for name in fields})

    def length(self, source: Array, track: Array) -> Array:
        """Return the length of a source in a track in samples, 0 if the track does not have it."""
        return self.samples[source, track].max(-1)


@dataclasses.dataclass(frozen=True)
class Piece:
    """Audio that occupies consecutive rows: a stored stem, or audio derived from it.

    Attributes:
      key: Identity of the audio; pieces with equal keys are stored once.
      samples: Length in samples.
      segments: Function that yields the audio row by row, int16 `[n, C]`; n is the row size except in the last row.
    """

    key: Hashable
    samples: int
    segments: Callable[[], Iterable[np.ndarray]]


# The pieces whose sum is a source, by corpus and track.
Source = Mapping[tuple[int, str], Sequence[Piece]]


class RowLayout:
    """Assigns rows to pieces of audio, on the host, and places the rows in the memory of the devices.

    Args:
      size: length of a row in samples.
      channels: number of channels of all rows; mono audio is repeated.
    """

    def __init__(self, size: int, channels: int):
        self.size, self.channels, self.rows = size, channels, 0
        self._pieces: dict[Hashable, tuple[int, Piece]] = {}

    def add(self, piece: Piece) -> int:
        """Add a piece unless it was added before; return its first row."""
        if piece.key not in self._pieces:
            self._pieces[piece.key] = self.rows, piece
            self.rows += -(-piece.samples // self.size)
        return self._pieces[piece.key][0]

    def index(
        self,
        corpora: Sequence[Corpus],
        sources: Sequence[Source],
        tracks_of: Sequence[Sequence[str]] = (),
        **extra: np.ndarray,
    ) -> Index:
        """Add sources, the stems of the view first, and return their index as numpy arrays.

        Args:
          tracks_of: the tracks of each corpus; by default those that have any stem of the view.
        """
        tracks_of = tracks_of or [corpus.all_tracks for corpus in corpora]
        stems, counts = len(corpora[0].stems), [len(tracks) for tracks in tracks_of]
        names = [(number, track) for number, tracks in enumerate(tracks_of) for track in tracks]
        max_parts = max(len(parts) for source in sources for parts in source.values())
        rows = np.zeros((len(sources), len(names), max_parts), np.int32)
        samples = np.zeros_like(rows)
        for number, source in enumerate(sources):
            for name, parts in source.items():
                track = names.index(name)
                rows[number, track, : len(parts)] = [self.add(piece) for piece in parts]
                samples[number, track, : len(parts)] = [piece.samples for piece in parts]
        first = np.cumsum([0, *counts[:-1]])
        in_corpus = np.repeat(np.arange(len(corpora)), counts)[None] == np.arange(len(corpora))[:, None]
        present = samples[None, :stems].any(-1) & in_corpus[:, None]
        tracks = np.argsort(~present, axis=-1, kind="stable")
        tables = (rows, samples, first, counts, tracks, present.sum(-1))
        arrays: Any = [np.asarray(table, np.int32) for table in tables]
        return Index(*arrays, extra)  # pyright: ignore[reportCallIssue]

    def bytes_per_device(self, devices: int) -> int:
        """Return the bytes of each device's rows."""
        return -(-self.rows // devices) * AUDIO_DTYPE().itemsize * self.size * self.channels

    def place(self, mesh: Mesh) -> Array:
        """Read the rows into an int16 array `[R, S, C]` split over devices; each process reads only its part."""
        total = -(-self.rows // mesh.size) * mesh.size

        def part(index: Any) -> np.ndarray:
            first, stop, _ = index[0].indices(total)
            return self._read(first, stop)

        split = NamedSharding(mesh, PartitionSpec(AXIS))
        return jax.make_array_from_callback((total, self.size, self.channels), split, part)

    def _read(self, first: int, stop: int) -> np.ndarray:
        """Read the rows from `first` up to but not including `stop`."""
        rows = np.zeros((stop - first, self.size, self.channels), AUDIO_DTYPE)
        for start, piece in self._pieces.values():
            if start < stop and start + -(-piece.samples // self.size) > first:
                for number, audio in enumerate(piece.segments(), start):
                    if first <= number < stop:
                        rows[number - first, : len(audio)] = audio
        return rows


def replicate(index: Index, mesh: Mesh) -> Index:
    """Copy an index to every device."""
    sharding = NamedSharding(mesh, PartitionSpec())
    return jax.tree.map(lambda leaf: jax.make_array_from_process_local_data(sharding, leaf), index)


def read(rows: Array, index: Index, positions: Array, samples: int, channels: int, devices: int) -> Array:
    """Read excerpts `[b, n, samples, channels]`, float32 in −1…1.

    Sources that a track does not have, and samples after its end, are zeros. Each device requests its own excerpts;
    with several devices, all of them must call this function together within `shard_map`.

    Args:
      rows: rows of this device, int16 `[R, S, C]`.
      index: index of all rows.
      positions: source, track and first sample of each excerpt, `[b, n, 3]`.
      samples: length of an excerpt in samples.
      channels: number of output channels; 1 averages the stored channels.
      devices: number of devices.
    """
    _, size, stored = rows.shape
    count = (size + samples - 2) // size + 1

    def rows_of(position: Array) -> Array:
        """Return the numbers of the rows that hold an excerpt, `[P, count]`."""
        source, track, start = position
        return (index.rows[source, track] + start // size)[:, None] + jnp.arange(count)[None]

    def excerpt(position: Array, fetched: Array) -> Array:
        """Cut an excerpt from its rows `[P, count, S, C]`."""
        source, track, start = position
        parts = lax.dynamic_slice_in_dim(fetched.reshape(-1, count * size, stored), start % size, samples, axis=1)
        inside = (start + jnp.arange(samples))[None] < index.samples[source, track][:, None]
        return jnp.where(inside[..., None], parts, 0).astype(jnp.float32).sum(0) / FULL_SCALE

    flat = positions.reshape(-1, 3)
    audio = jax.vmap(excerpt)(flat, _fetch(rows, jax.vmap(rows_of)(flat), devices))
    audio = audio.reshape(*positions.shape[:-1], samples, stored)
    if channels == 1 < stored:
        return audio.mean(-1, keepdims=True)
    return jnp.broadcast_to(audio, (*audio.shape[:-1], channels))


def _fetch(rows: Array, numbers: Array, devices: int) -> Array:
    """Fetch rows by their numbers, `[b, …]` → `[b, …, S, C]`; numbers after the last row give arbitrary rows."""
    if devices == 1:
        return rows.at[numbers].get(mode="clip")
    # Each device looks up those of all requested rows that it holds. Of the sum over devices it keeps its own requests.
    requested = lax.all_gather(numbers, AXIS, tiled=True) - lax.axis_index(AXIS) * len(rows)
    is_local = (requested >= 0) & (requested < len(rows))
    local_rows = jnp.where(is_local[..., None, None], rows.at[requested].get(mode="clip"), 0)
    return lax.psum_scatter(local_rows, AXIS, tiled=True)


def available_bytes(device: Any) -> int:
    """Return how many bytes of a device's memory corpora may use: `SHARE` of it, on CPU of the host's memory."""
    memory_stats = device.memory_stats() or {}
    if "bytes_limit" in memory_stats:
        return int(SHARE * memory_stats["bytes_limit"])
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return int(SHARE * memory / jax.local_device_count())
