"""Compiler options of XLA for the networks: the defaults, except for convolutions on CPU.

On CPU, XLA (at least in jax 0.10) computes convolutions either with Eigen or with YNNPACK, and prefers YNNPACK. With
YNNPACK the convolutions of these networks were up to four times as slow, and training steps took up to a fifth longer
(docs/scaling.md).
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax

# The operations for which YNNPACK is used on CPU: XLA's default without LIBRARY_FUSION_TYPE_INDIVIDUAL_CONVOLUTION.
YNNPACK = "xla_cpu_experimental_ynn_fusion_type"
ON_CPU = {YNNPACK: "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT,LIBRARY_FUSION_TYPE_REDUCE"}


def jit(function: Callable[..., Any], **arguments: Any) -> Callable[..., Any]:
    """Wrap `jax.jit` with the compiler options of `options()`, which are determined at the first call.

    The result must not be called inside another `jax.jit`.
    """

    @functools.cache
    def jitted() -> Callable[..., Any]:
        return jax.jit(function, compiler_options=options(), **arguments)

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        return jitted()(*args, **kwargs)

    return call


def options(user_options: Mapping[str, str] | None = None, platform: str | None = None) -> dict[str, Any]:
    """Compiler options of `jax.jit`: this project's defaults, overridden by `user_options`.

    Args:
      user_options: Options of XLA by their names, with or without dashes in front.
      platform: Platform to compile for, that of the default devices if it is None. Options for another platform are
        not checked here; XLA checks them when it compiles.

    Raises:
      ValueError: if XLA does not know one of `user_options` or refuses its value.
    """
    switches = {"true": True, "false": False}
    requested = {
        name.removeprefix("--"): switches.get(value.lower(), value) for name, value in (user_options or {}).items()
    }
    if platform not in (None, jax.default_backend()):
        return requested
    error = _refusal(requested)
    if error:
        raise ValueError(f"train.xla_flags {dict(user_options or {})}: {error}")
    return {**_defaults(), **requested}


@functools.cache
def _defaults() -> dict[str, Any]:
    """This project's options, which only affect speed: none on accelerators, and none if XLA no longer knows them."""
    return ON_CPU if jax.default_backend() == "cpu" and not _refusal(ON_CPU) else {}


def _refusal(options: dict[str, Any]) -> str:
    """Return XLA's error message for options that it refuses, or an empty string."""
    try:
        if options:
            jax.jit(lambda: 0, compiler_options=options).lower().compile()
    except (ValueError, jax.errors.JaxRuntimeError) as error:
        return str(error).splitlines()[0]
    return ""
