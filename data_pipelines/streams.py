"""The streams of examples of a run, as plain data: corpora, recipes and shapes."""

import dataclasses
import zlib
from collections.abc import Iterator
from pathlib import Path

from data_pipelines.prepared.corpus import Corpus, View, open_corpus
from data_pipelines.recipes.instrument_pairs import InstrumentPairs
from data_pipelines.recipes.mix_and_separate import MixAndSeparate
from data_pipelines.recipes.mixing import RandomSplit, Remix, track_lengths
from data_pipelines.recipes.unpaired import PairedExcerpt, SoloExcerpt, UnpairedMixture
from data_pipelines.schema import check_name

# A recipe is called as `recipe(rng, corpus, samples)` and returns an example.
Recipe = RandomSplit | InstrumentPairs | MixAndSeparate | PairedExcerpt | UnpairedMixture | SoloExcerpt | Remix


@dataclasses.dataclass(frozen=True)
class Stream:
    """One stream of examples.

    Attributes:
      corpus: Name of a prepared corpus, or names of several, joined by `+`. Each example comes from one of them, drawn
        with a probability proportional to the number of tracks from which the recipe draws, or to their duration where
        the recipe draws by it (`pool_weight`).
      recipe: Recipe that draws and mixes an example.
      view: Stems that the recipe reads, each the sum of stored stems; by default all that are not part of another.
      channels: Audio channels of the examples; 1 mixes down.
      first: Number of the first track of the training split to use, counted from 0.
      tracks: Number of tracks of the training split to use, from `first` on; 0 uses all remaining tracks.
    """

    corpus: str = "chamber"
    recipe: Recipe = RandomSplit()
    view: View = dataclasses.field(default_factory=dict)
    channels: int = 1
    first: int = 0
    tracks: int = 0

    def __post_init__(self):
        for corpus in self.corpora:
            check_name(corpus, "the corpus of a stream")
        for stem, stored in self.view.items():
            for name in (stem, *stored):
                check_name(name.partition("@")[0], "the view of a stream")  # `violin@+2` is a pitch-shifted variant

    @property
    def corpora(self) -> tuple[str, ...]:
        """Names of the corpora."""
        return tuple(self.corpus.split("+"))

    def open(self, root: Path | str, corpus: str, sample_rate: int, split: str, channels: int | None = None) -> Corpus:
        """Open one of the corpora through the view of this stream, restricted to its tracks.

        Raises:
          ValueError: as `open_corpus`.
        """
        channels = self.channels if channels is None else channels
        first, tracks = (self.first, self.tracks) if split == "train" else (0, 0)
        return open_corpus(root, corpus, sample_rate, split, self.view, channels, first=first, tracks=tracks)


@dataclasses.dataclass(frozen=True)
class Data:
    """The folder of prepared corpora, and a stream of examples for each stream that the system requires.

    Attributes:
      root: Folder of the prepared corpora.
      streams: Streams of training, and of validation unless `validation` replaces them.
      validation: Streams that validation uses in place of those of training with the same name.
    """

    root: str = "data"
    streams: dict[str, Stream] = dataclasses.field(default_factory=dict)
    validation: dict[str, Stream] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        for name in (*self.streams, *self.validation):
            check_name(name, "the name of a stream")

    def of_split(self, split: str) -> dict[str, Stream]:
        """The streams of training or of validation."""
        return self.streams if split == "train" else self.streams | self.validation


@dataclasses.dataclass(frozen=True)
class Shape:
    """The examples that a system requires of a stream.

    Attributes:
      samples: Length of an example in samples.
      sample_rate: Sample rate in Hz.
      repeats: Batches of this stream in each step.
    """

    samples: int
    sample_rate: int
    repeats: int = 1


def pool_weight(recipe: Recipe, corpus: Corpus) -> float:
    """The relative probability with which an example comes from `corpus`, one of several of a stream."""
    if isinstance(recipe, SoloExcerpt):
        return len(recipe.tracks(corpus))
    if isinstance(recipe, PairedExcerpt) and recipe.draw == "seconds":
        return float(track_lengths(corpus).sum())
    return len(corpus.all_tracks)


def stream_seed(seed: int, split: str, stream: str) -> int:
    """The 32-bit seed of a stream. It depends on the split, so that validation does not repeat training."""
    return zlib.crc32(f"{seed}/{split}/{stream}".encode())


def open_corpora(name: str, stream: Stream, root: str, sample_rate: int, split: str) -> Iterator[Corpus]:
    """Yield the corpora of the stream `name`, opened.

    Raises:
      ValueError: as `open_corpus`, with the name of the stream.
    """
    for corpus in stream.corpora:
        try:
            yield stream.open(root, corpus, sample_rate, split)
        except ValueError as error:
            raise ValueError(f"the stream '{name}': {error}") from None
