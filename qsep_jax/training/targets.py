"""Devices that a step is compiled for: those of this machine, simulated CPU devices, or accelerators that are not here.

JAX compiles the program of an accelerator without one, if its compiler is installed (the extra `aot`). The program can
be examined (`qsep_jax.training.program`) and not run.
"""

import dataclasses
import importlib.util
import math
import re

import jax
from jax.experimental import topologies
from jax.extend.backend import clear_backends
from jax.sharding import Mesh

from qsep_jax.training import sharding

INSTALL = "pip install 'qsep-jax[aot]'"


@dataclasses.dataclass(frozen=True)
class Chip:
    """What the data sheet of an accelerator states.

    Attributes:
      platform: JAX's name of its platform.
      memory: Bytes of its memory.
      flops: Floating-point operations per second in matrix products, by the precision of the network bodies. On a GPU,
        float32 is computed as TF32; a TPU multiplies in bfloat16.
      bandwidth: Bytes per second that it reads from or writes to its memory.
      link: Bytes per second to the other devices of a host or slice, in each direction.
      network: The same to devices of other hosts; on TPUs, all hosts of a slice are connected by the links.
    """

    platform: str
    memory: int
    flops: dict[str, float]
    bandwidth: float
    link: float
    network: float


# NVIDIA: H100 SXM5 data sheet, without sparsity; 400 Gbit/s of InfiniBand for each GPU. Google: documentation of Cloud
# TPU; a chip of v5p is one device, as of v5e and v6e.
CHIPS = {
    "h100": Chip("cuda", 84_942_979_072, {"float32": 494.7e12, "bfloat16": 989.4e12}, 3_352e9, 450e9, 50e9),
    "tpu-v5e": Chip("tpu", 16 * 2**30, {"float32": 197e12, "bfloat16": 197e12}, 819e9, 200e9, 200e9),
    "tpu-v5p": Chip("tpu", 95 * 2**30, {"float32": 459e12, "bfloat16": 459e12}, 2_765e9, 600e9, 600e9),
    "tpu-v6e": Chip("tpu", 32 * 2**30, {"float32": 918e12, "bfloat16": 918e12}, 1_640e9, 448e9, 448e9),
}
# What XLA must know of a GPU that it compiles for, a `GpuTargetConfigProto`.
_H100 = """
gpu_device_info {
  threads_per_block_limit: 1024 threads_per_warp: 32 shared_memory_per_block: 49152 shared_memory_per_core: 233472
  threads_per_core_limit: 2048 core_count: 132 fpus_per_core: 128
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  memory_bandwidth: 3352320000000 l2_cache_size: 52428800 clock_rate_ghz: 1.98 device_memory_size: 84942979072
  shared_memory_per_block_optin: 232448 cuda_compute_capability { major: 9 minor: 0 }
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 8 patch: 0 }
device_description_str: "NVIDIA H100 80GB HBM3"
"""
# The modules that compile for a platform.
_COMPILERS = {"cuda": "jax_cuda12_plugin", "tpu": "libtpu"}
_FORM = re.compile(r"(?:(?P<chip>[a-z][a-z0-9-]*):)?(?P<sizes>\d+(?:x\d+)*)", re.ASCII)


@dataclasses.dataclass(frozen=True)
class Target:
    """The devices that a step is compiled for.

    Attributes:
      chip: Name of the accelerator in `CHIPS`; empty for the devices of this machine and simulated ones.
      shape: Number of devices along each axis: hosts and devices of a host for a GPU, the slice for a TPU.
    """

    chip: str
    shape: tuple[int, ...]

    @property
    def devices(self) -> int:
        """Number of devices."""
        return math.prod(self.shape)

    @property
    def link(self) -> float:
        """Bytes per second between the devices that are the farthest apart, in each direction."""
        sheet = CHIPS[self.chip]
        return sheet.network if sheet.platform == "cuda" and len(self.shape) == 2 else sheet.link

    @property
    def data_sheet(self) -> Chip | None:
        """The data sheet of the accelerator, None for the devices of this machine."""
        return CHIPS.get(self.chip)

    def __str__(self) -> str:
        sizes = "x".join(map(str, self.shape))
        return f"{self.chip}:{sizes}" if self.chip else sizes


def parse(text: str) -> Target:
    """The target that an option names: `8`, `h100:8`, `h100:8x8` (hosts × devices of each) or `tpu-v5e:4x4` (slice).

    Raises:
      ValueError: if it is of another form, or the accelerator is not known.
    """
    match = _FORM.fullmatch(text)
    if match is None or not all(sizes := [int(size) for size in match["sizes"].split("x")]):
        raise ValueError(f"--plan must be a number of devices, h100:8, h100:8x8 or tpu-v5e:4x4, not '{text}'")
    chip = match["chip"] or ""
    if chip and chip not in CHIPS:
        raise ValueError(f"--plan {text}: '{chip}' is not known; accelerators are {', '.join(CHIPS)}")
    axes = {"": (1,), "h100": (1, 2), "tpu-v5p": (3,)}.get(chip, (2,))
    if len(sizes) not in axes:
        raise ValueError(f"--plan {text}: give {' or '.join(map(str, axes))} numbers, separated by x")
    return Target(chip, tuple(sizes))


def mesh_of(target: Target) -> Mesh:
    """The mesh of a target. Nothing can be placed on accelerators that are not here.

    For these, `qsep_jax.command_line.console.compile_without_devices` must have been called before JAX is used.

    Raises:
      ValueError: if the compiler for an accelerator is not installed, or refuses the shape.
    """
    sheet = target.data_sheet
    if sheet is None:
        return _local(target.devices)
    if importlib.util.find_spec(_COMPILERS[sheet.platform]) is None:
        raise ValueError(f"the compiler for {target.chip} is not installed: {INSTALL}")
    try:
        if sheet.platform == "tpu":
            name = f"{target.chip.removeprefix('tpu-')}:{'x'.join(map(str, target.shape))}"
            topology = topologies.get_topology_desc(name, platform="tpu")
        else:
            hosts, devices = target.shape if len(target.shape) == 2 else (1, *target.shape)
            name = f"1x{hosts}x{devices}"
            topology = topologies.get_topology_desc("", platform="cuda", topology=name, target_config=_H100)
    except (jax.errors.JaxRuntimeError, RuntimeError, NotImplementedError, ValueError) as error:
        raise ValueError(f"--plan {target}: {str(error).splitlines()[0]}") from None
    return sharding.make_mesh(topology.devices)


def _local(count: int) -> Mesh:
    """A mesh of `count` devices: accelerators if there are enough, otherwise simulated CPU devices."""
    devices = jax.devices()
    if len(devices) < count:
        clear_backends()
        jax.config.update("jax_platforms", "cpu")
        jax.config.update("jax_num_cpu_devices", count)
        devices = jax.devices()
    return sharding.make_mesh(devices[:count])
