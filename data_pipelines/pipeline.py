"""The Grain pipeline from corpora to batches: draw, mix, batch, shard and prefetch.

Each example depends only on the seed, the stream and its number, and example `n` of the run is row `n mod B` of batch
`n div B`. Therefore, the batch of step t is the same for any number of processes and workers and after any restart. A
position in the data is a number of batches, and any batch can be computed again independently of the others.
"""

import dataclasses
from collections.abc import Generator
from typing import Any

import grain
import numpy as np

from data_pipelines.prepared.corpus import Corpus
from data_pipelines.processes import KILLED, ignore_termination
from data_pipelines.streams import Data, Recipe, Shape, open_corpora, pool_weight, stream_seed

Batch = dict[str, dict[str, np.ndarray]]

# Number of batches of a stream, which no run reaches.
_ENDLESS = 2**40
_FEWER = "give fewer --train.workers, and the same command continues from the last checkpoint"


@dataclasses.dataclass(frozen=True)
class _Mix(grain.transforms.RandomMap):
    corpora: tuple[Corpus, ...]
    recipe: Recipe
    samples: int

    def random_map(self, element: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        corpus = self.corpora[0]
        if len(self.corpora) > 1:
            weights = np.array([pool_weight(self.recipe, candidate) for candidate in self.corpora])
            corpus = self.corpora[rng.choice(len(weights), p=weights / weights.sum())]
        return self.recipe(rng, corpus, self.samples)


class Pipeline:
    """Batches `{stream: {key: [B, T, C]}}` of one split, or `[R, B, T, C]` for a stream with R > 1 repeats.

    Args:
      shapes: the examples that the system requires of each stream. `data` must have all of these streams, and no others
        for training.
      batch_size: examples in a batch, over all processes.
      process, processes: number of this process and of all processes. Each process computes an equal share of the rows
        of a batch.

    Raises:
      ValueError: if the streams do not match, a corpus is not prepared, or the batch cannot be divided equally.
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
            raise ValueError(f"the system requires the streams {sorted(shapes)}, but the config has {sorted(streams)}")
        if batch_size % processes:
            raise ValueError(f"a batch of {batch_size} cannot be divided equally among {processes} processes")
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
        """This process's rows of one batch, computed in the calling thread."""
        return self._named(self._chain[number])

    def batches(self, start: int = 0, workers: int = 0) -> Generator[Batch]:
        """Yield this process's rows of the batches from number `start` on, prefetched by `workers` processes.

        The workers end when the iterator is closed or garbage-collected.

        Raises:
          ChildProcessError: if a worker process is killed.
          ValueError: if a corpus is damaged.
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
        except RuntimeError as error:
            if "terminated unexpectedly" not in str(error):  # the only mark of this error of Grain
                raise
            raise ChildProcessError(f"a worker process that mixes batches {KILLED}: {_FEWER}") from None
        finally:
            iterator.close()

    def _named(self, parts: tuple[dict[str, np.ndarray], ...]) -> Batch:
        return dict(zip(self._names, parts, strict=True))


def _parse_flags() -> None:
    """Mark the absl flags as parsed: Grain 0.2.18 reads them when it starts workers and fails if they are not."""
    from absl import flags

    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()
