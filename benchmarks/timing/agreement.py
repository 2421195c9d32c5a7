"""Check that a PyTorch twin is a peer: that it has the loss and the gradients of its system, from the same weights."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import Array

from benchmarks.timing import rows
from benchmarks.timing.contestants import Facts, Run, noise_batch, twin_of, updates_of
from benchmarks.timing.rounds import facts_of
from qsep_jax.command_line import console
from qsep_jax.nn import xla
from qsep_jax.systems.base import Phase, System, Variables
from qsep_jax.training.settings import with_precision
from qsep_jax.training.sharding import abstract

Gradients = dict[str, np.ndarray]
LossAndGradients = tuple[float, Gradients]  # the gradients have the twin's names

# A twin agrees with its system if the gradient of every parameter agrees. The measure is the norm of the difference,
# relative to the norm of the gradient. It must be at most TOLERANCE or, where float32 is not that exact, ROUNDINGS
# times the distance between the twin in float32 and in float64.
# The full-size networks need the second limit: an activation whose sign depends on the last bit changes single elements
# of the deep layers' gradients by up to a tenth, in JAX and in PyTorch alike. If this happens in JAX alone, the twin's
# rounding does not show it: one of N units beyond its kink moves the gradient of a layer by about 1/√N. Therefore, if
# the difference is at most KINKED, both sides compute in float64, where all gradients must agree to TOLERANCE.
# The norm of a parameter's gradient counts as at least NEGLIGIBLE times the norm of the whole gradient. The scale of a
# spectrogram's batch norm, for example, has almost no effect on the loss, and its gradient, a sum over all bins, is
# mostly rounding.
TOLERANCE, ROUNDINGS, KINKED, NEGLIGIBLE = 1e-3, 10.0, 0.1, 1e-3


def compare(system: System, batch_size: int, weights: Path) -> tuple[Run, Facts]:
    """Compare loss and gradients of each phase between a system and its twin: same weights, batch and noise.

    The system computes in float32 on the CPU; of a phase that repeats, the first update counts. The twin computes in
    float64, and in float32 to show how much of a difference is rounding. If rounding does not explain a difference, JAX
    computes in float64, too. The weights are freshly initialised. With batch norm, noise is added to their scales and
    biases, and a twin's `exposed_params` changes them further. The weights are stored in the file `weights`.

    Facts (each difference is the largest over the phases and over the parameters that they train):
      is_peer: whether the twin agrees with the system.
      max_relative_difference: Difference of a gradient, relative to its norm.
      where: Phase and parameter of that difference; if some differences are too large, the largest of those.
      twin_rounding: The same difference between the twin in float32 and in float64.
      float64_relative_difference: The same difference with both sides in float64; None if it was not needed, or if the
        system cannot compute in float64.
      max_element_difference: Difference of an element of a gradient, relative to the largest element.
      loss_relative_difference: Difference of a loss, relative to the loss.
    """
    jax.config.update("jax_platforms", "cpu")
    console.cache_compilations()
    module = twin_of(system)
    import torch  # pyright: ignore[reportMissingImports]

    system = with_precision(system, "float32")
    data = noise_batch(system, batch_size)
    spec = abstract(data)
    variables = jax.jit(lambda key: system.init(key, spec))(jax.random.key(0))
    if "batch_stats" in variables:
        variables = {**variables, "params": _with_noise(variables["params"])}
    if hasattr(module, "exposed_params"):
        variables = {**variables, "params": module.exposed_params(variables["params"])}
    variables = jax.device_get(variables)
    twin = module.Twin(system)
    twin.load(variables["params"])
    torch.save(twin.state_dict(), weights)
    loss_differences, differences, elements, rounding = [], {}, {}, {}
    for phase in system.phases():
        (loss, gradients), (exact_loss, exact), (_, rounded) = _losses_and_gradients(
            system, phase, variables, data, twin
        )
        loss_differences.append(abs(loss - exact_loss) / abs(exact_loss))
        differences |= _distances(phase, gradients, exact)
        rounding |= _distances(phase, rounded, exact)
        floor = _norm_floor(exact)
        for name, gradient in exact.items():
            largest = np.max(np.abs(gradient)) or floor  # a bias before a subtraction of the mean has no gradient
            elements[f"{phase.name}: {name}"] = float(np.max(np.abs(gradients[name] - gradient)) / largest)
    failed = {where: distance for where, distance in differences.items() if not distance <= _allowed(rounding[where])}
    where, worst = max((failed or differences).items(), key=lambda item: item[1])
    in_float64 = None
    if failed and all(distance <= KINKED for distance in failed.values()):
        in_float64 = _difference_in_float64(system, variables, data, twin)
    agree = not failed or (in_float64 is not None and in_float64 <= TOLERANCE)
    return lambda: None, {
        "is_peer": agree and max(loss_differences) <= TOLERANCE,
        "max_relative_difference": worst,
        "where": where,
        "twin_rounding": max(rounding.values()),
        "float64_relative_difference": in_float64,
        "max_element_difference": max(elements.values()),
        "loss_relative_difference": max(loss_differences),
    }


def require_peer(system: System, batch_size: int, weights: Path) -> Facts:
    """The facts of `compare`, which runs in a process of its own.

    Raises:
      ValueError: if the twin does not agree with the system, or if the system has no twin.
    """
    facts = facts_of("comparison with the PyTorch twin", compare, system, batch_size, weights)
    if not facts["is_peer"]:
        raise ValueError(f"the PyTorch twin does not agree with the system: {agreement(facts)}")
    return facts


def agreement(facts: rows.Row) -> str:
    """A sentence that states the differences between a system and its twin, from the facts of `compare`."""
    wide = facts.get("float64_relative_difference")
    kinks = "" if wide is None else f"; in float64, where rounding changes no sign, by at most {wide:.1e}"
    return (
        f"its loss differs by {facts['loss_relative_difference']:.1e}, its gradients by at most "
        f"{facts['max_relative_difference']:.1e} ({facts['where']}), its own rounding is up to "
        f"{facts['twin_rounding']:.1e}{kinks}"
    )


def _with_noise(params: Variables) -> Variables:
    """The weights with noise added to scales and biases.

    Batch norm removes the scale of its input. As long as biases are zero, the gradient of a scale before batch norm is
    therefore pure rounding, in which no twin can agree.
    """
    rng = np.random.default_rng(0)

    def with_noise(leaf: Array) -> Array:
        return leaf + 0.3 * rng.standard_normal(leaf.shape, np.float32) if leaf.ndim == 1 else leaf

    return jax.tree.map(with_noise, params)


def _losses_and_gradients(
    system: System, phase: Phase, variables: Variables, data: dict[str, Any], twin: Any
) -> tuple[LossAndGradients, LossAndGradients, LossAndGradients]:
    """Loss and gradients of a phase by the twin's names: of the system, of the twin in float64 and in float32."""
    import torch  # pyright: ignore[reportMissingImports]

    key = jax.random.key(1)
    loss, gradients = _of_system(phase, variables, updates_of(phase, data)[0], key)
    batch = updates_of(phase, jax.tree.map(torch.from_numpy, data))[0]
    noise = twin_of(system).jax_noise(system, key, batch)
    rounded = _of_twin(twin.to(torch.float32), phase, batch, noise)
    exact = _of_twin(twin.to(torch.float64), phase, batch, noise)
    named = dict(twin.named(gradients))
    if unknown := set(named) ^ {name for name, _ in twin.named_parameters()}:
        raise ValueError(f"the twin and the system do not have the same parameters: {unknown}")
    if {name for name in named if name.partition(".")[0] in phase.trainable} != set(exact[1]):
        raise ValueError(f"phase {phase.name} of the twin has gradients of other networks: {sorted(exact[1])}")
    return (loss, named), exact, rounded


