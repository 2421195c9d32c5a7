"""The interface of a corpus: it lists its tracks, loads a track, and reports what its content depends on."""

import abc
import dataclasses
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

import numpy as np

# `ordered_map(function, items)` yields the results in the order of the items; the caller chooses the processes.
OrderedMap = Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]]


@dataclasses.dataclass(frozen=True)
class Track:
    """A track of a corpus.

    Attributes:
      name: Name of the track, unique in the corpus.
      split: Name of its split.
      source: Data that the corpus needs to load it; must be picklable.
    """

    name: str
    split: str
    source: Any


@dataclasses.dataclass(frozen=True)
class Stem:
    """One stem of a loaded track.

    Attributes:
      name: Name of the stem.
      audio: Samples, int16 `[T, C]`.
      parent: Name of the stem that a sub-stem is part of, or that a pitch-shifted variant was made from; else empty.
      notes: Rows of onset (s), offset (s) and MIDI pitch, `[n, 3]`; empty if the corpus has no notes.
      frames: JPEGs of the player of the stem, from the start of the track on; empty if the corpus has no video.
      frame_rate: Frames per second.
    """

    name: str
    audio: np.ndarray
    parent: str = ""
    notes: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros((0, 3), np.float32))
    frames: tuple[bytes, ...] = ()
    frame_rate: float = 0.0


class CorpusBuilder(abc.ABC):
    """A kind of corpus: a frozen dataclass whose fields are the options of the corpus, in a file of its own here."""

    kind: ClassVar[str]
    # Increase this number when the same options give other content than before.
    version: ClassVar[int]

    @abc.abstractmethod
    def inputs(self) -> list[str]:
        """One line for each file or package version, other than the options, that the content depends on.

        The lines must change when an input changes. This function is called often and must be fast.

        Raises:
          ValueError: if an input is missing.
        """

    @abc.abstractmethod
    def sample_rate(self) -> int:
        """The default sample rate in Hz to store: that of the source, at most 44,100."""

    @abc.abstractmethod
    def tracks(self, ordered_map: OrderedMap) -> list[Track]:
        """The tracks in the order in which they are to be stored."""

    @abc.abstractmethod
    def load(self, track: Track, sample_rate: int) -> list[Stem]:
        """The stems of `track` at `sample_rate` (Hz), all with the same length and channel count."""
