"""Prepare the training step of a system, in JAX or in PyTorch, to be timed in a process of its own (`rounds.Make`)."""

import importlib
import importlib.util
import os
import time
from collections.abc import Callable
from operator import itemgetter
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import numpy as np
from jax import Array, lax

from benchmarks.timing.memory import MIB, check_memory, memory
from qsep_jax.command_line import console
from qsep_jax.systems.base import Phase, System, parameter_count
from qsep_jax.training import sharding
from qsep_jax.training.compiled import Compiled
from qsep_jax.training.settings import Train

Run = Callable[[], None]
Facts = dict[str, Any]


def twin_of(system: System) -> ModuleType:
    """The module with the PyTorch twin of a system.

    The module has
    * `Twin(system)`, a `torch.nn.Module` whose children have the names of the networks that phases train. Its method
      `losses(phase_name, batch, noise)` returns the loss of a phase for the batch of one update, and draws the noise
      itself if none is passed. `load(params)` copies the weights of the system into it, and `named(params)` yields
      them by the names and in the shapes of the twin;
    * `make_optimizer(twin, phase)`, the optimizer of the parameters that the phase trains;
    * `jax_noise(system, key, batch)`, the noise that the JAX loss draws from `key`;
    * `exposed_params(params)`, if some terms of the losses have no effect with freshly initialised weights: the weights
      changed so that they have;
    * `LAYOUTS`, the memory layouts to time, if the twin does not compute on images.

    Raises:
      ValueError: if the system has no twin, or PyTorch is not installed.
    """
    if importlib.util.find_spec("torch") is None:
        raise ValueError("comparing with PyTorch needs torch: pip install 'qsep-jax[twins]'")
    name = f"benchmarks.torch_twins.{type(system).__module__.rpartition('.')[2]}"
    if importlib.util.find_spec(name) is None:
        raise ValueError(f"{type(system).__name__} has no PyTorch twin")
    return importlib.import_module(name)


def noise_batch(system: System, batch_size: int, seed: int = 0) -> dict[str, Any]:
    """A batch of noise in the shapes that the system trains on; equal seeds give equal batches."""
    return dict(system.noise(np.random.default_rng(seed), batch_size))


def updates_of(phase: Phase, batch: dict[str, Any]) -> list[Any]:
    """The part of a batch (of arrays or tensors) that each update of a phase uses; one per repeat of the phase."""
    part = phase.take(batch)
    if phase.repeats == 1:
        return [part]
    return [jax.tree.map(itemgetter(number), part) for number in range(phase.repeats)]


def make_jax(system: System, train: Train, devices: int, native: bool) -> tuple[Run, Facts]:
    """The step as training compiles it, with its state donated, on the first `devices` devices (0: all).

    Args:
      native: Use XLA's own convolutions and gradients of convolutions instead of those of `qsep_jax.nn.conv`.
    """
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # the twin needs memory of the same GPU
    console.cache_compilations()
    if native:
        use_native_convolutions()
    mesh = sharding.make_mesh(jax.devices()[: devices or None])
    sharding.check_batch_size(train.batch_size, mesh)
    batch = noise_batch(system, train.batch_size)
    compiled = Compiled(system, train, mesh, batch)
    state, placed = compiled.create(), compiled.place([batch])

    def run() -> None:
        nonlocal state
        state, metrics = compiled.steps(state, placed, compiled.key)
        jax.block_until_ready((state, metrics))

    start = time.perf_counter()
    run()
    first, device = time.perf_counter() - start, mesh.devices.flat[0]
    run()
    on_device = device.memory_stats() or {}  # None on a CPU, where the memory of the process counts
    return run, {
        "device": device.device_kind,
        "platform": device.platform,
        "devices": mesh.size,
        "parameters": parameter_count(state.variables["params"]),
        "first_step_s": first,
        "peak_mib": on_device["peak_bytes_in_use"] / MIB if "peak_bytes_in_use" in on_device else _peak(),
    }


