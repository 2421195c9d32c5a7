"""Command-line arguments that decide which options a config has: the class of a field, the entries of a dictionary.

tyro makes an option of each field of a default value, such as `--data.streams.cvae.recipe.presence`. Where a field can
hold one of several classes, or is a dictionary, its options depend on further arguments. `Overrides` reads those first
and changes the default accordingly:

- `--system.visual visual` and `--data.streams.cvae.recipe remix` put an object of another class there, with the
  defaults of that class; `--system.visual none` removes the object.
- `--system.visual.frames 5` puts an object there, too, where there is none and only one class is possible.
- `--train.weights.resnet FILE` adds an entry to a dictionary of strings or tuples. `--train.weights resnet FILE head
  FILE` replaces all entries of a dictionary of strings, and `--train.weights` alone removes them.
- `--data.validation.cvae.corpus NAME` adds an entry to a dictionary of objects: a copy of the entry of that name in a
  dictionary beside it, here `data.streams`.
"""

import copy
import dataclasses
import re
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar, Union

import tyro
from tyro.constructors import ConstructorRegistry, StructConstructorSpec, StructFieldSpec, StructTypeInfo

T = TypeVar("T")
NONE = "none"


@dataclasses.dataclass(frozen=True)
class Choice:
    """A field that can hold an object of one of several classes.

    Attributes:
      path: Path of the field from the experiment on, `system.visual`.
      names: Names of the classes as the command line writes them, `random-split`; `none` stands for no object.
      selected: Name of the class that the field holds.
    """

    path: str
    names: tuple[str, ...]
    selected: str

    @property
    def option(self) -> Any:
        """The type of an option that lists the classes in `--help` and refuses other names."""
        note = f"Class of {self.path}; its fields are the options {option_name(self.path)}.*."
        return Annotated[Literal[self.names], tyro.conf.arg(name=self.path, help=note)]


class Overrides:
    """Arguments of a command line, of which `apply` uses those that select classes and entries.

    Attributes:
      choices: The fields that can hold one of several classes, as selected by the arguments.
    """

    def __init__(self, arguments: Sequence[str]):
        # Each group is an option and its values; the first has what stands before all options.
        self._groups: list[list[str]] = [[]]
        for argument in arguments:
            if argument.startswith("--"):
                self._groups.append([argument])
            else:
                self._groups[-1].append(argument)
        self.choices: list[Choice] = []

    @property
    def rest(self) -> list[str]:
        """The arguments that `apply` left for tyro."""
        return [argument for group in self._groups for argument in group]

    def apply(self, default: T, path: str = "") -> T:
        """The dataclass `default`, found at `path`, with the classes and entries that the arguments select.

        The result may be one that its class refuses; other arguments may complete it.
        """
        kinds = typing.get_type_hints(type(default))
        fields = {field.name: getattr(default, field.name) for field in dataclasses.fields(default)}  # pyright: ignore
        result = copy.copy(default)
        for name, value in fields.items():
            value = self._of_field(kinds[name], value, f"{path}.{name}" if path else name, fields)
            object.__setattr__(result, name, value)  # a frozen dataclass, without the checks of `__post_init__`
        return result

    def _of_field(self, kind: Any, value: Any, path: str, siblings: Mapping[str, Any]) -> Any:
        classes = _classes(kind)
        if classes:
            value = self._of_class(classes, value, path)
        if isinstance(value, dict) and typing.get_origin(kind) is dict:
            return self._of_entries(typing.get_args(kind)[1], value, path, siblings)
        return self.apply(value, path) if dataclasses.is_dataclass(value) else value

    def _of_class(self, classes: dict[str, type | None], value: Any, path: str) -> Any:
        """An object of the class that the arguments select, or `value`."""
        present = selected = _name_of_class(type(value))
        names = (*classes, *{present}.difference(classes))  # a config may hold an object of a class of its own
        for group in self._named(path):
            values = _values(group)
            name = next((name for name in names if len(values) == 1 and _plain(name) == _plain(values[0])), "")
            if name:
                selected = name
                self._groups.remove(group)  # tyro refuses every other value
        objects = [name for name in classes if name != NONE]
        if selected == NONE and present == NONE and len(objects) == 1 and self._keys_below(path):
            selected = objects[0]
        self.choices.append(Choice(path, names, selected))
        if selected == present:
            return value
        kind = classes[selected]
        return None if kind is None else kind()

    def _of_entries(self, kind: Any, entries: dict[str, Any], path: str, siblings: Mapping[str, Any]) -> dict[str, Any]:
        """The entries of a dictionary with values of type `kind`, with those that the arguments add or remove."""
        entries = dict(entries)
        for group in self._named(path):
            values = _values(group)
            if kind is str and len(values) % 2:
                raise ValueError(f"{option_name(path)} takes pairs of a name and a value, not {' '.join(values)}")
            if kind is str or not values:
                entries = dict(zip(values[::2], values[1::2], strict=True))
                self._groups.remove(group)
        present = {option_name(key) for key in entries}
        for key in self._keys_below(path):
            if dataclasses.is_dataclass(kind):
                key = key.partition(".")[0]
                copied = [member[key] for member in siblings.values() if isinstance(member, dict) and key in member]
                if copied and option_name(key) not in present:
                    entries[key] = copied[0]
            elif option_name(key) not in present:
                # Networks and options of XLA, whose values are strings, have names with underscores.
                entries[key.replace("-", "_") if kind is str else key] = tyro.MISSING_NONPROP
        if not dataclasses.is_dataclass(kind):
            return entries
        return {key: self.apply(entry, f"{path}.{key}") for key, entry in entries.items()}

    def _named(self, path: str) -> list[list[str]]:
        """The groups of the option `--path` itself."""
        return [group for group in self._groups[1:] if option_name(_name(group)[2:]) == option_name(path)]

    def _keys_below(self, path: str) -> list[str]:
        """What follows after `--path.` in the names of options, as it was typed."""
        start = option_name(path) + "."
        names = [_name(group) for group in self._groups[1:]]
        return [name[len(start) :] for name in names if option_name(name[2:]).startswith(start)]


