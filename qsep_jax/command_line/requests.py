"""Requests of a separation: from queries, labels, videos and other cues to named outputs with a condition each."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from data_pipelines.annotations.notes import voice_classes
from data_pipelines.audio.arrays import Audio, to_audio
from data_pipelines.audio.reading import AudioFile
from data_pipelines.audio.samples import resample_blocks
from data_pipelines.names import choose
from qsep_jax.command_line.boxes import boxes_of
from qsep_jax.command_line.paths import unique
from qsep_jax.inference.bank import Bank
from qsep_jax.inference.conditions import Mixture, encode_blocks, iterate, mean, slerp
from qsep_jax.inference.cues import MixtureCondition, from_labels, from_video, index_of
from qsep_jax.inference.model import Model
from qsep_jax.systems.base import Condition, System
from qsep_jax.systems.capabilities import frame_rate_of, need

# Returns the condition for a mixture, from its blocks at the model's sample rate and its number of channels.
ConditionFor = Callable[[Mixture, int], MixtureCondition]
# The fields of a request that need a query-based model, with their names in error messages.
QUERY_WORDS = {
    "queries": "a query",
    "conditions": "a condition",
    "retrieve": "a class to retrieve",
    "interpolate": "an interpolation",
    "average_queries": "averaged queries",
    "iterations": "iterations",
}
# The fields of a request that cannot be combined with a score.
NOT_WITH_SCORE = ("labels", "retrieve", "interpolate", "video", "iterations", "residual")
QUERY_FIELDS = tuple(QUERY_WORDS)


@dataclasses.dataclass(frozen=True)
class Request:
    """The sources to separate from each mixture.

    Attributes:
      queries: Recordings that sound like a source, by the name of the output; the conditions of their
        windows are averaged.
      conditions: Conditions that were encoded before, by the name of the output.
      labels: Classes of the training data. A query-based model separates each with the mean condition of the class; for
        a model conditioned on labels they are the instruments that play; another model outputs only these stems.
      retrieve: Classes, each of which is separated with the condition of one training track: the one nearest to the
        query or, without a query, to a first estimate.
      interpolate: Two sources, each a label or a query, and α from 0 (the first) to 1 (the second).
      average_queries: Whether all queries describe the same source; their conditions are averaged.
      iterations: Rounds of separating and encoding the estimate as the next query.
      video: Video of the players.
      boxes: JSON file with the position of each player in the frame.
      residual: Whether there is also an output `residual`.
      score: Notes `[n, 3]` of the source, a single voice, and their name for error messages; used with a single query
        or condition.
    """

    queries: dict[str, Audio] = dataclasses.field(default_factory=dict)
    conditions: dict[str, Condition] = dataclasses.field(default_factory=dict)
    labels: tuple[str, ...] = ()
    retrieve: tuple[str, ...] = ()
    interpolate: tuple[str | Audio, str | Audio, float] | None = None
    average_queries: bool = False
    iterations: int = 0
    video: Path | None = None
    boxes: Path | None = None
    residual: bool = False
    score: tuple[np.ndarray, str] | None = None

    def __post_init__(self):
        if self.iterations < 0:
            raise ValueError(f"iterations must be 0 or more, not {self.iterations}")
        if self.interpolate and not 0.0 <= self.interpolate[2] <= 1.0:
            raise ValueError(f"the ALPHA of an interpolation must be between 0 and 1, not {self.interpolate[2]}")
        if self.boxes and not self.video:
            raise ValueError("boxes mark the players in a video: give the video, too")
        if self.score is not None:
            for field in NOT_WITH_SCORE:
                if getattr(self, field):
                    raise ValueError(f"a score is used with a query alone: leave out {field}")


@dataclasses.dataclass(frozen=True)
class Outputs:
    """The outputs of each mixture.

    Attributes:
      names: Names of the outputs.
      conditions: One condition for each output, or a single one if the system estimates all stems at once.
      stems: Indices of the system's stems that the outputs are, if it estimates all stems at once; else empty.
      silent: Stems that the condition marks as absent; they are silent and have no output.
      classes: Class of each frame according to the score, int `[N]`; None without a score.
    """

    names: tuple[str, ...]
    conditions: tuple[ConditionFor, ...]
    stems: tuple[int, ...] = ()
    silent: tuple[str, ...] = ()
    classes: np.ndarray | None = None


def check(request: Request, system: System) -> None:
    """Check that a system can serve a request; this needs no weights.

    Raises:
      ValueError: if it cannot; the message names what it needs.
    """
    name, known = type(system).__name__, ", ".join(system.stems)
    if "separate" not in system.tasks:
        raise ValueError(f"this model ({name}) does not separate: choose another model")
    if request.score is not None:
        need(system, "separate_by_score")
    if request.video and "frames" not in system.cues:
        raise ValueError(
            f"this model ({name}) is not conditioned on video: leave the video out, or choose another model"
        )
    if "query" in system.cues:
        return
    unusable = [field for field in QUERY_FIELDS if getattr(request, field)]
    if unusable:
        instead = {"labels": "give labels", "frames": "give a video"}.get("".join(system.cues), "leave it out")
        raise ValueError(
            f"this model ({name}) is not conditioned on queries, so it cannot use {QUERY_WORDS[unusable[0]]}: {instead}"
        )
    if "frames" in system.cues and not request.video:
        raise ValueError(f"this model ({name}) is conditioned on video: give a video of the players")
    if "labels" in system.cues and not request.labels:
        raise ValueError(
            f"this model ({name}) is conditioned on labels: give a label for each instrument that plays, of {known}"
        )
    for label in request.labels:
        index_of(system, label)


def resolve(
    request: Request, model: Model, bank: Callable[[], Bank], report: Callable[[str], None] = lambda line: None
) -> Outputs:
    """Resolve a request to the outputs of a model.

    Args:
      bank: Reads the conditions of the training tracks; called only where they are needed.
      report: Receives one line for each training track that was retrieved.

    Raises:
      ValueError: if the request names no source, or a query, label, video or box cannot be used.
    """
    check(request, model.system)
    request = _with_known_labels(request, model.system, bank)
    if "query" in model.system.cues:
        outputs = _query_outputs(request, model, bank, report)
        return outputs if request.score is None else _with_score(outputs, *request.score, model.system)
    stems = model.system.stems
    labels, present = tuple(dict.fromkeys(request.labels)), stems
    condition = _constant(())
    if "labels" in model.system.cues:
        condition, present = _constant(from_labels(model, labels)), labels
    elif request.video:
        boxes = boxes_of(request.boxes, request.video, stems) if request.boxes else {}
        begin_video = from_video(model, request.video, boxes)
        condition = lambda mixture, channels: begin_video()  # noqa: E731
        present = tuple(stem for stem in stems if stem in boxes) or stems
    for label in labels:
        if label not in present:
            raise ValueError(f"{request.boxes} has no box of '{label}', but of {', '.join(present)}")
    outputs = labels or present
    silent = tuple(stem for stem in stems if stem not in present)
    return Outputs(outputs, (condition,), tuple(stems.index(stem) for stem in outputs), silent)


def _with_known_labels(request: Request, system: System, bank: Callable[[], Bank]) -> Request:
    """The request with its labels as the model spells them.

    Raises:
      ValueError: if the model does not have a label; the message has the most similar one.
    """
    interpolated = [source for source in (request.interpolate or ())[:2] if isinstance(source, str)]
    if not (request.labels or request.retrieve or interpolated):
        return request
    known = bank().tracks if "query" in system.cues else system.stems
    interpolate = request.interpolate
    if interpolate:
        first, second = (choose(source, known) if isinstance(source, str) else source for source in interpolate[:2])
        interpolate = (first, second, interpolate[2])
    labels, retrieve = (
        tuple(choose(label, known) for label in labels) for labels in (request.labels, request.retrieve)
    )
    return dataclasses.replace(request, labels=labels, retrieve=retrieve, interpolate=interpolate)


def _with_score(outputs: Outputs, notes: np.ndarray, name: str, system: System) -> Outputs:
    if len(outputs.names) != 1:
        raise ValueError(f"a score has the notes of one source: give one query or condition, not {len(outputs.names)}")
    return dataclasses.replace(outputs, classes=voice_classes(notes, name, frame_rate_of(system)))


def outputs_for(names: tuple[str, ...], conditions: Condition) -> Outputs:
    """The outputs with the given names and conditions `[S, …]`."""
    return Outputs(names, tuple(_constant(conditions[row : row + 1]) for row in range(len(names))))


def encode_query(model: Model, audio: Audio) -> Condition:
    """The condition of a recording at any sample rate."""
    return encode_blocks(
        model, resample_blocks(audio.blocks(), audio.sample_rate, model.system.sample_rate), audio.name
    )


def encode_queries(model: Model, queries: dict[str, Audio], average: bool) -> dict[str, Condition]:
    """The conditions of queries by name, or their mean under all their names joined by `+`.

    Raises:
      ValueError: if there is no query, or one is silent or cannot be read.
    """
    if not queries:
        raise ValueError("no query: give at least one recording of the source")
    conditions = {name: encode_query(model, audio) for name, audio in queries.items()}
    return {"+".join(conditions): mean(list(conditions.values()))} if average else conditions


def recordings(query: Any, sample_rate: int) -> dict[str, Audio]:
    """The recordings of a Python caller, by name.

    A file has its name without suffix, an array has the name `query`, unless a mapping names it.

    Args:
      query: None, a path, several paths, an array, or a mapping of names to paths and arrays.
      sample_rate: Sample rate of arrays in Hz.

    Raises:
      ValueError: if a file or an array is not usable as audio.
    """
    if query is None:
        return {}
    if isinstance(query, Mapping):
        return {str(name): _recording(audio, sample_rate, f"the query '{name}'") for name, audio in query.items()}
    if isinstance(query, str | Path):
        return {Path(query).stem: AudioFile(query)}
    if isinstance(query, list | tuple) and query and all(isinstance(path, str | Path) for path in query):
        return unique([(Path(path).stem, AudioFile(path)) for path in query])
    return {"query": _recording(query, sample_rate, "the query")}


def _recording(recording: Any, sample_rate: int, name: str) -> Audio:
    if isinstance(recording, str | Path):
        return AudioFile(recording)
    return to_audio(recording, sample_rate, name)


def _query_outputs(request: Request, model: Model, bank: Callable[[], Bank], report: Callable[[str], None]) -> Outputs:
    """The outputs of a query-based model."""

    def nearest(label: str, query: Condition | None) -> ConditionFor:
        class_mean = bank().mean(label)

        def retrieve(mixture: Mixture, channels: int) -> Condition:
            estimate = iterate(model, mixture, channels, class_mean, 1) if query is None else query
            track = bank().nearest(label, estimate)
            report(f"nearest '{label}' of the training tracks: {track}")
            return bank().tracks[label][track]

        return retrieve

    def condition_of(source: str | Audio) -> Condition:
        return bank().mean(source) if isinstance(source, str) else encode_query(model, source)

    queries = encode_queries(model, request.queries, average=False) if request.queries else {}
    outputs: list[tuple[str, ConditionFor]] = []
    if request.retrieve:
        merged = mean(list(queries.values())) if queries else None
        outputs += [(f"{label}_nearest", nearest(label, merged)) for label in request.retrieve]
    elif request.average_queries and queries:
        outputs.append(("+".join(queries), _constant(mean(list(queries.values())))))
    else:
        outputs += [(name, _constant(condition)) for name, condition in queries.items()]
    outputs += [(name, _constant(condition)) for name, condition in request.conditions.items()]
    outputs += [(label, _constant(bank().mean(label))) for label in request.labels]
    if request.interpolate:
        first, second, alpha = request.interpolate
        interpolated = slerp(condition_of(first), condition_of(second), alpha)
        names = (source if isinstance(source, str) else Path(source.name).stem for source in (first, second))
        outputs.append(("_".join([*names, f"{alpha:g}"]), _constant(interpolated)))
    if not outputs:
        raise ValueError("nothing to separate: give a query, a label, a class to retrieve or an interpolation")
    named = unique(outputs, "residual" if request.residual else "")
    iterated = [_iterated(model, condition, request.iterations) for condition in named.values()]
    return Outputs(tuple(named), tuple(iterated))


def _iterated(model: Model, condition: ConditionFor, iterations: int) -> ConditionFor:
    """A condition after rounds of separating a mixture and encoding the estimate (Lee et al. 2019, §4.6)."""
    return lambda mixture, channels: iterate(model, mixture, channels, condition(mixture, channels), iterations)


def _constant(condition: MixtureCondition) -> ConditionFor:
    return lambda mixture, channels: condition
