"""Separation of signals of any length and channel count by a trained system."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from qsep_jax.inference.chunks import default_plan, over_chunks
from qsep_jax.systems.base import Condition, System, Variables

# Chunks that go through the model at a time.
BATCH = 8


@dataclasses.dataclass(frozen=True)
class Model:
    """A system with its variables, ready to be used. Compares by identity."""

    system: System
    variables: Variables

    __hash__ = object.__hash__
    __eq__ = object.__eq__


@partial(jax.jit, static_argnums=0)
def _separate(system: System, variables: Variables, chunks: Array, condition: Condition) -> Array:
    """`[B, T]` chunks and a condition of `[1, …]` → `[B, S, T]`."""
    conditions = jax.tree.map(lambda leaf: jnp.repeat(leaf, chunks.shape[0], axis=0), condition)
    return system.separate(variables, chunks[..., None], conditions)[..., 0]


def separate(model: Model, mixture: np.ndarray, condition: Condition) -> np.ndarray:
    """Separate `[T, C]` at the model's rate: float32 `[S, T, C]`, S = 1 for a queried source.

    `condition` is that of one query, a tree of `[1, …]`; all channels share it.
    """
    plan = default_plan(model.system.chunk_samples)

    def process(chunks: np.ndarray) -> np.ndarray:
        return np.asarray(_separate(model.system, model.variables, chunks, condition))

    return over_chunks(mixture, plan, BATCH, process)
