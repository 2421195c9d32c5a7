"""The Grain chain from a corpus to batches: draw, mix, batch, shard, prefetch.

Every example is a function of the seed, the stream and its number alone, and example `n` of the run is row `n mod B` of
batch `n div B`. So the batch of step t is the same for any number of processes and workers and after any restart, a
position is just a number of batches, and any batch can be made again on its own.
"""

import dataclasses
import zlib
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import grain
import numpy as np

from data_pipelines.prepared.corpus import Corpus, View, open_corpus
from data_pipelines.processes import ignore_termination
from data_pipelines.recipes.instrument_pairs import InstrumentPairs
from data_pipelines.recipes.mix_and_separate import MixAndSeparate
from data_pipelines.recipes.mixing import RandomSplit, Remix
from data_pipelines.recipes.unpaired import PairedExcerpt, SoloExcerpt, UnpairedMixture

Batch = dict[str, dict[str, np.ndarray]]
# `recipe(rng, corpus, samples) → example`.
Recipe = RandomSplit | InstrumentPairs | MixAndSeparate | PairedExcerpt | UnpairedMixture | SoloExcerpt | Remix

# Batches are numbered below this; a run never gets there.
_ENDLESS = 2**40


@dataclasses.dataclass(frozen=True)
class Stream:
    """One stream of examples.

    Attributes:
      corpus: name of a prepared corpus, or of several, joined by `+`: an example is of one of them, each being drawn as
        often as it has tracks.
      recipe: how an example is made of it.
      view: the stems that the recipe sees, each a sum of stored ones; by default all that are not part of another.
      channels: of the examples; 1 mixes down.
      first, tracks: of the training split only so many tracks, from this one on, counted from 0 (0: all the rest).
    """

    corpus: str = "chamber"
    recipe: Recipe = RandomSplit()
    view: View = dataclasses.field(default_factory=dict)
    channels: int = 1
    first: int = 0
    tracks: int = 0

    @property
    def corpora(self) -> tuple[str, ...]:
        return tuple(self.corpus.split("+"))

    def open(self, root: Path | str, corpus: str, sample_rate: int, split: str, channels: int | None = None) -> Corpus:
        """One of its corpora, as `open_corpus` does, with its tracks."""
        channels = self.channels if channels is None else channels
        first, tracks = (self.first, self.tracks) if split == "train" else (0, 0)
        return open_corpus(root, corpus, sample_rate, split, self.view, channels, first=first, tracks=tracks)


@dataclasses.dataclass(frozen=True)
class Data:
    """Where examples come from: a folder of prepared corpora, and a stream for each one that the system asks for.

    Attributes:
      validation: streams that validation takes from elsewhere than training does.
    """

    root: str = "data"
    streams: dict[str, Stream] = dataclasses.field(default_factory=dict)
    validation: dict[str, Stream] = dataclasses.field(default_factory=dict)

    def of_split(self, split: str) -> dict[str, Stream]:
        """The streams of training or of validation."""
        return self.streams if split == "train" else self.streams | self.validation


@dataclasses.dataclass(frozen=True)
class Shape:
    """What a system asks of a stream: samples of an example, Hz, and batches per step."""

    samples: int
    sample_rate: int
    repeats: int = 1


@dataclasses.dataclass(frozen=True)
class _Mix(grain.transforms.RandomMap):
    corpora: tuple[Corpus, ...]
    recipe: Recipe
    samples: int

    def random_map(self, element: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        corpus = self.corpora[0]
        if len(self.corpora) > 1:
            counts = np.array([len(each.all_tracks) for each in self.corpora])
            corpus = self.corpora[rng.choice(len(counts), p=counts / counts.sum())]
        return self.recipe(rng, corpus, self.samples)


class Pipeline:
    """Batches `{stream: {key: [B, T, C]}}` of one split, or `[R, B, T, C]` for a stream with R > 1 repeats.

    Args:
      shapes: what is asked of each stream; `data` must have them all, and nothing else to train on.
      batch_size: examples over all processes.
      process, processes: which share of each batch this process makes, as contiguous rows.

    Raises:
      ValueError: if the streams do not match, a corpus is not prepared, or the processes do not divide the batch.
    """

    def __init__(
        self,
        data: Data,
        shapes: dict[str, Shape],
        split: str,
        batch_size: int,
        seed: int,
        *,
        process: int = 0,
        processes: int = 1,
    ):
        streams = data.of_split(split)
        if not set(shapes) <= set(streams) or (split == "train" and set(shapes) != set(streams)):
            raise ValueError(f"the system asks for the streams {sorted(shapes)}, the config has {sorted(streams)}")
        if batch_size % processes:
            raise ValueError(f"a batch of {batch_size} does not divide over {processes} processes")
        self.corpora, chains = {}, {}
        for name, shape in shapes.items():
            stream = streams[name]
            corpora = self.corpora[name] = tuple(open_corpora(name, stream, data.root, shape.sample_rate, split))
            chain = grain.MapDataset.range(_ENDLESS * batch_size * shape.repeats).seed(stream_seed(seed, split, name))
            chain = chain.random_map(_Mix(corpora, stream.recipe, shape.samples))
            chain = chain.batch(batch_size // processes)[process::processes]
            chains[name] = chain.batch(shape.repeats) if shape.repeats > 1 else chain
        self._names = tuple(chains)
        self._chain: Any = grain.experimental.ZipMapDataset(tuple(chains.values()))

    def batch(self, number: int) -> Batch:
        """This process's rows of one batch, made here and now."""
        return self._named(self._chain[number])

    def batches(self, start: int = 0, workers: int = 0) -> Generator[Batch]:
        """This process's rows of the batches from number `start` on, made ahead by `workers` processes.

        Close the iterator (or leave it to be collected) to end the workers.
        """
        chain = self._chain[start:].to_iter_dataset(grain.ReadOptions(num_threads=1, prefetch_buffer_size=4))
        if workers:
            options = grain.MultiprocessingOptions(workers, per_worker_buffer_size=4)
            chain = chain.mp_prefetch(options, worker_init_fn=ignore_termination)
            _parse_flags()
        iterator: Any = iter(chain)
        try:
            while True:
                yield self._named(next(iterator))
        finally:
            iterator.close()

    def _named(self, parts: tuple[dict[str, np.ndarray], ...]) -> Batch:
        return dict(zip(self._names, parts, strict=True))


def stream_seed(seed: int, split: str, stream: str) -> int:
    """Of the examples of a stream: a number of 32 bits. The split keeps validation from repeating training."""
    return zlib.crc32(f"{seed}/{split}/{stream}".encode())


def open_corpora(name: str, stream: Stream, root: str, sample_rate: int, split: str) -> Iterator[Corpus]:
    for corpus in stream.corpora:
        try:
            yield stream.open(root, corpus, sample_rate, split)
        except ValueError as error:
            raise ValueError(f"the stream '{name}': {error}") from None


def _parse_flags() -> None:
    """Grain 0.2.18 reads absl flags when it starts workers and fails where the program never parsed any."""
    from absl import flags

    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()
