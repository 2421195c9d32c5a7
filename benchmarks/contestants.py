"""The training step of a system, in JAX and in PyTorch, ready to be timed in a process of its own (`rounds.Make`)."""

import dataclasses
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

from qsep_jax import console
from qsep_jax.systems.base import Phase, System, Variables, parameter_count
from qsep_jax.training import sharding
from qsep_jax.training.loop import Compiled
from qsep_jax.training.precision import with_precision
from qsep_jax.training.settings import Train

Run = Callable[[], None]
Facts = dict[str, Any]
Gradients = dict[str, np.ndarray]
Found = tuple[float, Gradients]  # a loss and its gradients, by the twin's names

# Twins agree if every parameter's gradient does, by the norm of the difference relative to its own norm, to TOLERANCE,
# or, where float32 cannot tell that much, to ROUNDINGS times the distance between the twin in float32 and in float64.
# The full-size networks need the second: an activation whose sign hangs on the last bit changes single elements of the
# deep layers' gradients by up to a tenth, in JAX and in PyTorch alike. If that happens to JAX alone, nothing in the
# twin's rounding tells of it: one unit of N beyond its kink moves a layer's gradient by about 1/√N. So what differs by
# no more than KINKED is decided in float64 on both sides, where all gradients have to agree to TOLERANCE.
# A parameter's norm counts as NEGLIGIBLE times that of the whole gradient at least: the scale of a spectrogram's batch
# normalisation, say, is nearly free, and what its gradient's sum over all bins leaves is rounding.
TOLERANCE, ROUNDINGS, KINKED, NEGLIGIBLE = 1e-3, 10.0, 0.1, 1e-3


def twin_of(system: System) -> ModuleType:
    """The module with the PyTorch twin of a system. It offers

    * `Twin(system)`, a module whose children are named as the networks that phases train; its `losses(phase's name,
      batch, noise)` gives the loss of a phase for what one update takes, drawing noise of its own where none is given;
      `load(params)` takes the weights of the system, and `named(params)` gives them in its own names and shapes;
    * `make_optimizer(twin, phase)`, for what the phase trains;
    * `jax_noise(system, key, batch)`, the noise that the JAX loss draws from `key`;
    * where fresh weights hide something, `revealed(params)`: others by which to compare.

    Raises:
      ValueError: if it has none, or PyTorch is not installed.
    """
    if importlib.util.find_spec("torch") is None:
        raise ValueError("comparing with PyTorch needs torch: pip install 'qsep-jax[twins]'")
    name = f"benchmarks.twins.{type(system).__module__.rpartition('.')[2]}"
    if importlib.util.find_spec(name) is None:
        raise ValueError(f"there is no PyTorch twin of {type(system).__name__}")
    return importlib.import_module(name)


def noise_batch(system: System, batch_size: int, seed: int = 0) -> dict[str, Any]:
    """A batch of noise of the shapes that the system trains on, the same for the same seed."""
    return dict(system.noise(np.random.default_rng(seed), batch_size))


