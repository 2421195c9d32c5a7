"""Bounds of the numbers of a system, which come from a config: a file of somebody else, or an option.

Every whole number of a system, and of the dataclasses and tuples in it, must be at least 1, unless its default is
lower or `bounded` declares another bound. So a hop of 0 is one line, not an endless loop.
"""

import dataclasses
import functools
import math
import types
import typing
from typing import Any, Union

import numpy as np

# Bounds of what declares none.
MOST = 2**31 - 1
# Elements of a tuple: levels of a network, or stems.
LONGEST = 4096
# Levels of a network: each of them halves an axis or doubles a number of channels.
MOST_LEVELS = 32
# Samples of a window, STFT frames of a chunk, pixels of the side of a video frame, and players or frames of each.
LONGEST_WINDOW, MOST_FRAMES, MOST_PIXELS, MOST_PLAYERS = 2**17, 2**20, 2**12, 2**10


def bounded(default: Any, least: int = 1, most: int = MOST, shortest: int = 1, longest: int = LONGEST) -> Any:
    """Declare the bounds of a field of a system: `hop_length: int = bounded(256, most=2**20)`.

    Args:
      default: Default of the field.
      least, most: Bounds of its number, or of the numbers in its tuple.
      shortest, longest: Bounds of the number of elements of its tuple.
    """
    bounds = {"least": least, "most": most, "shortest": shortest, "longest": longest}
    return dataclasses.field(default=default, metadata=bounds)


def check_fields(value: Any, path: str = "system") -> None:
    """Check the numbers of a dataclass and of those in it.

    Args:
      path: What messages call it.

    Raises:
      ValueError: if a number is out of its bounds or not finite, or a tuple is too long, or empty where its default is
        not; names the field.
    """
    kinds = _annotations(type(value))
    for field in dataclasses.fields(value):
        item, bounds = getattr(value, field.name), field.metadata
        default = None if field.default is dataclasses.MISSING else field.default
        least = bounds.get("least", min((1, *_numbers(default))))
        name = f"{path}.{field.name}"
        is_filled = isinstance(default, tuple) and bool(default)
        if isinstance(item, tuple) and not item and bounds.get("shortest", is_filled):
            raise ValueError(f"{name} must have at least one element")
        longest = bounds.get("longest", LONGEST)
        _check(kinds.get(field.name), item, name, (least, bounds.get("most", MOST), longest), default)


def _check(kind: Any, item: Any, name: str, bounds: tuple[int, int, int], default: Any) -> None:
    least, most, longest = bounds
    if dataclasses.is_dataclass(item) and not isinstance(item, type):
        check_fields(item, name)
    elif isinstance(item, tuple):
        if len(item) > longest:
            raise ValueError(f"{name} must have at most {longest} elements, not {len(item)}")
        for number, element in enumerate(item):
            _check(_element_kind(kind, number), element, name, bounds, default)
    elif isinstance(item, float):
        if not math.isfinite(item) and item != default:
            raise ValueError(f"{name} must be a finite number, not {item}")
    elif _is_whole(kind) and isinstance(item, int | np.integer) and not isinstance(item, bool):
        _check_number(int(item), least, most, name)


def _check_number(number: int, least: int, most: int, name: str) -> None:
    if not least <= number <= most:
        wanted = f"at least {least}" if number < least else f"at most {most}"
        raise ValueError(f"{name} must be {wanted}, not {number if abs(number) < 10**18 else 'a larger number'}")


def _numbers(default: Any) -> list[int]:
    """Return the whole numbers of a default: itself, or those in its tuple."""
    values = default if isinstance(default, tuple) else (default,)
    return [value for value in values if isinstance(value, int) and not isinstance(value, bool)]


def _is_whole(kind: Any) -> bool:
    """Return whether a field of this annotation holds whole numbers, and neither fractions nor names of choices."""
    kinds = typing.get_args(kind) if typing.get_origin(kind) in (Union, types.UnionType) else (kind,)
    return int in kinds and float not in kinds


def _element_kind(kind: Any, number: int) -> Any:
    """Return the annotation of an element of a tuple, None if the annotation does not say."""
    kinds = typing.get_args(kind) if typing.get_origin(kind) in (Union, types.UnionType) else (kind,)
    arguments = next((typing.get_args(one) for one in kinds if typing.get_origin(one) is tuple), ())
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        return arguments[0]
    return arguments[number] if number < len(arguments) else None


@functools.cache
def _annotations(kind: type) -> dict[str, Any]:
    try:
        return typing.get_type_hints(kind)
    except (NameError, TypeError):  # names that only a type checker knows
        return {field.name: type(field.default) for field in dataclasses.fields(kind)}
