"""What each device of a mesh does for itself, where XLA's partitioner would not see that it can."""

import math
from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import AxisType, PartitionSpec


def apply_per_device(function: Callable[..., Any], shared: Any, *batched: Any) -> Any:
    """`function(shared, *batched)`, taken by each device of its own part of the batch.

    For networks that treat the examples one by one, and for transforms. Left alone, XLA's partitioner gathers the whole
    of what a Fourier transform is taken of on every device, adds up gradients of what a loop shares between all devices
    in each round of the loop, and those of a convolution in whatever parts it is computed of. Here what devices say to
    each other are the gradients of `shared`, once.

    The mesh is that of `jax.sharding.use_abstract_mesh`, if any. Of one whose axes are mapped over already nothing is
    left to split, and a batch that the devices do not divide is not split either.

    Args:
      shared: a tree of arrays that all devices have, such as parameters.
      batched: trees of arrays `[B, …]`; so is the result.
    """
    mesh = jax.sharding.get_abstract_mesh()
    axes = [name for name, kind in zip(mesh.axis_names, mesh.axis_types, strict=True) if kind == AxisType.Auto]
    parts = math.prod(mesh.shape[name] for name in axes)
    if parts < 2 or any(leaf.shape[0] % parts for leaf in jax.tree.leaves(batched)):
        return function(shared, *batched)
    split, whole = PartitionSpec(tuple(axes)), PartitionSpec()
    specs = (whole, *[split] * len(batched))
    # Unchecked: loops within begin with constants, which would have to be declared as split.
    return jax.shard_map(function, in_specs=specs, out_specs=split, axis_names=set(axes), check_vma=False)(
        shared, *batched
    )
