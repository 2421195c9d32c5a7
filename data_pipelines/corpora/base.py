"""What a corpus is: a list of tracks, how to load one, and what its content depends on."""

import abc
import dataclasses
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

import numpy as np

# `ordered_map(function, items)`: results in the order of the items, computed by as many processes as the caller likes.
OrderedMap = Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]]


@dataclasses.dataclass(frozen=True)
class Track:
    """A track to be built: `source` is whatever the corpus needs to load it (picklable)."""

    name: str
    split: str
    source: Any


@dataclasses.dataclass(frozen=True)
class Stem:
    """One stem of a loaded track: `audio` int16 `[T, C]`; `parent` names the stem that a sub-stem is part of.

    `notes` are rows of onset s, offset s and MIDI pitch `[n, 3]`, empty where the corpus has none.
    `frames` are JPEGs of its player, `frame_rate` of them a second from the start of the track on; none by default.
    """

    name: str
    audio: np.ndarray
    parent: str = ""
    notes: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros((0, 3), np.float32))
    frames: tuple[bytes, ...] = ()
    frame_rate: float = 0.0


class CorpusBuilder(abc.ABC):
    """A frozen dataclass whose fields are the corpus's options; one file of this folder each."""

    kind: ClassVar[str]
    # Raised when the same options give other content than before.
    version: ClassVar[int]

    @abc.abstractmethod
    def inputs(self) -> list[str]:
        """One line for each thing outside the options that the content depends on: files, package versions.

        Quick: this is what notices that an input has changed.

        Raises:
          ValueError: if the input is not there.
        """

    @abc.abstractmethod
    def sample_rate(self) -> int:
        """The rate in Hz that is stored when none is asked for: the corpus's own, at most 44,100."""

    @abc.abstractmethod
    def tracks(self, ordered_map: OrderedMap) -> list[Track]:
        """The tracks, in the order in which they are stored."""

    @abc.abstractmethod
    def load(self, track: Track, sample_rate: int) -> list[Stem]:
        """The stems of `track` at `sample_rate`, all of the same length and channel count."""
