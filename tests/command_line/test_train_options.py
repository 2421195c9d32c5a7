"""Every field of every config is an option of `train`, and an option changes its own field only."""

import dataclasses
import functools
import importlib
import typing
from collections.abc import Iterator
from typing import Any, Literal

import pytest

from qsep_jax.command_line.train_options import parse
from qsep_jax.runs.experiment import Experiment, load_config
from tests.experiments import CONFIGS, ROOT


def variants(config: str) -> list[str]:
    """Every variant of a config; `debug` only alone, since it adds no field to any of them."""
    module = importlib.import_module(f"configs.{config.removesuffix('.py')}")
    needs_band = ("four", "instrumental")
    words = [f"band,{word}" if word in needs_band else word for word in getattr(module, "VARIANTS", ())]
    return ["", "debug", *(word for word in words if word != "debug")]


ALL = [f"{config}:{variant}" for config in CONFIGS for variant in variants(config)]


@dataclasses.dataclass(frozen=True)
class Leaf:
    """A field that holds no further fields, or an entry of a dictionary.

    Attributes:
      path: Names of the fields and keys that lead to it.
      kind: Its declared type.
      value: What the config sets.
    """

    path: tuple[str, ...]
    kind: Any
    value: Any

    @property
    def other(self) -> Any:
        """Another value of the type."""
        return another(self.kind, self.value)

    @property
    def options(self) -> list[str]:
        """The arguments that set the other value."""
        *parents, name = self.path
        if self.kind is bool:
            name = name if self.other else f"no-{name}"
        option = "--" + ".".join([*parents, name]).replace("_", "-")
        return [option] if self.kind is bool else [option, *map(str, flat(self.other))]


def another(kind: Any, value: Any) -> Any:
    if kind is bool:
        return not value
    if kind in (int, float):
        return value + kind(1)
    if kind is str:
        return value + "x"
    members = typing.get_args(kind)
    if typing.get_origin(kind) is Literal:
        return next(member for member in members if member != value)
    if typing.get_origin(kind) is tuple and members[-1] is ...:
        return (*value, another(members[0], empty(members[0])))
    if typing.get_origin(kind) is tuple:
        return tuple(another(member, item) for member, item in zip(members, value, strict=True))
    raise TypeError(f"no other value of {kind} than {value!r}")


def empty(kind: Any) -> Any:
    members = typing.get_args(kind)
    return () if ... in members else tuple(map(empty, members)) if members else kind()


def flat(value: Any) -> Iterator[Any]:
    """The words that give a value on the command line, one after the other."""
    if isinstance(value, tuple):
        for item in value:
            yield from flat(item)
    else:
        yield value


def leaves(value: Any, kind: Any = None, path: tuple[str, ...] = ()) -> Iterator[Leaf]:
    """All leaves below `value`; a dictionary of strings has one that is not there yet."""
    if dataclasses.is_dataclass(value):
        kinds = typing.get_type_hints(type(value))
        for field in dataclasses.fields(value):
            yield from leaves(getattr(value, field.name), kinds[field.name], (*path, field.name))
    elif isinstance(value, dict):
        kind = typing.get_args(kind)[1]
        for key, entry in value.items():
            yield from leaves(entry, kind, (*path, key))
        if not dataclasses.is_dataclass(kind):
            yield Leaf((*path, "new"), kind, empty(kind))
    elif value is not None:
        yield Leaf(path, kind, value)


def changes(before: Experiment, after: Experiment) -> dict[tuple[str, ...], Any]:
    """The leaves of `after` that differ from those of `before`."""
    values = {leaf.path: leaf.value for leaf in leaves(before)}
    return {leaf.path: leaf.value for leaf in leaves(after) if values.get(leaf.path) != leaf.value}


def experiment_of(config: str, *options: str) -> Experiment:
    return parse(["--config", str(ROOT / "configs" / config), "--workdir", "run", *options])[1]


@functools.cache
def checked_classes() -> set[type]:
    """The classes of all configs that check their values."""
    classes = set()

    def visit(value: Any) -> None:
        if hasattr(value, "__post_init__"):
            classes.add(type(value))
        for member in vars(value).values():
            if dataclasses.is_dataclass(member):
                visit(member)

    for config in ALL:
        experiment = load_config(str(ROOT / "configs" / config))
        for part in (experiment.system, experiment.train, *experiment.data.streams.values()):
            visit(part)
    return classes


