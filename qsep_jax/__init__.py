"""Conditioned music source separation on accelerators, in JAX and Flax.

`qsep_jax.load(name)` gives a `Separator`; see `qsep_jax.api`. Importing the package imports nothing else.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qsep_jax.api import Cancelled, ModelInfo, Request, Separator, Synthesis, Transcription, list_models, load

__version__ = "0.1.0"
__all__ = ["Cancelled", "ModelInfo", "Request", "Separator", "Synthesis", "Transcription", "list_models", "load"]


def __getattr__(name: str) -> Any:
    """The names of `qsep_jax.api`, imported at first use."""
    if name not in __all__:
        raise AttributeError(f"module 'qsep_jax' has no attribute '{name}'")
    from qsep_jax import api

    return getattr(api, name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
