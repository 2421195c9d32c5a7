"""What the machine can do at its best: the yardsticks that steps are held against, measured in the same rounds."""

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.timing import rows
from benchmarks.timing.contestants import Facts, Run
from qsep_jax.training import cost

# A square matrix product and a copy that take long enough to be timed, by platform.
MATRIX, COPY = {"cpu": 1536}, {"cpu": 2**25}
LARGE_MATRIX, LARGE_COPY = 8192, 2**28


def make_product(precision: str, devices: int) -> tuple[Run, Facts]:
    """A matrix product on each device, in what steps of this precision compute in; `flops` of all together."""
    found = jax.devices()[: devices or None]
    size = MATRIX.get(found[0].platform, LARGE_MATRIX)
    rng, mesh = np.random.default_rng(0), jax.make_mesh((len(found),), ("data",), devices=found)
    factors = rng.standard_normal((2, len(found), size, size), np.float32)
    split = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(None, "data"))
    left, right = jax.device_put(jnp.asarray(factors, jnp.dtype(precision)), split)
    product = jax.jit(jnp.matmul)

    def run() -> None:
        jax.block_until_ready(product(left, right))

    run()
    return run, {"flops": cost.total(cost.cost_of(jnp.matmul, left, right)).flops}


def make_copy(devices: int) -> tuple[Run, Facts]:
    """Reads and writes float32 that fit into no cache, on each device; `bytes` of all together."""
    found = jax.devices()[: devices or None]
    size = COPY.get(found[0].platform, LARGE_COPY)
    mesh = jax.make_mesh((len(found),), ("data",), devices=found)
    split = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    numbers = jax.device_put(np.ones((len(found), size), np.float32), split)
    moved = jax.jit(lambda x: x + 1.0, donate_argnums=0)  # in place: taking new memory would be timed, too

    def run() -> None:
        nonlocal numbers
        numbers = jax.block_until_ready(moved(numbers))

    moving = 2.0 * numbers.nbytes
    run()
    return run, {"bytes": moving}


def bounds(costs: cost.Costs, flops_per_s: float, bytes_per_s: float) -> list[rows.Row]:
    """For each module the least seconds that it could take, and what binds it: `compute` or `memory`; longest first.

    The roofline: no faster than its operations at the best rate, nor than its bytes at the best rate, if nothing stays
    in a cache from one product to the next.
    """
    found: list[rows.Row] = []
    for module, each in costs.items():
        seconds = {"compute": each.flops / flops_per_s, "memory": each.bytes / bytes_per_s}
        bound = max(seconds, key=lambda name: seconds[name])
        found.append({"module": module, "flops": each.flops, "bytes": each.bytes, "bound": bound})
        found[-1]["least_s"] = seconds[bound]
    return sorted(found, key=lambda row: -row["least_s"])