def updates_of(phase: Phase, batch: dict[str, Any]) -> list[Any]:
    """What each update of a phase, one or as many as it repeats, takes of a batch of arrays or tensors."""
    taken = phase.take(batch)
    if phase.repeats == 1:
        return [taken]
    return [jax.tree.map(itemgetter(number), taken) for number in range(phase.repeats)]


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
    batch = noise_batch(system, train.batch_size)
    compiled = Compiled(system, train, mesh, batch)
    state, placed = compiled.create(), compiled.place([batch])

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
    """The whole step of the twin: for each update of each phase forward, backward, clipping, optimizer; then averaging.

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
        updates += [(phase, optimizer, taken) for taken in updates_of(phase, batch)]
    wide = system.compute_dtype == "float32"

    def run() -> None:
        for phase, optimizer, taken in updates:
            optimizer.zero_grad()
            with torch.autocast(device, torch.bfloat16, enabled=not wide):
                loss = twin.losses(phase.name, taken)
            loss.backward()
            if phase.optimizer.clip_norm:
                torch.nn.utils.clip_grad_norm_(optimizer.param_groups[0]["params"], phase.optimizer.clip_norm)
            optimizer.step()
        if averaged is not None:
            averaged.update_parameters(twin)
        if device == "cuda":
            torch.cuda.synchronize()

    run()
    return run, {"layout": layout, "threads": torch.get_num_threads()}


def compare(system: System, batch_size: int, weights: Path) -> tuple[Run, Facts]:
    """Loss and gradients of each phase of the system, float32 on CPU, beside its twin's: same weights, batch and noise.

    Of phases that repeat it takes the first update. The twin computes in float64, and in float32 to learn how much of a
    difference is rounding; where that does not explain it, JAX computes in float64, too. With batch normalisation the
    weights are fresh ones whose scales and biases are moved, and with `revealed` of the twin what that makes of them.
    Leaves its weights in the file `weights`. The facts hold `is_peer` and, as the largest of all phases and the
    parameters that they train, `max_relative_difference`, `where` that is (of those that are too large if any is),
    `twin_rounding`, the same between the twin in float32 and in float64, `float64_relative_difference` between both in
    float64 (None if that was not needed or the system cannot), and `max_element_difference`, relative to the largest
    element; and the `loss_relative_difference`.
    """
    jax.config.update("jax_platforms", "cpu")
    console.cache_compilations()
    module = twin_of(system)
    import torch  # pyright: ignore[reportMissingImports]

    system = with_precision(system, "float32")
    data = noise_batch(system, batch_size)
    spec = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), data)
    variables = jax.jit(lambda key: system.init(key, spec))(jax.random.key(0))
    if "batch_stats" in variables:
        variables = {**variables, "params": _unsettled(variables["params"])}
    if hasattr(module, "revealed"):
        variables = {**variables, "params": module.revealed(variables["params"])}
    variables = jax.device_get(variables)
    twin = module.Twin(system)
    twin.load(variables["params"])
    torch.save(twin.state_dict(), weights)
    of_loss, differences, elements, rounding = [], {}, {}, {}
    for phase in system.phases():
        (loss, found), (exact_loss, exact), (_, rounded) = _side_by_side(system, phase, variables, data, twin)
        of_loss.append(abs(loss - exact_loss) / abs(exact_loss))
        differences |= _distances(phase, found, exact)
        rounding |= _distances(phase, rounded, exact)
        least = _least(exact)
        for name, wanted in exact.items():
            largest = np.max(np.abs(wanted)) or least  # biases of what is subtracted from itself have no gradient
            elements[f"{phase.name}: {name}"] = float(np.max(np.abs(found[name] - wanted)) / largest)
    failed = {where: each for where, each in differences.items() if not each <= _allowed(rounding[where])}
    where, worst = max((failed or differences).items(), key=lambda item: item[1])
    in_float64 = None
    if failed and all(each <= KINKED for each in failed.values()):
        in_float64 = _in_float64(system, variables, data, twin)
    agree = not failed or (in_float64 is not None and in_float64 <= TOLERANCE)
    return lambda: None, {
        "is_peer": agree and max(of_loss) <= TOLERANCE,
        "max_relative_difference": worst,
        "where": where,
        "twin_rounding": max(rounding.values()),
        "float64_relative_difference": in_float64,
        "max_element_difference": max(elements.values()),
        "loss_relative_difference": max(of_loss),
    }


def use_native_convolutions(put: Callable[[Any, str, Any], None] = setattr) -> None:
    """Replace the convolutions of `qsep_jax.nn.conv`, in this process and for good, by XLA's own forms.

    What this project would be without that file: the yardstick 'before', and what accelerators compute. Only the two
    functions that its layers call are swapped, so the product needs no switch for it.

    Args:
      put: how to set an attribute.
    """
    from qsep_jax.nn import conv as layers

    def conv(x: Array, kernel: Array, strides, padding) -> Array:
        return lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=("NHWC", "HWIO", "NHWC"))

    def conv_transpose(x: Array, kernel: Array, strides, padding, size) -> Array:
        image = jax.ShapeDtypeStruct((x.shape[0], *size, kernel.shape[2]), x.dtype)
        return jax.linear_transpose(lambda image: conv(image, kernel, strides, padding), image)(x)[0]

    put(layers, "conv", conv)
    put(layers, "conv_transpose", conv_transpose)


def _unsettled(params: Variables) -> Variables:
    """The weights with noise on scales and biases.

    What batch normalisation follows is free in scale, so as long as biases are zero the gradient of a scale before it
    is nothing but rounding, which no twin can share.
    """
    rng = np.random.default_rng(0)

    def moved(leaf: Array) -> Array:
        return leaf + 0.3 * rng.standard_normal(leaf.shape, np.float32) if leaf.ndim == 1 else leaf

    return jax.tree.map(moved, params)


def _side_by_side(
    system: System, phase: Phase, variables: Variables, data: dict[str, Any], twin: Any
) -> tuple[Found, Found, Found]:
    """Loss and gradients of a phase by the twin's names: of the system, of the twin in float64 and in float32."""
    import torch  # pyright: ignore[reportMissingImports]

    key = jax.random.key(1)
    loss, gradients = _of_phase(phase, variables, updates_of(phase, data)[0], key)
    batch = updates_of(phase, jax.tree.map(torch.from_numpy, data))[0]
    noise = twin_of(system).jax_noise(system, key, batch)
    rounded = _of_twin(twin.to(torch.float32), phase, batch, noise)
    exact = _of_twin(twin.to(torch.float64), phase, batch, noise)
    named = dict(twin.named(gradients))
    if unknown := set(named) ^ {name for name, _ in twin.named_parameters()}:
        raise ValueError(f"the twin has other parameters than the system: {unknown}")
    if {name for name in named if name.partition(".")[0] in phase.trainable} != set(exact[1]):
        raise ValueError(f"phase {phase.name} of the twin has gradients of other networks: {sorted(exact[1])}")
    return (loss, named), exact, rounded


