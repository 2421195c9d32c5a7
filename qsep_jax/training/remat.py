"""What the backward pass of a phase finds stored, and what it computes again instead, by named policies.

Activations are what fills an accelerator's memory. Of a layer here, a convolution with a norm and a non-linearity,
three images are kept if nothing is said: what the norm takes, what the non-linearity takes, and what the next
convolution takes. The last two follow from the first by a pass over it.
"""

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp

from qsep_jax.nn.conv_ops import CONV

# What is computed again: nothing, or all that lies between convolutions.
Remat = Literal["nothing", "between_convs"]


def rematerialised(function: Callable, remat: Remat) -> Callable:
    """The function, with gradients that keep of it what the policy says. Its value stays what it is."""
    return function if remat == "nothing" else jax.checkpoint(function, policy=_convs_and_sums)


def _convs_and_sums(primitive: Any, *inputs: Any, **parameters: Any) -> bool:
    """Sums are small, and of a batch that is split over devices they cost an exchange."""
    if primitive.name == "reduce_sum":
        return jnp.issubdtype(inputs[0].dtype, jnp.floating)  # JAX keeps no complex ones
    return primitive.name == "name" and parameters["name"] == CONV
