"""Batches that are drawn within a step, from corpora in the devices' memory."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.sharding import Mesh, PartitionSpec

from data_pipelines.mix_and_separate import MixAndSeparate
from data_pipelines.mixing import MOST_DRAWS, RandomSplit, Remix
from data_pipelines.pairs import InstrumentPairs
from data_pipelines.pipeline import Data, Recipe, Shape, Stream, opened, seed_of
from data_pipelines.sources import Corpus
from data_pipelines.unpaired import PairedExcerpt, SoloExcerpt, UnpairedMixture
from qsep_jax.on_device.drawing import Drawing, Example
from qsep_jax.on_device.memory import AXIS, DoesNotFit, Placed, Shelf, room
from qsep_jax.on_device.mixtures import RandomSplits, Remixes, Slots, Solos, Songs
from qsep_jax.on_device.pairs import Pairs

DRAWINGS: dict[type, type[Drawing]] = {
    RandomSplit: RandomSplits,
    MixAndSeparate: Slots,
    PairedExcerpt: Songs,
    UnpairedMixture: Songs,
    SoloExcerpt: Solos,
    Remix: Remixes,
    InstrumentPairs: Pairs,
}
MIB = 2.0**20


def drawing_of(recipe: Recipe, corpus: Corpus, samples: int) -> Drawing:
    return DRAWINGS[type(recipe)](recipe, samples, len(corpus.stems), corpus.sample_rate)


@dataclasses.dataclass(frozen=True)
class _Stream:
    drawing: Drawing
    seed: int
    repeats: int


class DrawnBatches:
    """Training batches `{stream: {key: [B, …]}}`, those of `Pipeline` in shape and chances, not in their numbers.

    Every example is a function of the seed, the stream, the step and its number in the batch alone: the same on any
    number of devices and after any restart.

    Attributes:
      corpora: what lies in the devices' memory, by stream: what `draw` is to be given.

    Raises:
      DoesNotFit: if the corpora do not fit into the memory of the devices, or cannot lie there at all.
      ValueError: as `Pipeline`.
    """

    def __init__(self, data: Data, shapes: dict[str, Shape], batch_size: int, seed: int, mesh: Mesh):
        streams = data.of_split("train")
        if set(shapes) != set(streams):
            raise ValueError(f"the system asks for the streams {sorted(shapes)}, the config has {sorted(streams)}")
        self.batch_size, self.mesh = batch_size, mesh
        self._streams, shelves = {}, {}
        for name, shape in shapes.items():
            drawing, shelves[name] = _shelved(name, streams[name], data.root, shape)
            self._streams[name] = _Stream(drawing, seed_of(seed, "train", name), shape.repeats)
        needed = sum(shelf.bytes_per_device(mesh.size) for shelf in shelves.values())
        there = min(room(device) for device in mesh.local_devices)
        if needed > there:
            raise DoesNotFit(f"takes {needed / MIB:,.1f} MiB of each device, where {there / MIB:,.1f} MiB are for it")
        self.bytes_per_device = needed
        self.corpora: dict[str, Placed] = {name: shelf.place(mesh) for name, shelf in shelves.items()}
        self._draw = jax.jit(self.draw)

    def draw(self, corpora: dict[str, Placed], step: Array) -> dict[str, Example]:
        """The batch of a step; a pure function."""
        return {name: self._of_stream(stream, corpora[name], step) for name, stream in self._streams.items()}

    def batch(self, number: int) -> dict[str, Any]:
        """This process's rows of one batch, on the host."""
        drawn = self._draw(self.corpora, jnp.int32(number))
        return {
            name: {key: _local(leaf, self._streams[name].repeats > 1) for key, leaf in example.items()}
            for name, example in drawn.items()
        }

    def _of_stream(self, stream: _Stream, corpus: Placed, step: Array) -> Example:
        devices = self.mesh.size
        rows = self.batch_size // devices

        def part(corpus: Placed, step: Array) -> Example:
            """The rows of one device."""
            first = lax.axis_index(AXIS) * rows if devices > 1 else 0
            keys = _keys(stream, step, first + jnp.arange(rows))  # [R · rows]
            example = _drawn(stream.drawing, corpus, keys, devices)
            if stream.repeats == 1:
                return example
            return jax.tree.map(lambda leaf: leaf.reshape(stream.repeats, rows, *leaf.shape[1:]), example)

        if devices == 1:
            return part(corpus, step)
        split, whole = PartitionSpec(AXIS), PartitionSpec()
        held = Placed(split, whole, corpus.channels)  # pyright: ignore[reportArgumentType]
        out = split if stream.repeats == 1 else PartitionSpec(None, AXIS)
        return jax.shard_map(part, mesh=self.mesh, in_specs=(held, whole), out_specs=out, check_vma=False)(corpus, step)


def _keys(stream: _Stream, step: Array, rows: Array) -> Array:
    """Of the examples in some rows of a step's batch, in all its repeats, one after the other."""
    of_step = jax.random.fold_in(jax.random.key(stream.seed), step)
    repeats = jax.vmap(lambda number: jax.random.fold_in(of_step, number))(jnp.arange(stream.repeats))
    return jax.vmap(lambda key: jax.vmap(lambda row: jax.random.fold_in(key, row))(rows))(repeats).reshape(-1)


def _drawn(drawing: Drawing, corpus: Placed, keys: Array, devices: int) -> Example:
    """Examples of keys `[b]`, drawn again where the recipe says so; not finite where that does not end."""
    index, reads = corpus.index, drawing.reads

    def made(attempts: Array) -> tuple[Example, Array]:
        places, drawn = jax.vmap(lambda key, attempts: drawing.places(key, attempts, index))(keys, attempts)
        audio = corpus.read(places.astype(jnp.int32), drawing.samples, devices)
        return jax.vmap(lambda drawn, audio: drawing.example(drawn, audio, index))(drawn, audio)

    fresh = jnp.zeros((len(keys), reads), jnp.int32)
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


def _shelved(name: str, stream: Stream, root: str, shape: Shape) -> tuple[Drawing, Shelf]:
    corpora = list(opened(name, stream, root, shape.sample_rate, "train"))
    if len(corpora) > 1:
        raise DoesNotFit(f"is several corpora: {stream.corpus}")
    drawing = drawing_of(stream.recipe, corpora[0], shape.samples)
    return drawing, drawing.shelf(corpora[0])


def _local(leaf: Array, repeated: bool) -> np.ndarray:
    """What this process's devices hold of an array that is split along its batch axis."""
    axis = int(repeated)
    parts = {shard.index[axis].start or 0: np.asarray(shard.data) for shard in leaf.addressable_shards}
    return np.concatenate([parts[start] for start in sorted(parts)], axis=axis)
