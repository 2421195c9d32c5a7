"""Experiments as JSON, `config.json`, and back; the copies of the files that define their classes lie beside it."""

import dataclasses
import functools
import json
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, get_args, get_type_hints

import cattrs
import cattrs.v
from cattrs.gen import make_dict_structure_fn

from data_pipelines.files import atomic_write, write_text
from data_pipelines.recipes.mixing import RandomSplit
from data_pipelines.streams import Recipe
from qsep_jax.runs.experiment import Experiment
from qsep_jax.systems import registry
from qsep_jax.systems.base import System
from qsep_jax.systems.capabilities import check_declared
from qsep_jax.systems.one_shot import Adaptation
from qsep_jax.systems.registry import ClassNotFound

# Raised when this version can no longer read the run folders of the versions before.
RUN_FORMAT = 1
# Bytes of a config; those of the papers have at most 10,000.
LARGEST_CONFIG = 2**20
RECIPES: dict[str, type] = {recipe.__name__: recipe for recipe in get_args(Recipe)}


def to_json(experiment: Experiment) -> str:
    """Return the experiment as JSON, with the format of run folders and the digests of the files that it needs.

    Raises:
      ValueError: if a class of it could not be found again.
    """
    content: dict[str, Any] = {"format": RUN_FORMAT, **_converter_without_copies(None).unstructure(experiment)}
    copies = registry.copies(experiment.classes)
    if copies:
        content["sources"] = {module: source.digest for module, source in copies.items()}
    return json.dumps(content, indent=2) + "\n"


def from_json(text: str | bytes, where: str, folder: Path | None = None) -> Experiment:
    """Return the experiment that `to_json` wrote.

    Args:
      where: Names the text in errors.
      folder: Holds the copies of the files that define its classes, if it needs some.

    Raises:
      ValueError: if it is of another format, damaged, has unknown keys, or a class of it is not found.
    """
    try:
        content = json.loads(text)
        written = content.pop("format", None)
        digests = content.pop("sources", {})
    except (ValueError, AttributeError, TypeError, RecursionError):
        raise ValueError(f"{where} is damaged: it is not JSON of an experiment") from None
    if written != RUN_FORMAT:
        raise ValueError(
            f"{where} has format {written}, this version of qsep_jax reads format {RUN_FORMAT}: use the version that "
            "wrote it (environment.json names it), or train again"
        )
    try:
        converter = _converter(digests, folder) if digests else _converter_without_copies(folder)
        return converter.structure(content, Experiment)
    except Exception as error:  # cattrs groups the errors; its own words name path and value
        missing = _leaf(error, ClassNotFound)
        if missing:
            raise ValueError(f"{where}: {textwrap.shorten(str(missing), 1_000)}") from missing
        messages = textwrap.shorten("; ".join(cattrs.transform_error(error, format_exception=_message)), 1_000)
        raise ValueError(f"{where} is damaged or of another version: {messages}") from None


def read_config(path: Path) -> Experiment:
    """Return the experiment of the `config.json` of a run folder or a bundle.

    Raises:
      ValueError: as `from_json` does.
      OSError: if it cannot be read.
    """
    if path.stat().st_size > LARGEST_CONFIG:
        raise ValueError(f"{path} is damaged: it takes {path.stat().st_size:,} bytes, too much for an experiment")
    return from_json(path.read_bytes(), str(path), path.parent)


def write_config(path: Path, experiment: Experiment) -> None:
    """Write an experiment as the `config.json` of a folder, and beside it the files that define its classes."""
    write_text(path, to_json(experiment))
    for module, source in registry.copies(experiment.classes).items():
        copy = path.parent / registry.SOURCES / f"{module}.py"
        copy.parent.mkdir(exist_ok=True)
        with atomic_write(copy) as unfinished:
            unfinished.write_bytes(source.content)


def check_readable(experiment: Experiment) -> None:
    """Check that an experiment that is written can be read back, equal to the last field.

    Raises:
      ValueError: if not; names the field.
    """
    check_declared(experiment.system)
    _check_fields(experiment, "")
    again = from_json(to_json(experiment), "config.json")
    changed = _first_difference(experiment, again, "")
    if changed:
        name, before, after = changed
        raise ValueError(f"{name} = {before!r} is read back from config.json as {after!r}: {_FIELDS}")
    if hash(again.system) != hash(experiment.system):
        raise ValueError(f"{type(experiment.system).__name__} has another hash when it is read back: {_FIELDS}")


_FIELDS = "fields of a config are numbers, strings, tuples of them, None, and frozen dataclasses"


