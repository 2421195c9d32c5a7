"""A trained system with its variables on the local devices."""

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp

from qsep_jax.systems.base import Condition, System, Variables
from qsep_jax.training.sharding import make_mesh, replicated


@dataclasses.dataclass(frozen=True)
class Model:
    """A system with its variables. Two models are equal only if they are the same object."""

    system: System
    variables: Variables

    __hash__ = object.__hash__
    __eq__ = object.__eq__


def on_all_devices(system: System, variables: Variables) -> Model:
    """The model with its variables replicated on all local devices, which share the chunks of a signal."""
    return Model(system, jax.device_put(variables, replicated(make_mesh(jax.local_devices()))))


def condition_shapes(model: Model) -> Condition:
    """The shapes of the condition of one query, a tree of `[1, …]`, without computing it."""
    query = jax.ShapeDtypeStruct((1, model.system.query_samples, 1), jnp.float32)
    return jax.eval_shape(lambda cue: model.system.condition(model.variables, {"query": cue}), query)


def cache_compilations() -> None:
    """Cache compiled programs in the user's cache folder, unless the configuration of JAX names another folder."""
    if not jax.config.jax_compilation_cache_dir:  # pyright: ignore[reportAttributeAccessIssue]
        jax.config.update("jax_compilation_cache_dir", str(Path.home() / ".cache" / "qsep_jax" / "compiled"))