def option_name(path: str) -> str:
    """The option of a field or an entry, as tyro writes it."""
    return f"--{path.replace('_', '-')}"


def _name(group: Sequence[str]) -> str:
    return group[0].partition("=")[0]


def _values(group: Sequence[str]) -> list[str]:
    _, equals, inline = group[0].partition("=")
    return [inline] * bool(equals) + [*group[1:]]


def _plain(name: str) -> str:
    return name.replace("-", "").replace("_", "").lower()


def _name_of_class(kind: type) -> str:
    """`random-split` for `RandomSplit`, and `none` for the type of None."""
    return NONE if kind is type(None) else re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", kind.__name__).lower()


def _classes(kind: Any) -> dict[str, type | None]:
    """The members of a union of dataclasses, one of which may be None, by name; nothing for another type."""
    members = typing.get_args(kind) if typing.get_origin(kind) in (Union, types.UnionType) else ()
    if not any(dataclasses.is_dataclass(member) for member in members):
        return {}
    return {_name_of_class(member): None if member is type(None) else member for member in members}


def entry_options() -> ConstructorRegistry:
    """A rule for tyro: each entry of a dictionary is an option, of the type that the dictionary declares.

    tyro's own rule takes the type of the present value, and so the number of elements of a tuple.
    """
    registry = ConstructorRegistry()

    @registry.struct_rule
    def rule(info: StructTypeInfo) -> StructConstructorSpec | None:
        if typing.get_origin(info.type) is not dict or not isinstance(info.default, dict) or not info.default:
            return None
        kind = typing.get_args(info.type)[1]
        fields = (StructFieldSpec(name=key, type=kind, default=value) for key, value in info.default.items())
        return StructConstructorSpec(instantiate=dict, fields=tuple(fields))

    @registry.struct_rule
    def class_of_a_config(info: StructTypeInfo) -> StructConstructorSpec | None:
        """A config may define a class of its own, such as a recipe, which the union of the field does not list."""
        if not isinstance(info.type, type) or not dataclasses.is_dataclass(info.default):
            return None
        kinds, values = typing.get_type_hints(info.type), vars(info.default)
        classes = {name: _classes(kind).values() for name, kind in kinds.items() if values.get(name) is not None}
        own = {name for name, known in classes.items() if known and type(values[name]) not in known}
        if not own:
            return None
        kinds |= {name: type(values[name]) for name in own}
        fields = (StructFieldSpec(name=name, type=kinds[name], default=values[name]) for name in values)
        return StructConstructorSpec(instantiate=info.type, fields=tuple(fields))

    return registry