def _check_fields(value: Any, name: str) -> None:
    """Check that all fields can be written, and that those of a system can be hashed."""
    if dataclasses.is_dataclass(value):
        if name.startswith("system") and type(value).__hash__ is None:
            raise ValueError(f"{name} is a {type(value).__name__}, which is not frozen: {_FIELDS}")
        annotations = get_type_hints(type(value))
        for field in dataclasses.fields(value):
            path, item, kind = f"{name}.{field.name}".lstrip("."), getattr(value, field.name), annotations[field.name]
            if isinstance(kind, type) and dataclasses.is_dataclass(kind) and not isinstance(item, kind):
                raise ValueError(f"{path} must be a {kind.__name__}, not {item!r}")
            _check_fields(item, path)
    elif isinstance(value, dict) and not name.startswith("system."):
        for key, item in value.items():
            _check_fields(item, f"{name}.{key}")
    elif isinstance(value, tuple):
        for number, item in enumerate(value):
            _check_fields(item, f"{name}.{number}")
    elif not isinstance(value, str | int | float | bool | None):
        raise ValueError(f"{name} is a {type(value).__name__}, which config.json cannot hold: {_FIELDS}")


def _first_difference(before: Any, after: Any, name: str) -> tuple[str, Any, Any] | None:
    """Return path and values of the first field that differs."""
    if dataclasses.is_dataclass(before) and type(before) is type(after):
        for field in dataclasses.fields(before):
            path = f"{name}.{field.name}".lstrip(".")
            found = _first_difference(getattr(before, field.name), getattr(after, field.name), path)
            if found:
                return found
        return None
    if isinstance(before, dict) and isinstance(after, dict) and before.keys() == after.keys():
        return next(filter(None, (_first_difference(before[key], after[key], f"{name}.{key}") for key in before)), None)
    return None if before == after else (name, before, after)


def _converter(digests: Mapping[str, str], folder: Path | None) -> cattrs.Converter:
    """Return a converter by which systems and recipes carry the name of their class, and unknown keys are refused."""

    def find_recipe(name: str) -> type:
        if name in RECIPES:
            return RECIPES[name]
        if ":" not in name:
            raise ValueError(f"unknown recipe '{name}'; there are {', '.join(RECIPES)}, and MODULE:CLASS of your own")
        return registry.find_class(name, digests, folder)

    def name_recipe(kind: type) -> str:
        return kind.__name__ if kind in RECIPES.values() else registry.name_of(kind)

    converter = cattrs.Converter(forbid_extra_keys=True)
    _name_classes(converter, System, lambda name: registry.find_system(name, digests, folder), registry.name_of, "")
    # Recipes were stored without a name when there was a single one.
    _name_classes(converter, Recipe, find_recipe, name_recipe, RandomSplit.__name__)
    structure_adaptation = make_dict_structure_fn(Adaptation, converter, _cattrs_forbid_extra_keys=True)

    def structure_old_adaptation(value: dict[str, Any], _: Any) -> Adaptation:
        # The field was called `shifts` before `separate` and the experiments gave that name another meaning.
        renamed = {"pitch_copies" if key == "shifts" else key: item for key, item in value.items()}
        return structure_adaptation(renamed, Adaptation)

    converter.register_structure_hook(Adaptation, structure_old_adaptation)
    return converter


@functools.lru_cache(maxsize=8)
def _converter_without_copies(folder: Path | None) -> cattrs.Converter:
    """Return `_converter` for an experiment whose classes need no copies of files; cattrs compiles it for 30 ms."""
    return _converter({}, folder)


def _name_classes(
    converter: cattrs.Converter,
    kind: Any,
    find: Callable[[str], type],
    name_of: Callable[[type], str],
    default: str,
) -> None:
    def structure(value: dict[str, Any], _: Any) -> Any:
        fields = {key: item for key, item in value.items() if key != "name"}
        return converter.structure(fields, find(value.get("name", default)))

    def unstructure(value: Any) -> dict[str, Any]:
        return {"name": name_of(type(value)), **converter.unstructure(value, type(value))}

    converter.register_structure_hook_func(lambda annotation: annotation == kind, structure)
    converter.register_unstructure_hook_func(lambda annotation: annotation == kind, unstructure)


def _leaf(error: BaseException, kind: type[ValueError]) -> BaseException | None:
    """Return the first error of a kind in a group of groups."""
    if isinstance(error, BaseExceptionGroup):
        return next(filter(None, (_leaf(inner, kind) for inner in error.exceptions)), None)
    return error if isinstance(error, kind) else None


def _message(error: BaseException, kind: type | None) -> str:
    """Return the message of a check of this project, where cattrs would only call the value invalid."""
    return str(error) if type(error) is ValueError else cattrs.v.format_exception(error, kind)