def _in_float64(system: System, variables: Variables, data: dict[str, Any], twin: Any) -> float | None:
    """How far the gradients are apart at most where JAX computes in float64, too, but for what layers cast to float32.

    None if that cannot be: a recurrent layer whose state begins in float32 must go on in float32.
    """
    system = dataclasses.replace(system, compute_dtype="float64")  # pyright: ignore[reportArgumentType]
    variables, data = jax.tree.map(_widened, (variables, data))
    differences: dict[str, float] = {}
    with jax.enable_x64(True):
        for phase in system.phases():
            try:
                (_, found), (_, exact), _ = _side_by_side(system, phase, variables, data, twin)
            except TypeError:
                return None
            differences |= _distances(phase, found, exact)
    return float(np.max(list(differences.values())))  # NaN if any is


def _widened(leaf: np.ndarray) -> np.ndarray:
    return leaf.astype(np.float64) if leaf.dtype == np.float32 else leaf


def _of_phase(phase: Phase, variables: Variables, batch: Any, key: Array) -> tuple[float, Variables]:
    """Loss of a phase, in training mode, and its gradients."""
    gradient = jax.value_and_grad(lambda params: phase.loss({**variables, "params": params}, batch, key)[0])
    loss, gradients = jax.device_get(jax.jit(gradient)(variables["params"]))
    return float(loss), gradients


def _of_twin(twin: Any, phase: Phase, batch: Any, noise: tuple[Any, ...]) -> Found:
    """The same of a twin, in its precision, by the names of the parameters that the loss depends on."""
    dtype = next(twin.parameters()).dtype
    twin.zero_grad()
    batch, noise = jax.tree.map(lambda leaf: leaf.to(dtype), (batch, noise))
    loss = twin.losses(phase.name, batch, noise)
    loss.backward()
    gradients = {name: leaf.grad for name, leaf in twin.named_parameters() if leaf.grad is not None}
    return loss.item(), {name: gradient.numpy().copy() for name, gradient in gradients.items()}


def _distances(phase: Phase, found: Gradients, exact: Gradients) -> dict[str, float]:
    """Norms of the differences relative to the norms of what is exact, but to `_least` where those are smaller."""
    least = _least(exact)
    return {
        f"{phase.name}: {name}": float(np.linalg.norm(found[name] - wanted) / max(np.linalg.norm(wanted), least))
        for name, wanted in exact.items()
    }


def _least(exact: Gradients) -> float:
    return NEGLIGIBLE * float(np.sqrt(sum(np.square(wanted).sum() for wanted in exact.values())))


def _allowed(rounding: float) -> float:
    return max(TOLERANCE, ROUNDINGS * rounding)