def make_torch(
    system: System, train: Train, layout: str, weights: Path, platform: str, compiled: bool = False
) -> tuple[Run, Facts]:
    """The complete step of the twin: forward, backward, clipping and optimizer of each update, then weight averaging.

    Args:
      layout: Memory layout, `contiguous` or `channels_last`.
      weights: File of weights that `agreement.compare` wrote.
      platform: Platform of JAX: the twin computes on a GPU if JAX does.
      compiled: Whether forward and backward go through `torch.compile`.
    """
    module = twin_of(system)
    import torch  # pyright: ignore[reportMissingImports]

    use_all_cores(torch)
    device = "cuda" if platform in ("gpu", "cuda") else "cpu"
    if device == "cuda":
        if not torch.cuda.is_available():
            raise ValueError("JAX has a GPU and PyTorch has none: install torch with CUDA, or set JAX_PLATFORMS=cpu")
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True  # as JAX does
        torch.backends.cudnn.benchmark = True
    twin = module.Twin(system)
    twin.load_state_dict(torch.load(weights, weights_only=True))
    twin = twin.to(
        device=device, memory_format=getattr(torch, f"{layout}_format" if layout == "contiguous" else layout)
    )
    averaged = None
    if train.ema_decay:
        average = torch.optim.swa_utils.get_ema_multi_avg_fn(train.ema_decay)
        averaged = torch.optim.swa_utils.AveragedModel(twin, multi_avg_fn=average)
    batch = jax.tree.map(lambda leaf: torch.from_numpy(leaf).to(device), noise_batch(system, train.batch_size))
    updates = []
    for phase in system.phases():
        optimizer = module.make_optimizer(twin, phase)
        updates += [(phase, optimizer, part) for part in updates_of(phase, batch)]
    autocast = system.compute_dtype != "float32"
    losses = torch.compile(twin.losses) if compiled else twin.losses

    def run() -> None:
        for phase, optimizer, part in updates:
            optimizer.zero_grad()
            with torch.autocast(device, torch.bfloat16, enabled=autocast):
                loss = losses(phase.name, part)
            loss.backward()
            if phase.optimizer.clip_norm:
                torch.nn.utils.clip_grad_norm_(optimizer.param_groups[0]["params"], phase.optimizer.clip_norm)
            optimizer.step()
        if averaged is not None:
            averaged.update_parameters(twin)
        if device == "cuda":
            torch.cuda.synchronize()

    start = time.perf_counter()
    run()
    first = time.perf_counter() - start
    run()
    peak = torch.cuda.max_memory_allocated() / MIB if device == "cuda" else _peak()
    return run, {"threads": torch.get_num_threads(), "first_step_s": first, "peak_mib": peak}


def use_all_cores(torch: Any) -> None:
    """Give PyTorch as many threads as this process has cores."""
    torch.set_num_threads(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


def _peak() -> float | None:
    """The peak memory of this process, MiB; None where it cannot be measured."""
    try:
        check_memory()
    except ValueError:
        return None
    return memory("VmHWM")


def use_native_convolutions(put: Callable[[Any, str, Any], None] = setattr) -> None:
    """Replace the convolutions of `qsep_jax.nn.conv` by XLA's own forms, in this process and permanently.

    The result is the step as it was before that file, and as accelerators compute it. Only the two functions that the
    layers call are replaced, so that the package needs no switch for this.

    Args:
      put: Function that sets an attribute; tests pass one that restores it.
    """
    from qsep_jax.nn import conv as layers

    def conv(x: Array, kernel: Array, strides, padding) -> Array:
        return lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=("NHWC", "HWIO", "NHWC"))

    def conv_transpose(x: Array, kernel: Array, strides, padding, size) -> Array:
        image = jax.ShapeDtypeStruct((x.shape[0], *size, kernel.shape[2]), x.dtype)
        return jax.linear_transpose(lambda image: conv(image, kernel, strides, padding), image)(x)[0]

    put(layers, "conv", conv)
    put(layers, "conv_transpose", conv_transpose)
