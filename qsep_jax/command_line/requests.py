"""What is asked for on the command line of `separate`: the outputs, and what the model is told to make them."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from data_pipelines.audio.reading import AudioFile
from data_pipelines.video.files import Box, read_boxes
from qsep_jax import __version__
from qsep_jax.command_line.paths import unique
from qsep_jax.inference.bank import Bank
from qsep_jax.inference.conditions import Mixture, encode_blocks, iterate, mean, slerp
from qsep_jax.inference.cues import MixtureCondition, from_labels, from_video, index_of
from qsep_jax.inference.files import mixture_at
from qsep_jax.inference.model import Model
from qsep_jax.inference.transcription import need
from qsep_jax.runs.bundle import SavedModel, find_model
from qsep_jax.runs.delta import Delta
from qsep_jax.systems.base import Condition, System
from qsep_jax.systems.one_shot import CONDITION

if TYPE_CHECKING:
    from qsep_jax.separate import Separate

# Given a mixture at the model's rate and its channel count, what the model is told to separate it.
Ask = Callable[[Mixture, int], MixtureCondition]
# What only a model that takes queries can be asked for.
BY_QUERY = ("query", "retrieve", "interpolate", "average_queries", "iterations")


@dataclasses.dataclass(frozen=True)
class Asked:
    """The outputs of each mixture.

    Attributes:
      names: of the outputs.
      asks: one for each output; or a single one that gives all outputs at once.
      stems: which of the system's stems the outputs are, where they come at once; empty where each is asked for.
      silent: stems that the model was told are not there, which so are silent and no output.
    """

    names: tuple[str, ...]
    asks: tuple[Ask, ...]
    stems: tuple[int, ...] = ()
    silent: tuple[str, ...] = ()


def check(options: "Separate", system: System) -> None:
    """Make sure that a system can be asked in this way.

    Raises:
      ValueError: if not; says how it is asked.
    """
    name, known = type(system).__name__, ", ".join(system.stems)
    if "separate" not in system.tasks:
        raise ValueError(f"this model ({name}) does not separate: give another --model")
    if "query" in system.cues:
        if options.video:
            raise ValueError(f"this model ({name}) does not look: leave out --video, or give a --model that does")
        return
    given = [word for word in BY_QUERY if getattr(options, word)]
    if given:
        instead = {"labels": "give --label", "frames": "give --video"}.get("".join(system.cues), "leave it out")
        option = given[0].replace("_", "-")
        raise ValueError(f"this model ({name}) is not asked by a query, which --{option} needs: {instead}")
    if options.video and "frames" not in system.cues:
        raise ValueError(f"this model ({name}) does not look: leave out --video, or give a --model that does")
    if "frames" in system.cues and not options.video:
        raise ValueError(f"this model ({name}) is told by what it sees: give --video")
    if "labels" in system.cues and not options.label:
        raise ValueError(f"this model ({name}) is told which instruments play: give --label for each; it knows {known}")
    for label in options.label:
        index_of(system, label)


def asked_of(options: "Separate", source: SavedModel, model: Model, delta: Delta | None = None) -> Asked:
    """What is asked of a model.

    Args:
      delta: of a song, which the model holds; one that asks by itself leaves nothing to ask for.

    Raises:
      ValueError: if nothing is, or a query, label, video or box is no good.
    """
    adapted = model.variables["params"].get(CONDITION)
    if delta and adapted is not None:
        if options.label or any(getattr(options, word) for word in BY_QUERY):
            known = ", ".join(delta.stems)
            raise ValueError(f"--delta asks for what the model was adapted to give ({known}): leave out what else asks")
        return Asked(delta.stems, tuple(_always(adapted[k : k + 1]) for k in range(len(delta.stems))))
    if "query" in model.system.cues:
        asks = _by_query(options, _Queries(source, model))
        return Asked(tuple(asks), tuple(asks.values()))
    stems = model.system.stems
    labels, present = tuple(dict.fromkeys(options.label)), stems
    ask = _always(())
    if "labels" in model.system.cues:
        ask, present = _always(from_labels(model, labels)), labels
    elif options.video:
        boxes = _boxes(options.boxes, options.video, stems) if options.boxes else {}
        shown = from_video(model, options.video, boxes)
        ask, present = lambda mixture, channels: shown(), tuple(filter(boxes.__contains__, stems)) or stems
    for label in labels:
        if label not in present:
            raise ValueError(f"'{label}' is in no box of {options.boxes}, which has {', '.join(present)}")
    outputs = labels or present
    silent = tuple(stem for stem in stems if stem not in present)
    return Asked(outputs, (ask,), tuple(stems.index(stem) for stem in outputs), silent)


def _boxes(path: Path, video: Path, stems: tuple[str, ...]) -> dict[str, Box]:
    """The boxes of the players in a video, all of them named by their instruments or none."""
    groups = read_boxes(path)
    boxes = groups.get("") or groups.get(video.stem)
    if not boxes:
        known = ", ".join(name for name in groups if name) or "none"
        raise ValueError(
            f"{path} has no boxes of '{video.stem}', but of {known}: name them by the video, or give one set"
        )
    strange = [name for name in boxes if name not in stems]
    if strange and len(strange) < len(boxes):
        raise ValueError(
            f"{path}: '{strange[0]}' is no instrument of this model, others are: name all players by their instruments "
            f"or none; it knows {', '.join(stems)}"
        )
    return boxes


class _Queries:
    """Turns the options into conditions; the bank of training tracks is read when it is first needed."""

    def __init__(self, source: SavedModel, model: Model):
        self._source, self._model, self._bank = source, model, None

    @property
    def bank(self) -> Bank:
        if self._bank is None:
            self._bank = self._source.bank(self._model)
        return self._bank

    def query(self, path: Path) -> Condition:
        return encode_blocks(self._model, mixture_at(AudioFile(path), self._model.system.sample_rate), str(path))

    def either(self, word: str) -> Condition:
        """A query file where there is one of that name, else a label."""
        return self.query(Path(word)) if Path(word).is_file() else self.bank.mean(word)

    def retrieved(self, label: str, query: Condition | None) -> Ask:
        class_mean = self.bank.mean(label)

        def ask(mixture: Mixture, channels: int) -> Condition:
            like = iterate(self._model, mixture, channels, class_mean, 1) if query is None else query
            track = self.bank.nearest(label, like)
            print(f"nearest '{label}' of the training tracks: {track}")
            return self.bank.tracks[label][track]

        return ask


def _by_query(options: "Separate", asked: _Queries) -> dict[str, Ask]:
    """What to ask for, by the name of its output.

    Raises:
      ValueError: if nothing is asked for, or a query or label is no good.
    """
    found: list[tuple[str, Ask]] = []
    queries = [(path.stem, asked.query(path)) for path in options.query]
    if options.retrieve:
        merged = mean([condition for _, condition in queries]) if queries else None
        found += [(f"{label}_nearest", asked.retrieved(label, merged)) for label in options.retrieve]
    elif options.average_queries and queries:
        found.append(("+".join(name for name, _ in queries), _always(mean([condition for _, condition in queries]))))
    else:
        found += [(name, _always(condition)) for name, condition in queries]
    found += [(label, _always(asked.bank.mean(label))) for label in options.label]
    if options.interpolate:
        first, second, alpha = options.interpolate
        if not 0.0 <= alpha <= 1.0:
            raise ValueError(f"the ALPHA of --interpolate must be between 0 and 1, not {alpha}")
        between = slerp(asked.either(first), asked.either(second), alpha)
        found.append((f"{Path(first).stem}_{Path(second).stem}_{alpha:g}", _always(between)))
    if not found:
        raise ValueError("nothing is asked for: give --query, --label, --retrieve or --interpolate")
    return unique(found, "residual" if options.residual else "")


def _always(told: MixtureCondition) -> Ask:
    return lambda mixture, channels: told


def find_able(model: str, task: str) -> SavedModel:
    """The model of this name, or the carried one that takes scores; it is named if it is carried.

    Raises:
      ValueError: if there is none, or it lacks the task.
    """
    source = find_model(model, cue="score")
    need(source.experiment().system, task)
    if not model:
        print(f"model: {source.path.name}, carried by qsep_jax {__version__}")
    return source


def queries_of(model: Model, paths: tuple[Path, ...], average: bool) -> dict[str, Condition]:
    """The conditions of query files by name, or their mean under all their names.

    Raises:
      ValueError: if there is none, or one is no good.
    """
    if not paths:
        raise ValueError("nothing is asked for: give --query")
    rate = model.system.sample_rate
    found = [(path.stem, encode_blocks(model, mixture_at(AudioFile(path), rate), str(path))) for path in paths]
    if average:
        found = [("+".join(name for name, _ in found), mean([condition for _, condition in found]))]
    return unique(found)
