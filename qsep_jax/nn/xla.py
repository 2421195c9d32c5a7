"""How XLA compiles the networks: as it chooses, but for convolutions on CPU.

There XLA (of jax 0.10 at least) has two ways, Eigen's and YNNPACK's, and takes YNNPACK's, by which the convolutions of
these networks were up to four times as slow, and training steps took up to a fifth longer (docs/scaling.md).
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax

# What YNNPACK is for on CPU: of XLA's own choice all but LIBRARY_FUSION_TYPE_INDIVIDUAL_CONVOLUTION.
YNNPACK = "xla_cpu_experimental_ynn_fusion_type"
ON_CPU = {YNNPACK: "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT,LIBRARY_FUSION_TYPE_REDUCE"}


def jit(function: Callable[..., Any], **arguments: Any) -> Callable[..., Any]:
    """`jax.jit` with `options()`, which are asked for at the first call; not to be called within another `jax.jit`."""

    @functools.cache
    def jitted() -> Callable[..., Any]:
        return jax.jit(function, compiler_options=options(), **arguments)

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        return jitted()(*args, **kwargs)

    return call


def options(given: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Compiler options, for `jax.jit`, of what runs on the default devices: `given`, and our own beside them.

    Raises:
      ValueError: if XLA does not know one of those given, or not its value.
    """
    switches = {"true": True, "false": False}
    asked = {name.removeprefix("--"): switches.get(value.lower(), value) for name, value in (given or {}).items()}
    refused = _refused(asked)
    if refused:
        raise ValueError(f"train.xla_flags {dict(given or {})}: {refused}")
    return {**_own(), **asked}


@functools.cache
def _own() -> dict[str, Any]:
    """None on accelerators, nor where XLA knows them no longer: they are about speed alone."""
    return ON_CPU if jax.default_backend() == "cpu" and not _refused(ON_CPU) else {}


def _refused(options: dict[str, Any]) -> str:
    """What XLA says against options, empty if nothing."""
    try:
        if options:
            jax.jit(lambda: 0, compiler_options=options).lower().compile()
    except (ValueError, jax.errors.JaxRuntimeError) as error:
        return str(error).splitlines()[0]
    return ""
