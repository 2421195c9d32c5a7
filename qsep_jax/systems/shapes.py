"""Shapes of the variables of a system, with which whatever comes from a file is compared before it is used."""

import functools
import math
import os
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np
from flax.errors import FlaxError
from flax.traverse_util import flatten_dict
from jax.extend import core

from data_pipelines.files import first_line
from qsep_jax.systems.base import System, Variables

# Collections of variables that are weights and statistics of networks; others are the state of a training.
_OF_NETWORKS = ("params", "batch_stats")
# What flax, JAX and Python raise for sizes that do not fit together, while shapes are computed.
_MISFITS = (TypeError, ValueError, IndexError, KeyError, ZeroDivisionError, OverflowError, FlaxError)


@functools.lru_cache(maxsize=16)
def variable_shapes(system: System) -> Variables:
    """Return the shapes of the variables that `system.init` returns, without computing or allocating anything.

    Raises:
      ValueError: if the numbers of the system do not fit together, or its variables, or an array of one example, need
        more memory than this machine has.
    """
    kind = type(system).__name__
    try:
        program, shapes = jax.make_jaxpr(lambda key: system.init(key, _Noise(system)), return_shape=True)(
            jax.random.key(0)
        )
    except _MISFITS as error:
        raise ValueError(
            f"the sizes of this {kind} do not fit together ({first_line(error)}): correct its config"
        ) from error
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    count = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes))
    if 4 * count > memory:
        raise ValueError(
            f"the networks of this {kind} have {count:,} parameters, {4 * count / 1e9:,.0f} GB, more than the "
            f"{memory / 1e9:.0f} GB of this machine: correct its config"
        )
    largest = max(_bytes_of_arrays(program.jaxpr), default=0)
    if largest > memory:
        raise ValueError(
            f"one example of this {kind} takes {largest / 1e9:,.0f} GB, more than the {memory / 1e9:.0f} GB of this "
            "machine: correct its config"
        )
    return shapes


class _Noise(Mapping[str, Any]):
    """The batch whose shapes `init` gets; it is made only if the system looks at it."""

    def __init__(self, system: System):
        self._system = system

    @functools.cached_property
    def _batch(self) -> Mapping[str, Any]:
        return self._system.noise(np.random.default_rng(0), 1)

    def __getitem__(self, key: str) -> Any:
        return self._batch[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._batch)

    def __len__(self) -> int:
        return len(self._batch)


def _bytes_of_arrays(program: core.Jaxpr) -> Iterator[int]:
    """Yield the bytes of every array that a program computes."""
    for equation in program.eqns:
        for variable in equation.outvars:
            aval: Any = variable.aval
            # Keys of random numbers have a dtype without an item size.
            yield math.prod(aval.shape) * getattr(aval.dtype, "itemsize", 4)
        for value in jax.tree.leaves(equation.params, is_leaf=_is_program):
            if _is_program(value):
                yield from _bytes_of_arrays(value.jaxpr if isinstance(value, core.ClosedJaxpr) else value)


def _is_program(value: Any) -> bool:
    return isinstance(value, core.ClosedJaxpr | core.Jaxpr)


def check_tree(arrays: Any, like: Any, where: str) -> None:
    """Check that variables have the names, shapes and dtypes of the tree `like`, and hold no NaN.

    Weights and batch norm statistics must not be infinite either; the lowest loss of a curriculum is, at first.

    Args:
      where: What the arrays are, at the beginning of messages.

    Raises:
      ValueError: if not; names the first array that differs.
    """
    check_names_and_shapes(arrays, like, where)
    flat: dict[str, Any] = dict(flatten_dict(arrays, sep="/"))
    expected: dict[str, Any] = dict(flatten_dict(like, sep="/"))
    for path, leaf in expected.items():
        if np.dtype(flat[path].dtype) != np.dtype(leaf.dtype):
            raise ValueError(f"{where}/{path} has dtype {flat[path].dtype}, this model expects {leaf.dtype}")
    for path, leaf in flat.items():
        of_network = path.split("/")[0] in _OF_NETWORKS
        check_finite({path: leaf if of_network else np.where(np.isinf(leaf), 0, leaf)}, where)


def check_names_and_shapes(arrays: Any, like: Any, where: str) -> None:
    """Check that two trees of arrays have the same names and shapes, as `check_tree` does.

    Raises:
      ValueError: if not; names the first array that differs.
    """
    flat: dict[str, Any] = dict(flatten_dict(arrays, sep="/"))
    expected: dict[str, Any] = dict(flatten_dict(like, sep="/"))
    if missing := sorted(set(flat) ^ set(expected)):
        raise ValueError(f"{where} is of another form: '{missing[0]}' is in only one of file and model")
    for path, leaf in expected.items():
        if np.shape(flat[path]) != leaf.shape:
            raise ValueError(f"{where}/{path} has shape {np.shape(flat[path])}, this model expects {leaf.shape}")


def check_finite(arrays: Mapping[str, Any], where: str) -> None:
    """Check that arrays by name hold neither NaN nor infinity.

    Raises:
      ValueError: if one does; names it.
    """
    for name, array in arrays.items():
        if np.issubdtype(array.dtype, np.inexact) and not np.isfinite(np.asarray(array)).all():
            raise ValueError(f"{where}/{name} holds values that are not finite: the model is damaged")
