"""Computation that each device of a mesh does on its own part of the batch, without communication."""

import math
from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import AxisType, PartitionSpec


def apply_per_device(function: Callable[..., Any], shared: Any, *batched: Any) -> Any:
    """Compute `function(shared, *batched)`, each device on its own part of the batch.

    This is for networks that process the examples independently, and for transforms. XLA's partitioner does not see
    that they need no communication: it gathers the complete input of a Fourier transform on every device, reduces the
    gradients of arrays shared by a loop across devices in each iteration, and reduces the gradients of a convolution
    separately for each part that it is computed in. With this function, devices only communicate once, to reduce the
    gradients of `shared`.

    The mesh is the one set by `jax.sharding.use_abstract_mesh`. The function is called directly, without splitting, if
    there is no mesh, if all its axes are already mapped over, or if the number of devices does not divide the batch.

    Args:
      function: maps `shared` and the trees of `batched` to a tree of arrays `[B, …]`.
      shared: a tree of arrays that is replicated on all devices, such as parameters.
      batched: trees of arrays `[B, …]`.

    Returns:
      The tree of arrays `[B, …]` that `function` returns.
    """
    mesh = jax.sharding.get_abstract_mesh()
    axes = [name for name, kind in zip(mesh.axis_names, mesh.axis_types, strict=True) if kind == AxisType.Auto]
    parts = math.prod(mesh.shape[name] for name in axes)
    if parts < 2 or any(leaf.shape[0] % parts for leaf in jax.tree.leaves(batched)):
        return function(shared, *batched)
    split, replicated = PartitionSpec(tuple(axes)), PartitionSpec()
    specs = (replicated, *[split] * len(batched))
    # `check_vma` is off because loops inside start from constants, which would have to be declared as split.
    return jax.shard_map(function, in_specs=specs, out_specs=split, axis_names=set(axes), check_vma=False)(
        shared, *batched
    )
