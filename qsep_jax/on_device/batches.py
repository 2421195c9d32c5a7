"""Batches that are drawn within a step, from corpora in the devices' memory."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import Array, lax
from jax.sharding import Mesh, PartitionSpec

from data_pipelines.pipeline import Data, Shape, open_corpora, stream_seed
from data_pipelines.recipes.instrument_pairs import InstrumentPairs
from data_pipelines.recipes.mix_and_separate import MixAndSeparate
from data_pipelines.recipes.mixing import MOST_DRAWS, RandomSplit, Remix
from data_pipelines.recipes.unpaired import PairedExcerpt, SoloExcerpt, UnpairedMixture
from qsep_jax.on_device.drawing import Drawing, Example
from qsep_jax.on_device.memory import AXIS, DoesNotFit, Index, Shelf, read, replicated, room
from qsep_jax.on_device.mixtures import (
    DrawnExcerpts,
    DrawnMixAndSeparate,
    DrawnRandomSplit,
    DrawnRemix,
    DrawnSoloExcerpt,
)
from qsep_jax.on_device.pairs import DrawnInstrumentPairs
from qsep_jax.systems.base import BatchSpec

DRAWINGS: dict[type, type[Drawing]] = {
    RandomSplit: DrawnRandomSplit,
    MixAndSeparate: DrawnMixAndSeparate,
    PairedExcerpt: DrawnExcerpts,
    UnpairedMixture: DrawnExcerpts,
    SoloExcerpt: DrawnSoloExcerpt,
    Remix: DrawnRemix,
    InstrumentPairs: DrawnInstrumentPairs,
}
MIB = 2.0**20


class OnDevices(struct.PyTreeNode):
    """What lies in the devices' memory: rows int16 `[R, S, C]`, split over them, and each stream's index, on all."""

    rows: Array
    index: dict[str, Index]


@dataclasses.dataclass(frozen=True)
class _Stream:
    drawing: Drawing
    seed: int
    repeats: int
    channels: int
    corpora: int


class DrawnBatches:
    """Training batches `{stream: {key: [B, …]}}`, those of `Pipeline` in shape and chances, not in their numbers.

    Every example is a function of the seed, the stream, the step and its number in the batch alone: the same on any
    number of devices and after any restart.

    Attributes:
      corpora: what `draw` is to be given.
      bytes_per_device: how much of it.

    Raises:
      DoesNotFit: if the corpora do not fit into the memory of the devices, or cannot lie there at all.
      ValueError: as `Pipeline`.
    """

    def __init__(self, data: Data, shapes: dict[str, Shape], batch_size: int, seed: int, mesh: Mesh):
        streams = data.of_split("train")
        if set(shapes) != set(streams):
            raise ValueError(f"the system asks for the streams {sorted(shapes)}, the config has {sorted(streams)}")
        self.batch_size, self.mesh, self._streams = batch_size, mesh, {}
        corpora = {
            name: tuple(open_corpora(name, streams[name], data.root, shape.sample_rate, "train"))
            for name, shape in shapes.items()
        }
        everything = [corpus.metadata for each in corpora.values() for corpus in each]
        shelf = Shelf(max(each.segment_samples for each in everything), max(each.channels for each in everything))
        indices = {}
        for name, shape in shapes.items():
            recipe, ours = streams[name].recipe, corpora[name]
            drawing = DRAWINGS[type(recipe)](recipe, shape.samples, len(ours[0].stems), shape.sample_rate)
            indices[name] = drawing.index(ours, shelf)
            self._streams[name] = _Stream(
                drawing, stream_seed(seed, "train", name), shape.repeats, ours[0].channels, len(ours)
            )
        held = shelf.bytes_per_device(mesh.size) + sum(leaf.nbytes for leaf in jax.tree.leaves(indices))
        there = min(room(device) for device in mesh.local_devices)
        if held > there:
            raise DoesNotFit(f"takes {held / MIB:,.1f} MiB of each device, where {there / MIB:,.1f} MiB are for it")
        self.bytes_per_device = held
        on_all = {name: replicated(index, mesh) for name, index in indices.items()}
        self.corpora = OnDevices(shelf.place(mesh), on_all)
        self._draw = jax.jit(self.draw)

    def draw(self, corpora: OnDevices, step: Array) -> dict[str, Example]:
        """The batch of a step; a pure function."""
        return {
            name: self._of_stream(stream, corpora.rows, corpora.index[name], step)
            for name, stream in self._streams.items()
        }

    @property
    def spec(self) -> BatchSpec:
        """The shapes of a batch, over all processes."""
        return jax.eval_shape(self.draw, self.corpora, jnp.int32(0))

    def batch(self, number: int) -> dict[str, Any]:
        """This process's rows of one batch, on the host."""
        drawn = self._draw(self.corpora, jnp.int32(number))
        return {
            name: {key: _local(leaf, self._streams[name].repeats > 1) for key, leaf in example.items()}
            for name, example in drawn.items()
        }

    def _of_stream(self, stream: _Stream, rows: Array, index: Index, step: Array) -> Example:
        devices = self.mesh.size
        count = self.batch_size // devices

        def part(rows: Array, index: Index, step: Array) -> Example:
            """The examples of one device."""
            first = lax.axis_index(AXIS) * count if devices > 1 else 0
            keys = _keys(stream, step, first + jnp.arange(count))  # [R · count]
            example = _drawn(stream, rows, index, keys, devices)
            if stream.repeats == 1:
                return example
            return jax.tree.map(lambda leaf: leaf.reshape(stream.repeats, count, *leaf.shape[1:]), example)

        if devices == 1:
            return part(rows, index, step)
        split, whole = PartitionSpec(AXIS), PartitionSpec()
        specs, out = (split, whole, whole), split if stream.repeats == 1 else PartitionSpec(None, AXIS)
        return jax.shard_map(part, mesh=self.mesh, in_specs=specs, out_specs=out, check_vma=False)(rows, index, step)


