"""The training step of a system, in JAX and in PyTorch, ready to be timed in a process of its own (`rounds.Make`)."""

import importlib
import importlib.util
import os
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import numpy as np
from jax import Array, lax

from data_pipelines.schema import MIXTURE, TARGET
from qsep_jax import console
from qsep_jax.systems.base import System, parameter_count
from qsep_jax.training import sharding
from qsep_jax.training.loop import Compiled
from qsep_jax.training.precision import with_precision
from qsep_jax.training.settings import Train

Run = Callable[[], None]
Facts = dict[str, Any]

# Twins agree if every parameter's gradient does, by the norm of the difference relative to its own norm, to TOLERANCE,
# or, where float32 cannot tell that much, to ROUNDINGS times the distance between the twin in float32 and in float64.
# The full-size network needs the second: an activation whose sign hangs on the last bit changes single elements of the
# deep layers' gradients by up to a tenth, in JAX and in PyTorch alike.
TOLERANCE, ROUNDINGS = 1e-3, 10.0


def twin_of(system: System) -> ModuleType:
    """The module with the PyTorch twin of a system.

    Raises:
      ValueError: if it has none, or PyTorch is not installed.
    """
    if importlib.util.find_spec("torch") is None:
        raise ValueError("comparing with PyTorch needs torch: pip install 'qsep-jax[twins]'")
    name = f"benchmarks.twins.{type(system).__module__.rpartition('.')[2]}"
    if importlib.util.find_spec(name) is None:
        raise ValueError(f"there is no PyTorch twin of {type(system).__name__}")
    return importlib.import_module(name)


def noise_batch(system: System, batch_size: int, seed: int = 0) -> dict[str, dict[str, np.ndarray]]:
    """White noise as target and as the rest of the mixture, `{stream: {mixture, target}}`, each `[B, T, 1]`."""
    rng, batch = np.random.default_rng(seed), {}
    for phase in system.phases():
        repeats = () if phase.repeats == 1 else (phase.repeats,)
        shape = (*repeats, batch_size, system.chunk_samples, 1)
        target, rest = (0.1 * rng.standard_normal(shape, np.float32) for _ in range(2))
        batch[phase.source] = {MIXTURE: target + rest, TARGET: target}
    return batch


def make_jax(system: System, train: Train, devices: int, native: bool) -> tuple[Run, Facts]:
    """The step as training compiles it, state donated, on the first `devices` devices (0: all).

    Args:
      native: with XLA's own gradients of convolutions instead of those of `qsep_jax.nn.conv`.
    """
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # leaves room on a GPU for whom it is compared with
    console.cache_compilations()
    if native:
        use_native_convolutions()
    mesh = sharding.make_mesh(jax.devices()[: devices or None])
    sharding.check_batch_size(train.batch_size, mesh)
    compiled, batch = Compiled(system, train, mesh), noise_batch(system, train.batch_size)
    create, _ = compiled.initial_state(batch)
    state, placed = create(), compiled.place([batch])

    def run() -> None:
        nonlocal state
        state, metrics = compiled.steps(state, placed, compiled.key)
        jax.block_until_ready((state, metrics))

    start = time.perf_counter()
    run()
    device = mesh.devices.flat[0]
    return run, {
        "device": device.device_kind,
        "platform": device.platform,
        "devices": mesh.size,
        "parameters": parameter_count(state.variables["params"]),
        "first_step_s": time.perf_counter() - start,
    }


