"""Training batches that are drawn inside the jitted step, from corpora in the devices' memory."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import Array, lax
from jax.sharding import Mesh, PartitionSpec

from data_pipelines.recipes.instrument_pairs import InstrumentPairs
from data_pipelines.recipes.mix_and_separate import MixAndSeparate
from data_pipelines.recipes.mixing import MOST_DRAWS, RandomSplit, Remix
from data_pipelines.recipes.unpaired import PairedExcerpt, SoloExcerpt, UnpairedMixture
from data_pipelines.streams import Data, Shape, open_corpora, stream_seed
from qsep_jax.on_device.memory import AXIS, DoesNotFit, Index, RowLayout, available_bytes, read, replicate
from qsep_jax.on_device.mixtures import (
    DrawnExcerpts,
    DrawnMixAndSeparate,
    DrawnRandomSplit,
    DrawnRemix,
    DrawnSoloExcerpt,
)
from qsep_jax.on_device.pairs import DrawnInstrumentPairs
from qsep_jax.on_device.recipe import DeviceRecipe, Example
from qsep_jax.systems.base import BatchSpec

DEVICE_RECIPES: dict[type, type[DeviceRecipe]] = {
    RandomSplit: DrawnRandomSplit,
    MixAndSeparate: DrawnMixAndSeparate,
    PairedExcerpt: DrawnExcerpts,
    UnpairedMixture: DrawnExcerpts,
    SoloExcerpt: DrawnSoloExcerpt,
    Remix: DrawnRemix,
    InstrumentPairs: DrawnInstrumentPairs,
}
MIB = 2.0**20


class DeviceCorpora(struct.PyTreeNode):
    """Corpora in the devices' memory.

    Attributes:
      rows: All audio, int16 `[R, S, C]`, split over the devices.
      index: Index of each stream, replicated.
    """

    rows: Array
    index: dict[str, Index]


@dataclasses.dataclass(frozen=True)
class _Stream:
    recipe: DeviceRecipe
    seed: int
    repeats: int
    channels: int
    corpora: int


class DrawnBatches:
    """Training batches `{stream: {key: [B, …]}}` with the shapes and the distribution of those of `Pipeline`.

    The examples themselves differ from those of `Pipeline`. Every example depends only on the seed, the stream, the
    step and its position in the batch, so it is the same on any number of devices and after any restart.

    Attributes:
      corpora: Corpora in the devices' memory, the first argument of `draw`.
      bytes_per_device: Bytes that the corpora occupy on each device.

    Raises:
      DoesNotFit: if the corpora are too large for the memory of the devices, or if a recipe cannot run on devices.
      ValueError: in the same cases as `Pipeline`.
    """

    def __init__(self, data: Data, shapes: dict[str, Shape], batch_size: int, seed: int, mesh: Mesh):
        streams = data.of_split("train")
        if set(shapes) != set(streams):
            raise ValueError(f"the system needs the streams {sorted(shapes)}, the config has {sorted(streams)}")
        self.batch_size, self.mesh, self._streams = batch_size, mesh, {}
        corpora = {
            name: tuple(open_corpora(name, streams[name], data.root, shape.sample_rate, "train"))
            for name, shape in shapes.items()
        }
        metadata = [corpus.metadata for opened in corpora.values() for corpus in opened]
        row_size = max(corpus.segment_samples for corpus in metadata)
        layout, indices = RowLayout(row_size, max(corpus.channels for corpus in metadata)), {}
        for name, shape in shapes.items():
            recipe, opened = streams[name].recipe, corpora[name]
            on_device = DEVICE_RECIPES[type(recipe)](recipe, shape.samples, len(opened[0].stems), shape.sample_rate)
            indices[name] = on_device.index(opened, layout)
            self._streams[name] = _Stream(
                on_device, stream_seed(seed, "train", name), shape.repeats, opened[0].channels, len(opened)
            )
        needed = layout.bytes_per_device(mesh.size) + sum(leaf.nbytes for leaf in jax.tree.leaves(indices))
        available = min(available_bytes(device) for device in mesh.local_devices)
        if needed > available:
            raise DoesNotFit(f"needs {needed / MIB:,.1f} MiB of each device, but may use {available / MIB:,.1f} MiB")
        self.bytes_per_device = needed
        replicas = {name: replicate(index, mesh) for name, index in indices.items()}
        self.corpora = DeviceCorpora(layout.place(mesh), replicas)
        self._draw = jax.jit(self.draw)

    def draw(self, corpora: DeviceCorpora, step: Array) -> dict[str, Example]:
        """Draw the batch of a step; this is a pure function."""
        return {
            name: self._draw_stream(stream, corpora.rows, corpora.index[name], step)
            for name, stream in self._streams.items()
        }

    @property
    def spec(self) -> BatchSpec:
        """Shapes and dtypes of a batch, over all processes."""
        return jax.eval_shape(self.draw, self.corpora, jnp.int32(0))

    def batch(self, number: int) -> dict[str, Any]:
        """Draw one batch and return this process's examples of it, on the host."""
        examples = self._draw(self.corpora, jnp.int32(number))
        return {
            name: {key: _local(leaf, self._streams[name].repeats > 1) for key, leaf in example.items()}
            for name, example in examples.items()
        }

    def _draw_stream(self, stream: _Stream, rows: Array, index: Index, step: Array) -> Example:
        devices = self.mesh.size
        count = self.batch_size // devices

        def part(rows: Array, index: Index, step: Array) -> Example:
            """Draw the examples of one device."""
            first = lax.axis_index(AXIS) * count if devices > 1 else 0
            keys = _keys(stream, step, first + jnp.arange(count))  # [R · count]
            example = _draw_examples(stream, rows, index, keys, devices)
            if stream.repeats == 1:
                return example
            return jax.tree.map(lambda leaf: leaf.reshape(stream.repeats, count, *leaf.shape[1:]), example)

        if devices == 1:
            return part(rows, index, step)
        split, replicated = PartitionSpec(AXIS), PartitionSpec()
        specs, out = (split, replicated, replicated), split if stream.repeats == 1 else PartitionSpec(None, AXIS)
        return jax.shard_map(part, mesh=self.mesh, in_specs=specs, out_specs=out, check_vma=False)(rows, index, step)