def _keys(stream: _Stream, step: Array, rows: Array) -> Array:
    """Of the examples in some rows of a step's batch, in all its repeats, one after the other."""
    of_step = jax.random.fold_in(jax.random.key(stream.seed), step)
    repeats = jax.vmap(lambda number: jax.random.fold_in(of_step, number))(jnp.arange(stream.repeats))
    return jax.vmap(lambda key: jax.vmap(lambda row: jax.random.fold_in(key, row))(rows))(repeats).reshape(-1)


def _drawn(stream: _Stream, rows: Array, index: Index, keys: Array, devices: int) -> Example:
    """Examples of keys `[b]`, drawn again where the recipe says so; not finite where that does not end."""
    drawing = stream.drawing

    def wanted(key: Array, attempts: Array) -> tuple[Array, Any]:
        if stream.corpora == 1:
            return drawing.places(key, attempts, index.within(jnp.int32(0)))
        corpus_key, key = jax.random.split(key)
        corpus = jax.random.choice(corpus_key, stream.corpora, p=index.count / index.count.sum())
        return drawing.places(key, attempts, index.within(corpus))

    def made(attempts: Array) -> tuple[Example, Array]:
        places, drawn = jax.vmap(wanted)(keys, attempts)
        audio = read(rows, index, places.astype(jnp.int32), drawing.samples, stream.channels, devices)
        return jax.vmap(lambda drawn, audio: drawing.example(drawn, audio, index))(drawn, audio)

    fresh = jnp.zeros((len(keys), drawing.reads), jnp.int32)
    if not drawing.redraws:
        return made(fresh)[0]

    def once_more(state: Any) -> Any:
        rounds, attempts, again, _, _ = state
        attempts = attempts + again
        example, again = made(attempts)
        anyone = again.any()
        if devices > 1:  # all go on together, since all of them are read from
            anyone = lax.pmax(anyone.astype(jnp.int32), AXIS) > 0
        return rounds + 1, attempts, again, anyone, example

    nothing = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(made, fresh)[0])
    state = (0, fresh, jnp.zeros(fresh.shape, bool), jnp.ones((), bool), nothing)
    _, _, again, _, example = lax.while_loop(lambda state: state[3] & (state[0] < MOST_DRAWS), once_more, state)
    failed = again.any(1)

    def marked(leaf: Array) -> Array:
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            return leaf
        return jnp.where(failed.reshape(-1, *[1] * (leaf.ndim - 1)), jnp.nan, leaf)

    return jax.tree.map(marked, example)


def _local(leaf: Array, repeated: bool) -> np.ndarray:
    """What this process's devices hold of an array that is split along its batch axis."""
    axis = int(repeated)
    parts = {shard.index[axis].start or 0: np.asarray(shard.data) for shard in leaf.addressable_shards}
    return np.concatenate([parts[start] for start in sorted(parts)], axis=axis)
