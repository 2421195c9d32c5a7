"""An experiment as data: a system, where its examples come from, how it is trained and what it is judged on.

A config file is Python with `get_config(variant: str = "") -> Experiment`; every field of the result can be overridden
on the command line. A run keeps the resolved experiment as JSON.
"""

import dataclasses
import importlib.util
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, get_args

import cattrs
import cattrs.v

from data_pipelines.pipeline import Data, Recipe, Stream
from data_pipelines.recipes.mixing import RandomSplit
from data_pipelines.testlist import TestList
from qsep_jax.systems.base import System
from qsep_jax.systems.cantisani2021 import Cantisani2021
from qsep_jax.systems.frame_classifier import FrameClassifier
from qsep_jax.systems.lee2019 import Lee2019
from qsep_jax.systems.lin2021 import Lin2021
from qsep_jax.systems.slizovskaia2021 import Slizovskaia2021
from qsep_jax.systems.sound_of_pixels import SoundOfPixels
from qsep_jax.systems.stoller2018 import Stoller2018
from qsep_jax.training.settings import Train

# Raised when a run folder of before can no longer be read.
RUN_FORMAT = 1
SYSTEMS: tuple[type[System], ...] = (
    Lee2019,
    Lin2021,
    Slizovskaia2021,
    SoundOfPixels,
    FrameClassifier,
    Stoller2018,
    Cantisani2021,
)


@dataclasses.dataclass(frozen=True)
class Experiment:
    """One run of one system."""

    system: System
    data: Data
    train: Train = Train()
    evaluation: TestList = TestList()

    @property
    def judged(self) -> Stream:
        """What it is judged on: the mixtures of its first stream, of other corpora where the evaluation names some."""
        first = next(iter(self.data.streams.values()))
        return dataclasses.replace(first, corpus=self.evaluation.corpus or first.corpus)


def load_config(path_and_variant: str) -> Experiment:
    """The experiment of `configs/x.py` or `configs/x.py:variant,debug`.

    Raises:
      ValueError: if the file is missing or has no `get_config`, or the variant is unknown.
    """
    path, _, variant = path_and_variant.partition(":")
    spec = importlib.util.spec_from_file_location(f"qsep_config_{Path(path).stem}", path)
    if not Path(path).is_file() or spec is None or spec.loader is None:
        known = ", ".join(sorted(str(p) for p in Path("configs").glob("*.py") if p.stem != "__init__"))
        raise ValueError(f"there is no config file '{path}'" + (f"; here are {known}" if known else ""))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    get_config: Callable[[str], Experiment] | None = getattr(module, "get_config", None)
    if get_config is None:
        raise ValueError(f"{path} has no get_config(variant)")
    return get_config(variant)


def variant_words(variant: str, known: tuple[str, ...]) -> set[str]:
    """The comma-separated words of a variant; `debug` is known to every config.

    Raises:
      ValueError: for a word that the config does not know.
    """
    words = {word.strip() for word in variant.split(",") if word.strip()}
    unknown = words - {*known, "debug"}
    if unknown:
        raise ValueError(f"unknown variant '{min(unknown)}'; there are {', '.join([*known, 'debug'])}")
    return words


def _converter() -> cattrs.Converter:
    """JSON in and out; systems and recipes carry the name of their class, and unknown keys are refused."""
    converter = cattrs.Converter(forbid_extra_keys=True)
    _name_classes(converter, System, SYSTEMS, "system", "")
    # Recipes of before there were several have no name.
    _name_classes(converter, Recipe, get_args(Recipe), "recipe", RandomSplit.__name__)
    return converter


def _name_classes(converter: cattrs.Converter, kind: Any, members: Iterable[type], word: str, default: str) -> None:
    by_name = {member.__name__: member for member in members}

    def structure(value: dict[str, Any], _: Any) -> Any:
        name = value.get("name", default)
        if name not in by_name:
            raise ValueError(f"unknown {word} '{name}'; there are {', '.join(by_name)}")
        return converter.structure({key: item for key, item in value.items() if key != "name"}, by_name[name])

    def unstructure(value: Any) -> dict[str, Any]:
        return {"name": type(value).__name__, **converter.unstructure(value, type(value))}

    converter.register_structure_hook_func(lambda asked: asked == kind, structure)
    converter.register_unstructure_hook_func(lambda asked: asked == kind, unstructure)


def to_json(experiment: Experiment) -> str:
    """The experiment as JSON, with the format of run folders that it belongs to."""
    return json.dumps({"format": RUN_FORMAT, **_converter().unstructure(experiment)}, indent=2) + "\n"


def from_json(text: str, where: str) -> Experiment:
    """The experiment that `to_json` wrote; `where` names it in errors.

    Raises:
      ValueError: if it is of another format, damaged, or has unknown keys.
    """
    try:
        content = json.loads(text)
        written = content.pop("format", None)
    except (ValueError, AttributeError, TypeError):
        raise ValueError(f"{where} is damaged: it is not JSON of an experiment") from None
    if written != RUN_FORMAT:
        raise ValueError(
            f"{where} has format {written}, this version of qsep_jax reads format {RUN_FORMAT}: use the version that "
            "wrote it (environment.json names it), or train again"
        )
    try:
        return _converter().structure(content, Experiment)
    except Exception as error:  # cattrs groups what it finds; its own words name path and value
        found = "; ".join(cattrs.transform_error(error, format_exception=_in_words))
        raise ValueError(f"{where} is damaged or of another version: {found}") from None


def _in_words(error: BaseException, kind: type | None) -> str:
    """What one of our own checks says, where cattrs would only call the value invalid."""
    return str(error) if type(error) is ValueError else cattrs.v.format_exception(error, kind)
