"""Variables of systems for tests, initialised once per system: compiling `init` takes longer than most tests."""

import functools
from collections.abc import Callable

import jax

from qsep_jax.systems.base import System, Variables


@functools.cache
def _initialise(system: System) -> Callable[[jax.Array], Variables]:
    return jax.jit(lambda key: system.init(key, {}))


@functools.cache
def _initialised(system: System, seed: int) -> Variables:
    return _initialise(system)(jax.random.key(seed))


def variables_of(system: System, seed: int = 0) -> Variables:
    """The variables of `system.init` for a seed; the dictionaries are the caller's to change."""
    return jax.tree.map(lambda leaf: leaf, _initialised(system, seed))
