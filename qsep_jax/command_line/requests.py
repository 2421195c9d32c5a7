"""What is to be separated out of a mixture: the names of the outputs and the condition of each."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from data_pipelines.audio.arrays import Audio, to_audio
from data_pipelines.audio.reading import AudioFile, resample_blocks
from data_pipelines.video.files import Box, read_boxes
from qsep_jax.command_line.paths import unique
from qsep_jax.inference.bank import Bank
from qsep_jax.inference.conditions import Mixture, encode_blocks, iterate, mean, slerp
from qsep_jax.inference.cues import MixtureCondition, from_labels, from_video, index_of
from qsep_jax.inference.model import Model
from qsep_jax.systems.base import Condition, System

# Given a mixture at the model's sample rate and its channel count, the condition to separate it with.
ConditionFor = Callable[[Mixture, int], MixtureCondition]
# What only a model that is conditioned on queries takes.
WORDS = {
    "queries": "a query",
    "conditions": "a condition",
    "retrieve": "a class to retrieve",
    "interpolate": "an interpolation",
    "average_queries": "averaged queries",
    "iterations": "iterations",
}
QUERY_FIELDS = tuple(WORDS)


@dataclasses.dataclass(frozen=True)
class Request:
    """What is to be separated out of each mixture.

    Attributes:
      queries: Recordings that sound like a source, by the name of the output; their windows are averaged.
      conditions: Conditions that were encoded before, by the name of the output.
      labels: Classes of the training data: for a query-based model, the mean condition of the class; for a model
        conditioned on labels, the instruments that play; for another model that gives all stems at once, those to keep.
      retrieve: Classes, each by its training track that is nearest to the query or, without one, to a first estimate.
      interpolate: Two names, each of a query or a label, and α from 0 (the first) to 1 (the second).
      average_queries: Whether all queries together describe one source.
      iterations: Rounds of separating and encoding the estimate as the next query.
      video: A video of the players.
      boxes: Where each player is in the picture, a JSON file.
      residual: Whether `residual` is a name of an output, too.
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

    def __post_init__(self):
        if self.iterations < 0:
            raise ValueError(f"iterations must be 0 or more, not {self.iterations}")
        if self.interpolate and not 0.0 <= self.interpolate[2] <= 1.0:
            raise ValueError(f"the ALPHA of an interpolation must be between 0 and 1, not {self.interpolate[2]}")
        if self.boxes and not self.video:
            raise ValueError("boxes are of the players in a video: give the video, too")


@dataclasses.dataclass(frozen=True)
class Outputs:
    """The outputs of each mixture.

    Attributes:
      names: Names of the outputs.
      conditions: One for each output; or a single one where the system gives all of its stems at once.
      stems: Which of the system's stems the outputs are, where they come at once; empty otherwise.
      silent: Stems that the condition marks as absent; they are silent and have no output.
    """

    names: tuple[str, ...]
    conditions: tuple[ConditionFor, ...]
    stems: tuple[int, ...] = ()
    silent: tuple[str, ...] = ()


def check(request: Request, system: System) -> None:
    """Make sure that a system takes a request, before its weights are loaded.

    Raises:
      ValueError: if it does not; names what it takes.
    """
    name, known = type(system).__name__, ", ".join(system.stems)
    if "separate" not in system.tasks:
        raise ValueError(f"this model ({name}) does not separate: choose another model")
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
            f"this model ({name}) is not conditioned on queries, so it cannot use {WORDS[unusable[0]]}: {instead}"
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
    """The outputs that a request asks of a model.

    Args:
      bank: Reads the conditions of the training tracks; called only where they are needed.
      report: Receives one line for each training track that was retrieved.

    Raises:
      ValueError: if the request names nothing, or a query, label, video or box cannot be used.
    """
    check(request, model.system)
    if "query" in model.system.cues:
        return _of_queries(request, model, bank, report)
    stems = model.system.stems
    labels, present = tuple(dict.fromkeys(request.labels)), stems
    condition = _constant(())
    if "labels" in model.system.cues:
        condition, present = _constant(from_labels(model, labels)), labels
    elif request.video:
        boxes = _boxes(request.boxes, request.video, stems) if request.boxes else {}
        from_the_beginning = from_video(model, request.video, boxes)
        condition = lambda mixture, channels: from_the_beginning()  # noqa: E731
        present = tuple(stem for stem in stems if stem in boxes) or stems
    for label in labels:
        if label not in present:
            raise ValueError(f"'{label}' is in no box of {request.boxes}, which has {', '.join(present)}")
    outputs = labels or present
    silent = tuple(stem for stem in stems if stem not in present)
    return Outputs(outputs, (condition,), tuple(stems.index(stem) for stem in outputs), silent)


def of_conditions(names: tuple[str, ...], conditions: Condition) -> Outputs:
    """The outputs of conditions `[S, …]` with a name each."""
    return Outputs(names, tuple(_constant(conditions[row : row + 1]) for row in range(len(names))))


def encode_query(model: Model, audio: Audio) -> Condition:
    """The condition of a recording at any sample rate."""
    return encode_blocks(
        model, resample_blocks(audio.blocks(), audio.sample_rate, model.system.sample_rate), audio.name
    )


def encode_queries(model: Model, queries: dict[str, Audio], average: bool) -> dict[str, Condition]:
    """The conditions of queries by name, or their mean under all their names joined by `+`.

    Raises:
      ValueError: if there is none, or one is silent or cannot be read.
    """
    if not queries:
        raise ValueError("no query: give at least one recording of the source")
    conditions = {name: encode_query(model, audio) for name, audio in queries.items()}
    return {"+".join(conditions): mean(list(conditions.values()))} if average else conditions


def recordings(query: Any, sample_rate: int) -> dict[str, Audio]:
    """The recordings of a Python caller by name: files by their stems, an array by `query` unless a mapping names it.

    Args:
      query: None, a path, several paths, an array, or a mapping of names to paths and arrays.
      sample_rate: Hz, of arrays.

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


def _boxes(path: Path, video: Path, stems: tuple[str, ...]) -> dict[str, Box]:
    """The boxes of the players in a video; either all or none of them are named by their instruments."""
    groups = read_boxes(path)
    boxes = groups.get("") or groups.get(video.stem)
    if not boxes:
        known = ", ".join(name for name in groups if name) or "none"
        raise ValueError(
            f"{path} has no boxes of '{video.stem}', but of {known}: name them by the video, or give one set"
        )
    unknown = [name for name in boxes if name not in stems]
    if unknown and len(unknown) < len(boxes):
        raise ValueError(
            f"{path}: '{unknown[0]}' is no instrument of this model, others are: name all players by their instruments "
            f"or none; it knows {', '.join(stems)}"
        )
    return boxes


def _of_queries(request: Request, model: Model, bank: Callable[[], Bank], report: Callable[[str], None]) -> Outputs:
    """The outputs of a query-based model."""

    def nearest(label: str, query: Condition | None) -> ConditionFor:
        class_mean = bank().mean(label)

        def retrieve(mixture: Mixture, channels: int) -> Condition:
            estimate = iterate(model, mixture, channels, class_mean, 1) if query is None else query
            track = bank().nearest(label, estimate)
            report(f"nearest '{label}' of the training tracks: {track}")
            return bank().tracks[label][track]

        return retrieve

    def end_of_interpolation(source: str | Audio) -> Condition:
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
        between = slerp(end_of_interpolation(first), end_of_interpolation(second), alpha)
        names = (source if isinstance(source, str) else Path(source.name).stem for source in (first, second))
        outputs.append(("_".join([*names, f"{alpha:g}"]), _constant(between)))
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