def _difference_in_float64(system: System, variables: Variables, data: dict[str, Any], twin: Any) -> float | None:
    """The largest relative difference of a gradient if JAX, too, computes in float64 (some layers cast to float32).

    None if the system cannot: a recurrent layer whose state begins in float32 must continue in float32.
    """
    system = dataclasses.replace(system, compute_dtype="float64")  # pyright: ignore[reportArgumentType]
    variables, data = jax.tree.map(_in_float64, (variables, data))
    differences: dict[str, float] = {}
    with jax.enable_x64(True):
        for phase in system.phases():
            try:
                (_, gradients), (_, exact), _ = _losses_and_gradients(system, phase, variables, data, twin)
            except TypeError:
                return None
            differences |= _distances(phase, gradients, exact)
    return float(np.max(list(differences.values())))  # NaN if any is


def _in_float64(leaf: np.ndarray) -> np.ndarray:
    return leaf.astype(np.float64) if leaf.dtype == np.float32 else leaf


def _of_system(phase: Phase, variables: Variables, batch: Any, key: Array) -> tuple[float, Variables]:
    """The loss of a phase in training mode, and its gradients.

    The batch is an argument of the compiled function: as a constant, XLA would fold operations on it for minutes.
    """

    def loss(params: Variables, others: Variables, batch: Any, key: Array) -> Array:
        return phase.loss({**others, "params": params}, batch, key)[0]

    others = {name: collection for name, collection in variables.items() if name != "params"}
    compiled = jax.jit(jax.value_and_grad(loss), compiler_options=xla.options())  # compiled as the training step is
    value, gradients = jax.device_get(compiled(variables["params"], others, batch, key))
    return float(value), gradients


def _of_twin(twin: Any, phase: Phase, batch: Any, noise: tuple[Any, ...]) -> LossAndGradients:
    """The loss of a phase of the twin, in the twin's precision, and the gradients that are not None."""
    dtype = next(twin.parameters()).dtype
    twin.zero_grad()
    batch, noise = jax.tree.map(lambda leaf: leaf.to(dtype), (batch, noise))
    loss = twin.losses(phase.name, batch, noise)
    loss.backward()
    gradients = {name: leaf.grad for name, leaf in twin.named_parameters() if leaf.grad is not None}
    return loss.item(), {name: gradient.numpy().copy() for name, gradient in gradients.items()}


def _distances(phase: Phase, gradients: Gradients, exact: Gradients) -> dict[str, float]:
    """Norms of the differences from the exact gradients, relative to the norms of these or to `_norm_floor`."""
    floor = _norm_floor(exact)
    return {
        f"{phase.name}: {name}": float(
            np.linalg.norm(gradients[name] - gradient) / max(np.linalg.norm(gradient), floor)
        )
        for name, gradient in exact.items()
    }


def _norm_floor(exact: Gradients) -> float:
    return NEGLIGIBLE * float(np.sqrt(sum(np.square(gradient).sum() for gradient in exact.values())))


def _allowed(rounding: float) -> float:
    return max(TOLERANCE, ROUNDINGS * rounding)
