"""Compute precision: a choice for the network bodies and nothing else.

Layers keep float32 parameters and cast them to the system's `compute_dtype` where they are used; STFT, masks, losses
and the statistics of norms stay float32. bfloat16 has the exponent of float32, so no loss scaling is needed. On GPUs
"float32" means what XLA does by default there, TF32 in matrix products; `jax_default_matmul_precision` changes that.
"""

import dataclasses

from qsep_jax.systems.base import System

PRECISIONS = ("float32", "bfloat16")


def with_precision(system: System, precision: str) -> System:
    """The same system computing its network bodies in `precision`."""
    if precision not in PRECISIONS:
        raise ValueError(f"unknown precision '{precision}'; there are {', '.join(PRECISIONS)}")
    return dataclasses.replace(system, compute_dtype=precision)  # pyright: ignore[reportArgumentType]
