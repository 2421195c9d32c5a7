"""Whether a PyTorch twin is a peer: the same loss and the same gradients, from the same weights."""

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
    spec = abstract(data)
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


def need_peer(system: System, batch_size: int, weights: Path) -> Facts:
    """What `compare` finds, in a process of its own.

    Raises:
      ValueError: if the twin is no peer, or there is none.
    """
    facts = facts_of("comparison with the PyTorch twin", compare, system, batch_size, weights)
    if not facts["is_peer"]:
        raise ValueError(f"the PyTorch twin is no peer: {agreement(facts)}")
    return facts


def agreement(facts: rows.Row) -> str:
    """In words how far the system and its twin are apart."""
    wide = facts.get("float64_relative_difference")
    kinks = "" if wide is None else f"; in float64, where no sign hangs on rounding, by at most {wide:.1e}"
    return (
        f"its loss differs by {facts['loss_relative_difference']:.1e}, its gradients by at most "
        f"{facts['max_relative_difference']:.1e} ({facts['where']}), its own rounding is up to "
        f"{facts['twin_rounding']:.1e}{kinks}"
    )


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
    compiled = jax.jit(gradient, compiler_options=xla.options())  # as the step is
    loss, gradients = jax.device_get(compiled(variables["params"]))
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