def make_torch(system: System, train: Train, layout: str, weights: Path, platform: str) -> tuple[Run, Facts]:
    """The whole step of the twin: forward, backward, clipping, optimizer, averaged parameters.

    Args:
      layout: `contiguous` or `channels_last`.
      weights: what `compare` left there.
      platform: of JAX: the twin computes on a GPU when JAX does.
    """
    module = twin_of(system)
    import torch  # pyright: ignore[reportMissingImports]

    torch.set_num_threads(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    device = "cuda" if platform in ("gpu", "cuda") else "cpu"
    if device == "cuda":
        if not torch.cuda.is_available():
            raise ValueError("JAX sees a GPU and PyTorch does not: install torch with CUDA, or set JAX_PLATFORMS=cpu")
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True  # as JAX does
        torch.backends.cudnn.benchmark = True
    (phase,) = system.phases()
    twin = module.Twin(system)
    twin.load_state_dict(torch.load(weights, weights_only=True))
    twin = twin.to(
        device=device, memory_format=getattr(torch, f"{layout}_format" if layout == "contiguous" else layout)
    )
    optimizer, clip = module.make_optimizer(twin, phase.optimizer), phase.optimizer.clip_norm
    averaged = None
    if train.ema_decay:
        average = torch.optim.swa_utils.get_ema_multi_avg_fn(train.ema_decay)
        averaged = torch.optim.swa_utils.AveragedModel(twin, multi_avg_fn=average)
    batch = noise_batch(system, train.batch_size)[phase.source]
    mixture, target = (torch.from_numpy(batch[name]).to(device) for name in (MIXTURE, TARGET))
    wide = system.compute_dtype == "float32"

    def run() -> None:
        optimizer.zero_grad()
        with torch.autocast(device, torch.bfloat16, enabled=not wide):
            loss = twin(mixture, target)
        loss.backward()
        if clip:
            torch.nn.utils.clip_grad_norm_(twin.parameters(), clip)
        optimizer.step()
        if averaged is not None:
            averaged.update_parameters(twin)
        if device == "cuda":
            torch.cuda.synchronize()

    run()
    return run, {"layout": layout, "threads": torch.get_num_threads()}


def compare(system: System, batch_size: int, weights: Path) -> tuple[Run, Facts]:
    """Loss and gradients of the system, float32 on CPU, beside its twin's: same weights, waveforms and noise.

    The twin computes in float64, and in float32 to learn how much of a difference is rounding. Leaves its weights in
    the file `weights`. The facts hold `is_peer` and, as the largest of all parameters, `max_relative_difference`,
    `where` that is (of those that are too large if any is), `twin_rounding`, the same between the twin in float32 and
    in float64, and `max_element_difference`, relative to the largest element; and the `loss_relative_difference`.
    """
    jax.config.update("jax_platforms", "cpu")
    console.cache_compilations()
    module = twin_of(system)
    import torch  # pyright: ignore[reportMissingImports]

    system = with_precision(system, "float32")
    (phase,) = system.phases()
    data = noise_batch(system, batch_size)
    batch = data[phase.source]
    spec = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), data)
    variables = jax.jit(lambda key: system.init(key, spec))(jax.random.key(0))
    key = jax.random.key(1)
    gradient = jax.value_and_grad(lambda params: phase.loss({**variables, "params": params}, batch, key)[0])
    loss, gradients = jax.device_get(jax.jit(gradient)(variables["params"]))
    twin = module.Twin(system)
    twin.load(jax.device_get(variables["params"]))
    torch.save(twin.state_dict(), weights)
    audio = [torch.from_numpy(batch[name]) for name in (MIXTURE, TARGET)]
    inputs = [*audio, *module.jax_noise(system, key, audio[0].shape[0] * audio[0].shape[-1])]

    def of_twin(dtype: torch.dtype) -> tuple[float, dict[str, np.ndarray]]:
        twin.to(dtype).zero_grad()
        loss = twin(*(leaf.to(dtype) for leaf in inputs))
        loss.backward()
        return loss.item(), {name: leaf.grad.numpy().copy() for name, leaf in twin.named_parameters()}

    (_, rounded), (exact_loss, exact) = of_twin(torch.float32), of_twin(torch.float64)
    named = dict(twin.named(gradients))
    if set(named) != set(exact):
        raise ValueError(f"the twin has other parameters than the system: {set(named) ^ set(exact)}")
    differences = {name: _distance(named[name], exact[name]) for name in exact}
    rounding = {name: _distance(rounded[name], exact[name]) for name in exact}
    failed = {name: differences[name] for name in exact if not differences[name] <= _allowed(rounding[name])}
    of_loss = abs(float(loss) - exact_loss) / abs(exact_loss)
    where, worst = max((failed or differences).items(), key=lambda item: item[1])
    return lambda: None, {
        "is_peer": not failed and of_loss <= TOLERANCE,
        "max_relative_difference": worst,
        "where": where,
        "twin_rounding": max(rounding.values()),
        "max_element_difference": max(
            float(np.max(np.abs(named[name] - exact[name])) / np.max(np.abs(exact[name]))) for name in exact
        ),
        "loss_relative_difference": of_loss,
    }


def use_native_convolutions() -> None:
    """Replace the convolutions of `qsep_jax.nn.conv`, in this process and for good, by XLA's own forms.

    What this project would be without that file: the yardstick 'before'. Only the two functions that its layers call
    are swapped, so the product needs no switch for it.
    """
    from qsep_jax.nn import conv as layers

    def conv(x: Array, kernel: Array, strides, padding) -> Array:
        return lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=("NHWC", "HWIO", "NHWC"))

    def conv_transpose(x: Array, kernel: Array, strides, padding, size) -> Array:
        image = jax.ShapeDtypeStruct((x.shape[0], *size, kernel.shape[2]), x.dtype)
        return jax.linear_transpose(lambda image: conv(image, kernel, strides, padding), image)(x)[0]

    layers.conv, layers.conv_transpose = conv, conv_transpose


def _distance(found: np.ndarray, wanted: np.ndarray) -> float:
    """Norm of the difference relative to the norm of `wanted`."""
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))


def _allowed(rounding: float) -> float:
    return max(TOLERANCE, ROUNDINGS * rounding)