@pytest.fixture
def unchecked(monkeypatch) -> None:
    """Values that a class would refuse are let through: it is the parser that is tested."""
    for checked in checked_classes():
        monkeypatch.setattr(checked, "__post_init__", lambda self: None)


@pytest.mark.parametrize("config", ALL)
def test_all_fields_of_a_config_can_be_overridden_together(config, unchecked):
    default = load_config(str(ROOT / "configs" / config))
    everything = list(leaves(default))
    assert experiment_of(config) == default
    result = experiment_of(config, *(option for leaf in everything for option in leaf.options))
    assert changes(default, result) == {leaf.path: leaf.other for leaf in everything}


def halves(items: list[Leaf]) -> Iterator[list[Leaf]]:
    """Selections such that for any two items one has the first without the second."""
    for bit in range(len(items).bit_length()):
        for side in (0, 1):
            yield [item for index, item in enumerate(items) if index >> bit & 1 == side]


@pytest.mark.parametrize("config", CONFIGS)
def test_an_option_changes_its_own_field_only(config, unchecked):
    tested = set()
    for variant in variants(config):
        default = load_config(str(ROOT / "configs" / f"{config}:{variant}"))
        new = [leaf for leaf in leaves(default) if (leaf.path, leaf.kind) not in tested]
        tested |= {(leaf.path, leaf.kind) for leaf in new}
        for half in halves(new):
            result = experiment_of(f"{config}:{variant}", *(option for leaf in half for option in leaf.options))
            assert changes(default, result) == {leaf.path: leaf.other for leaf in half}
    assert len(tested) > 50


@pytest.mark.parametrize("config", CONFIGS)
def test_debug_adds_no_field(config):
    for variant in variants(config):
        path = ROOT / "configs" / config
        full, small = load_config(f"{path}:{variant}"), load_config(f"{path}:{variant},debug")
        assert {(leaf.path, leaf.kind) for leaf in leaves(small)} <= {(leaf.path, leaf.kind) for leaf in leaves(full)}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ("--data.streams.cvae.recipe", "mixer"),
            r"--data.streams.cvae.recipe must be one of 'random-split', .*'remix'",
        ),
        (("--data.streams.cvae.recipe.presense", "1"), r"did you mean '--data.streams.cvae.recipe.presence'\?"),
        (("--data.streams.cvea.corpus", "x"), r"did you mean '--data.streams.cvae.corpus'\?"),
        (("--data.validation.cvea.corpus", "x"), r"unknown option '--data.validation.cvea.corpus'"),
        (("--system.visual.frames", "x"), r"unknown option '--system.visual.frames'"),
        (("--train.weights", "tasnet"), r"--train.weights takes pairs of a name and a value, not tasnet"),
        (("--train.weights.tasnet",), r"--train.weights.tasnet needs a value"),
        (("--train.steps", "many"), r"--train.steps must be an integer, not 'many'"),
        (("--train.steps", "-1"), r"^train.steps must be 0 or more, not -1$"),
        (("--train.precision", "float8"), r"--train.precision must be one of 'float32', 'bfloat16', not 'float8'"),
        (("--data.streams.cvae.recipe.gain", "1"), r"--data.streams.cvae.recipe.gain needs 2 values"),
        (("--config",), r"--config needs a value"),
        (("--plan", "-1"), r"--plan must be a number of devices, h100:8, h100:8x8 or tpu-v5e:4x4, not '-1'"),
        (("extra",), r"unknown argument 'extra'"),
    ],
)
def test_mistakes_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        experiment_of("lee2019.py", *options)


def test_help_needs_no_config(capsys):
    with pytest.raises(SystemExit) as exit_:
        parse(["--help"])
    assert exit_.value.code == 0
    text = capsys.readouterr().out
    assert "usage: qsep train" in text
    assert "Example: qsep train --config" in text
    assert "--train.learning" not in text
    with pytest.raises(ValueError, match=r"--config is missing. Example: qsep train"):
        parse(["--workdir", "run"])
    with pytest.raises(ValueError, match=r"--workdir is missing. Example: qsep train"):
        parse(["--config", str(ROOT / "configs" / "lee2019.py")])


def test_help_lists_the_options_of_a_config(capsys):
    with pytest.raises(SystemExit):
        experiment_of("slizovskaia2021.py:exp12", "--help")
    text = capsys.readouterr().out
    assert "usage: qsep train" in text
    for option in ("--system.visual {visual,none}", "--system.visual.frames INT", "--train.weights.resnet STR"):
        assert option in text
