"""Selection of the parameters that a phase trains, as a flat dict from path to array."""

from typing import Any

from flax.traverse_util import flatten_dict, unflatten_dict
from jax import Array

Flat = dict[str, Array]


def select(params: dict[str, Any], prefixes: tuple[str, ...]) -> Flat:
    """Select the parameters at or below any of the prefixes.

    Prefixes consist of complete names: `"tasnet/repeat_4"` does not match `"tasnet/repeat_40"`.

    Raises:
      ValueError: if a prefix matches nothing.
    """
    flat = flatten_dict(params, sep="/")
    selected: Flat = {}
    for prefix in prefixes:
        below = {path: leaf for path, leaf in flat.items() if path == prefix or path.startswith(prefix + "/")}
        if not below:
            networks = sorted({path.split("/")[0] for path in flat})
            raise ValueError(f"no parameter is at or below '{prefix}'; the networks are {', '.join(networks)}")
        selected |= below
    return dict(sorted(selected.items()))


def replace(params: dict[str, Any], part: Flat) -> dict[str, Any]:
    """Return `params` with the arrays of `part` replaced."""
    return unflatten_dict(flatten_dict(params, sep="/") | part, sep="/")
