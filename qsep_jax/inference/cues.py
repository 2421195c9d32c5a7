"""Conditions of a mixture from other cues than queries: the labels of its stems, or a video of the players.

The cues come from a corpus, or from labels and a video file of the user. Labels give one condition for a mixture; a
video gives one for each chunk.
"""

import heapq
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from data_pipelines.names import choose
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
from qsep_jax.systems.capabilities import PlayerFrames, player_frames

# A condition of `[1, …]`, or a function that returns the condition of a chunk.
MixtureCondition = Condition | ConditionAt


@partial(jax.jit, static_argnums=0)
def _condition(system: System, variables: Variables, cues: dict[str, Any]) -> Condition:
    return system.condition(variables, cues)


def from_labels(model: Model, stems: Iterable[str]) -> Condition:
    """The condition of a mixture of `stems`; all other stems are absent.

    Raises:
      ValueError: if the model does not have a stem; the message lists those that it has.
    """
    present = np.zeros((1, len(model.system.stems)), np.float32)
    present[0, [index_of(model.system, stem) for stem in stems]] = 1.0
    return _condition(model.system, model.variables, {"labels": present})


def index_of(system: System, stem: str) -> int:
    """The index of a stem of the system, whose name is compared without regard to case.

    Raises:
      ValueError: if the system does not have it; the message lists those that it has.
    """
    return system.stems.index(choose(stem, system.stems))


def features_of(stream: Stream) -> str:
    """The name of the cached features that a stream uses in place of video frames; empty if it uses frames."""
    return stream.recipe.features if isinstance(stream.recipe, MixAndSeparate) else ""


def stem_excerpts(corpus: Corpus, track: str) -> list[Excerpt]:
    """The excerpts that cover each stem of a track completely."""
    stems = [stem for stem in corpus.stems if track in corpus.tracks(stem)]
    return [Excerpt(track, stem, 0, corpus.length(track, stem)) for stem in stems]


def from_corpus(model: Model, corpus: Corpus, sources: Sequence[Excerpt], features: str = "") -> MixtureCondition:
    """The condition of a mixture of excerpts of different stems; `()` for a model that takes no cue.

    For a model conditioned on video, a chunk that begins at sample `start` of the mixture, at the model's sample rate,
    gets the frames of the players at this time after the beginning of their excerpts.

    Args:
      sources: The excerpts.
      features: Name of cached features that replace the frames.

    Raises:
      ValueError: if the model does not have the stem of a source, or has fewer slots than there are players; on the
        call for a chunk, if the corpus lacks frames or features.
    """
    system = model.system
    by_stem = {index_of(system, source.stem): source for source in sources}
    if not system.cues:
        return ()
    if "labels" in system.cues:
        return from_labels(model, [source.stem for source in sources])
    settings = player_frames(system)
    _check_slots(settings, [source.stem for source in sources])

    def frames_at(source: Excerpt, start: int) -> np.ndarray:
        begin = max(source.start / corpus.sample_rate + start / system.sample_rate, 0.0)
        times = begin + settings.spacing * np.arange(settings.frames)
        if features:
            return corpus.features(source.track, source.stem, times, features)
        return corpus.frames(source.track, source.stem, times, settings.size)

    return lambda start: _from_players(model, {stem: frames_at(by_stem[stem], start) for stem in sorted(by_stem)})


def from_video(model: Model, path: Path, boxes: Mapping[str, files.Box]) -> Callable[[], ConditionAt]:
    """Return a function that starts decoding a video; what it returns gives the condition of each chunk of a mixture.

    The conditions must be requested in the order of the chunks. A chunk gets the frames of the players at its own
    times; before the beginning of the video it gets the first frame, after the end the last. Memory does not depend on
    the length.

    Args:
      boxes: The position of each player in the frame, by the name of the stem that the player plays or by any other
        names. If empty, the complete frame shows one player.

    Raises:
      ValueError: if the file cannot be read or has no frame, a box is not within the frame, or there are more players
        than the model has slots.
    """
    system = model.system
    settings, stem_of = player_frames(system), {name: index for index, name in enumerate(system.stems)}
    names = sorted(boxes, key=lambda name: stem_of.get(name, len(stem_of)))
    _check_slots(settings, names)
    stems = [stem_of.get(name, -1 - number) for number, name in enumerate(names)] or [-1]

    def players(frame: np.ndarray) -> list[np.ndarray]:
        crops = [files.crop(frame, boxes[name], f"'{name}'") for name in names] or [frame]
        return [resize(player, settings.size) for player in crops]

    def chunk_conditions() -> Iterator[Condition]:
        plan, rate = plan_of(system), system.sample_rate
        begins = (max(start, 0) / rate for start in itertools.count(-plan.context - plan.fade, plan.hop))
        to_decode, order = itertools.tee(ascending_times(begins, settings.spacing * np.arange(settings.frames)))
        incomplete: dict[int, list[list[np.ndarray]]] = {}  # by chunk, the players in the frames so far
        for frame, (_, chunk) in zip(files.frames(path, (time for time, _ in to_decode)), order, strict=False):
            incomplete.setdefault(chunk, []).append(players(frame))
            if len(incomplete[chunk]) == settings.frames:
                by_player = [np.stack(frames) for frames in zip(*incomplete.pop(chunk), strict=True)]
                yield _from_players(model, dict(zip(stems, by_player, strict=True)))

    def begin() -> ConditionAt:
        conditions = chunk_conditions()
        return lambda start: next(conditions)

    begin()(0)  # raises the errors of the video and the boxes before any output is written
    return begin


def ascending_times(begins: Iterable[float], offsets: np.ndarray) -> Iterator[tuple[float, int]]:
    """Yield all times `begin + offset` in ascending order, each with the index of its `begin`.

    Args:
      begins: Times in ascending order; they may be infinitely many.
    """
    pending: list[tuple[float, int]] = []
    for index, begin in enumerate(begins):
        while pending and pending[0][0] < begin:
            yield heapq.heappop(pending)
        for offset in offsets.tolist():
            heapq.heappush(pending, (begin + offset, index))
    yield from sorted(pending)


def _check_slots(settings: PlayerFrames, players: Sequence[str]) -> None:
    if len(players) > settings.slots:
        raise ValueError(
            f"there are {len(players)} players ({', '.join(players)}), but the model takes at most {settings.slots}"
        )


def _from_players(model: Model, players: Mapping[int, np.ndarray]) -> Condition:
    """The condition of players in consecutive slots.

    Args:
      players: Frames or features `[n, …]` of each player, by the index of the stem that the player plays. A negative
        index stands for an unknown stem; the condition then has no stem for any player.
    """
    stacked = np.stack(list(players.values()))
    empty = player_frames(model.system).slots - len(stacked)
    padded = np.pad(stacked, [(0, empty)] + [(0, 0)] * (stacked.ndim - 1))
    cues = {FEATURES if stacked.dtype == np.float32 else FRAMES: padded[None]}
    if min(players) >= 0:
        cues[SLOTS] = np.array([[*players, *[-1] * empty]], np.int32)
    return _condition(model.system, model.variables, cues)
