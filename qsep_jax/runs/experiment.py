"""An experiment as data: a system, where its examples come from, how it is trained, and what it is evaluated on.

A config file is Python with `get_config(variant: str = "") -> Experiment`; every field of the result can be overridden
on the command line. A run keeps the resolved experiment as JSON.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path

from data_pipelines.streams import Data, Stream
from data_pipelines.testlist import TestList
from qsep_jax.systems import registry, source_files
from qsep_jax.systems.base import System
from qsep_jax.training.settings import Train

# The configs of this project; a config is also found by its name here.
CONFIGS = Path(__file__).parents[2] / "configs"


@dataclasses.dataclass(frozen=True)
class Experiment:
    """One run of one system."""

    system: System
    data: Data
    train: Train = Train()
    evaluation: TestList = TestList()

    @property
    def judged(self) -> Stream:
        """The stream of the evaluation: that of the first stream, on the corpora that the evaluation names, if any."""
        first = next(iter(self.data.streams.values()))
        return dataclasses.replace(first, corpus=self.evaluation.corpus or first.corpus)

    @property
    def classes(self) -> list[type]:
        """The classes that the JSON of the experiment names: the system and the mixing recipes."""
        streams = (*self.data.streams.values(), *self.data.validation.values())
        return [type(self.system), *(type(stream.recipe) for stream in streams)]


def load_config(path_and_variant: str) -> Experiment:
    """Return the experiment of `configs/x.py` or `configs/x.py:variant,debug`; of this project's, `x` will do.

    Classes that the file defines are trusted from then on (`qsep_jax.systems.source_files`).

    Raises:
      ValueError: if the file is missing, cannot be executed or has no `get_config`, or the variant is unknown.
    """
    name, _, variant = path_and_variant.partition(":")
    path = Path(name)
    if not path.is_file() and (CONFIGS / f"{name}.py").is_file():
        path = CONFIGS / f"{name}.py"
    if not path.is_file() or path.suffix != ".py":
        known = ", ".join(sorted(file.stem for file in CONFIGS.glob("*.py")))
        raise ValueError(f"there is no config file '{name}'; the configs of qsep_jax are {known}")
    module = source_files.execute(source_files.read_source(path), path)
    get_config: Callable[[str], Experiment] | None = vars(module).get("get_config")
    if get_config is None:
        raise ValueError(f"{path} has no get_config(variant)")
    experiment = get_config(variant)
    for source in registry.copies(experiment.classes).values():
        source_files.trust(source)
    return experiment


def variant_words(variant: str, known: tuple[str, ...]) -> set[str]:
    """Split a variant at its commas; every config knows the word `debug`.

    Raises:
      ValueError: for a word that the config does not know.
    """
    words = {word.strip() for word in variant.split(",") if word.strip()}
    unknown = words - {*known, "debug"}
    if unknown:
        raise ValueError(f"unknown variant '{min(unknown)}'; there are {', '.join([*known, 'debug'])}")
    return words
