"""Measure the peak rates of the machine, by which the times of steps are judged, in the same rounds as the steps."""

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.timing import rows
from benchmarks.timing.contestants import Facts, Run
from qsep_jax.training import cost

# Sizes of a square matrix product and of a copy that take long enough to be timed, by platform.
MATRIX, COPY = {"cpu": 1536}, {"cpu": 2**25}
LARGE_MATRIX, LARGE_COPY = 8192, 2**28


def make_product(precision: str, devices: int) -> tuple[Run, Facts]:
    """A matrix product on each device, in the given precision; the fact `flops` is the sum over the devices."""
    devices_used = jax.devices()[: devices or None]
    size = MATRIX.get(devices_used[0].platform, LARGE_MATRIX)
    rng, mesh = np.random.default_rng(0), jax.make_mesh((len(devices_used),), ("data",), devices=devices_used)
    factors = rng.standard_normal((2, len(devices_used), size, size), np.float32)
    split = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(None, "data"))
    left, right = jax.device_put(jnp.asarray(factors, jnp.dtype(precision)), split)
    product = jax.jit(jnp.matmul)

    def run() -> None:
        jax.block_until_ready(product(left, right))

    run()
    return run, {"flops": cost.total(cost.cost_of(jnp.matmul, left, right)).flops}


def make_copy(devices: int) -> tuple[Run, Facts]:
    """A copy on each device of more float32 than caches hold; the fact `bytes` is the sum over the devices."""
    devices_used = jax.devices()[: devices or None]
    size = COPY.get(devices_used[0].platform, LARGE_COPY)
    mesh = jax.make_mesh((len(devices_used),), ("data",), devices=devices_used)
    split = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    numbers = jax.device_put(np.ones((len(devices_used), size), np.float32), split)
    copy = jax.jit(lambda x: x + 1.0, donate_argnums=0)  # in place: an allocation would be timed, too

    def run() -> None:
        nonlocal numbers
        numbers = jax.block_until_ready(copy(numbers))

    traffic = 2.0 * numbers.nbytes
    run()
    return run, {"bytes": traffic}


def bounds(costs: cost.Costs, flops_per_s: float, bytes_per_s: float) -> list[rows.Row]:
    """A row per module with its minimal time (`least_s`) and its bound, `compute` or `memory`; the longest first.

    This is the roofline: a module needs at least the time of its operations and at least the time of its bytes, each at
    the best rate of the machine, if no data stay in a cache between two products.
    """
    modules: list[rows.Row] = []
    for module, module_cost in costs.items():
        flops, moved_bytes = module_cost.flops, module_cost.bytes
        seconds = {"compute": flops / flops_per_s, "memory": moved_bytes / bytes_per_s}
        bound = max(seconds, key=lambda name: seconds[name])
        modules.append(
            {"module": module, "flops": flops, "bytes": moved_bytes, "bound": bound, "least_s": seconds[bound]}
        )
    return sorted(modules, key=lambda row: -row["least_s"])
