"""What a model is told of a mixture, if not by example: which stems are there, or what their players look like.

From a corpus, which knows both, or from labels and a video that a user gives. What is told holds for a whole mixture,
or, of what is seen, for each chunk by itself.
"""

import heapq
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from data_pipelines.prepared.corpus import Corpus, Excerpt
from data_pipelines.recipes.mix_and_separate import MixAndSeparate
from data_pipelines.schema import FEATURES, FRAMES, SLOTS
from data_pipelines.streams import Stream
from data_pipelines.video import files
from data_pipelines.video.frames import resize
from qsep_jax.inference.chunks import plan_of
from qsep_jax.inference.model import Model
from qsep_jax.inference.separation import ConditionAt
from qsep_jax.systems.base import Condition, System, Variables
from qsep_jax.systems.capabilities import player_frames
from qsep_jax.systems.visual import PlayerFrames

# A condition of `[1, …]`, or one for each chunk.
MixtureCondition = Condition | ConditionAt


@partial(jax.jit, static_argnums=0)
def _condition(system: System, variables: Variables, cues: dict[str, Any]) -> Condition:
    return system.condition(variables, cues)


def from_labels(model: Model, stems: Iterable[str]) -> Condition:
    """The condition of a mixture of `stems`, all others being absent.

    Raises:
      ValueError: for a stem that the model does not know; names those that it does.
    """
    present = np.zeros((1, len(model.system.stems)), np.float32)
    present[0, [index_of(model.system, stem) for stem in stems]] = 1.0
    return _condition(model.system, model.variables, {"labels": present})


def index_of(system: System, stem: str) -> int:
    """Which of the system's stems it is.

    Raises:
      ValueError: if it is none.
    """
    if stem not in system.stems:
        raise ValueError(f"unknown label '{stem}'; this model knows {', '.join(system.stems)}")
    return system.stems.index(stem)


def features_of(stream: Stream) -> str:
    """Name of the cached features that a stream has in place of frames; empty for the frames themselves."""
    return stream.recipe.features if isinstance(stream.recipe, MixAndSeparate) else ""


def playing(corpus: Corpus, track: str) -> list[Excerpt]:
    """The whole stems of a track."""
    stems = [stem for stem in corpus.stems if track in corpus.tracks(stem)]
    return [Excerpt(track, stem, 0, corpus.length(track, stem)) for stem in stems]


def from_corpus(model: Model, corpus: Corpus, sources: Sequence[Excerpt], features: str = "") -> MixtureCondition:
    """What is told of a mixture of sources, of a stem each; nothing, `()`, where the model takes no cue.

    A chunk from sample `start` of the mixture on is shown the players `start` samples after their excerpts begin.

    Args:
      features: name of cached features to show in place of frames.

    Raises:
      ValueError: if a source is of no stem of the model, or there are more players than it has slots for; when asked
        for a chunk, if the corpus lacks frames or features.
    """
    system = model.system
    slots = {index_of(system, source.stem): source for source in sources}
    if not system.cues:
        return ()
    if "labels" in system.cues:
        return from_labels(model, [source.stem for source in sources])
    seen = player_frames(system)
    _check_slots(seen, [source.stem for source in sources])

    def look(source: Excerpt, start: int) -> np.ndarray:
        begin = max(source.start + start, 0) / corpus.sample_rate
        times = begin + seen.spacing * np.arange(seen.frames)
        if features:
            return corpus.features(source.track, source.stem, times, features)
        return corpus.frames(source.track, source.stem, times, seen.size)

    return lambda start: _seen(model, {slot: look(slots[slot], start) for slot in sorted(slots)})


def from_video(model: Model, path: Path, boxes: Mapping[str, files.Box]) -> Callable[[], ConditionAt]:
    """What is told by a video, anew from its beginning at each call, to be asked for chunk by chunk in their order.

    A chunk is shown the players at its own times; what comes before the video is its first picture, and after it the
    last. Without boxes the whole picture is one player. Memory does not depend on the length.

    Raises:
      ValueError: if it cannot be read or has no picture, a box is not within it, or there are too many.
    """
    system = model.system
    seen, places = player_frames(system), {name: place for place, name in enumerate(system.stems)}
    names = sorted(boxes, key=lambda name: places.get(name, len(places)))
    _check_slots(seen, names)
    slots = [places.get(name, -1 - number) for number, name in enumerate(names)]

    def players(picture: np.ndarray) -> list[np.ndarray]:
        parts = [files.crop(picture, boxes[name], f"'{name}'") for name in names] or [picture]
        return [resize(part, seen.size) for part in parts]

    def of_chunks() -> Iterator[Condition]:
        plan, rate = plan_of(system), system.sample_rate
        begins = (max(start, 0) / rate for start in itertools.count(-plan.context - plan.fade, plan.hop))
        wanted, order = itertools.tee(in_order(begins, seen.spacing * np.arange(seen.frames)))
        held: dict[int, list[list[np.ndarray]]] = {}
        for picture, (_, chunk) in zip(files.frames(path, (time for time, _ in wanted)), order, strict=False):
            held.setdefault(chunk, []).append(players(picture))
            if len(held[chunk]) == seen.frames:
                found = [np.stack(frames) for frames in zip(*held.pop(chunk), strict=True)]
                yield _seen(model, dict(zip(slots or [-1], found, strict=True)))

    def from_the_beginning() -> ConditionAt:
        conditions = of_chunks()
        return lambda start: next(conditions)

    begin = from_the_beginning()
    begin(0)  # finds what is wrong before anything is written
    return from_the_beginning


def in_order(begins: Iterable[float], offsets: np.ndarray) -> Iterator[tuple[float, int]]:
    """All times `begin + offset` in order, with the number of the begin: `begins` do not fall, there may be no end."""
    waiting: list[tuple[float, int]] = []
    for number, begin in enumerate(begins):
        while waiting and waiting[0][0] < begin:
            yield heapq.heappop(waiting)
        for offset in offsets.tolist():
            heapq.heappush(waiting, (begin + offset, number))
    yield from sorted(waiting)


def _check_slots(seen: PlayerFrames, players: Sequence[str]) -> None:
    if len(players) > seen.slots:
        raise ValueError(
            f"there are {len(players)} players ({', '.join(players)}), and the model sees {seen.slots} at most"
        )


def _seen(model: Model, players: Mapping[int, np.ndarray]) -> Condition:
    """The condition of players in slots one after the other, each `[n, …]`, by the stem that they play.

    A number below 0 stands for a player of whom that is not known: then it is said of nobody.
    """
    shown = np.stack(list(players.values()))
    empty = player_frames(model.system).slots - len(shown)
    padded = np.pad(shown, [(0, empty)] + [(0, 0)] * (shown.ndim - 1))
    told = {FEATURES if shown.dtype == np.float32 else FRAMES: padded[None]}
    if min(players) >= 0:
        told[SLOTS] = np.array([[*players, *[-1] * empty]], np.int32)
    return _condition(model.system, model.variables, told)