def _keys(stream: _Stream, step: Array, rows: Array) -> Array:
    """Return the keys of the examples in some rows of a step's batch, for one repeat after the other."""
    step_key = jax.random.fold_in(jax.random.key(stream.seed), step)
    repeats = jax.vmap(lambda number: jax.random.fold_in(step_key, number))(jnp.arange(stream.repeats))
    return jax.vmap(lambda key: jax.vmap(lambda row: jax.random.fold_in(key, row))(rows))(repeats).reshape(-1)


def _draw_examples(stream: _Stream, rows: Array, index: Index, keys: Array, devices: int) -> Example:
    """Draw the examples of keys `[b]`, and draw excerpts again as long as the recipe requests it.

    An example for which this does not succeed is filled with nan.
    """
    recipe = stream.recipe

    def choose(key: Array, attempts: Array) -> tuple[Array, Any]:
        if stream.corpora == 1:
            return recipe.choose(key, attempts, index.within(jnp.int32(0)))
        corpus_key, key = jax.random.split(key)
        corpus = jax.random.choice(corpus_key, stream.corpora, p=index.count / index.count.sum())
        return recipe.choose(key, attempts, index.within(corpus))

    def draw(attempts: Array) -> tuple[Example, Array]:
        positions, choices = jax.vmap(choose)(keys, attempts)
        audio = read(rows, index, positions.astype(jnp.int32), recipe.samples, stream.channels, devices)
        return jax.vmap(lambda choices, audio: recipe.example(choices, audio, index))(choices, audio)

    no_attempts = jnp.zeros((len(keys), recipe.excerpts), jnp.int32)
    if not recipe.redraws:
        return draw(no_attempts)[0]

    def redraw(state: Any) -> Any:
        rounds, attempts, again, _, _ = state
        attempts = attempts + again
        example, again = draw(attempts)
        unfinished = again.any()
        if devices > 1:  # devices read rows from each other, so all of them must do the same number of rounds
            unfinished = lax.pmax(unfinished.astype(jnp.int32), AXIS) > 0
        return rounds + 1, attempts, again, unfinished, example

    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(draw, no_attempts)[0])
    state = (0, no_attempts, jnp.zeros(no_attempts.shape, bool), jnp.ones((), bool), zeros)
    _, _, again, _, example = lax.while_loop(lambda state: state[3] & (state[0] < MOST_DRAWS), redraw, state)
    failed = again.any(1)

    def mark_failed(leaf: Array) -> Array:
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            return leaf
        return jnp.where(failed.reshape(-1, *[1] * (leaf.ndim - 1)), jnp.nan, leaf)

    return jax.tree.map(mark_failed, example)


def _local(leaf: Array, repeated: bool) -> np.ndarray:
    """Return the part that this process's devices hold of an array split along its batch axis."""
    axis = int(repeated)
    parts = {shard.index[axis].start or 0: np.asarray(shard.data) for shard in leaf.addressable_shards}
    return np.concatenate([parts[start] for start in sorted(parts)], axis=axis)
