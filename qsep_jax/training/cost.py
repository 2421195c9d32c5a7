"""The cost of a computation, counted from shapes: floating-point operations and bytes of its matrix products.

XLA's `cost_analysis()` counts the body of a loop only once, and it counts the platform-specific forms of convolutions.
This module instead counts over the jaxpr: a loop counts as often as it runs, and of alternatives between which the
platform chooses, the cheapest one counts, which is the plain convolution.
"""

import dataclasses
import math
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import jax
from jax.extend import core

from qsep_jax.systems.base import BatchSpec, System, Variables


@dataclasses.dataclass(frozen=True)
class Cost:
    """The cost of matrix products, convolutions and Fourier transforms.

    Attributes:
      flops: Number of additions and multiplications.
      bytes: Bytes that the operations read and write if no result stays in a cache.
    """

    flops: float = 0.0
    bytes: float = 0.0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.flops + other.flops, self.bytes + other.bytes)

    def __mul__(self, times: float) -> "Cost":
        return Cost(self.flops * times, self.bytes * times)


# Costs by the path of the module that they belong to, such as `Separator/down_1`; the path may be empty.
Costs = dict[str, Cost]


def cost_of(function: Callable[..., Any], *args: Any) -> Costs:
    """Count the cost of a function call by module; the arguments may be shapes."""
    return dict(_jaxpr_costs(jax.make_jaxpr(function)(*args).jaxpr, ""))


def forward(system: System, variables: Variables, batch: BatchSpec) -> Costs:
    """Count the losses of all updates of a step, without their gradients."""
    costs: defaultdict[str, Cost] = defaultdict(Cost)
    key = jax.eval_shape(lambda: jax.random.key(0))
    for phase in system.phases():
        for module, cost in cost_of(phase.loss, variables, phase.spec(batch), key).items():
            costs[module] += cost * phase.repeats
    return dict(costs)


# The cost of a step relative to its losses: the gradient of a product needs two products of the same size.
STEP = 3.0


def step(system: System, variables: Variables, batch: BatchSpec) -> Costs:
    """Count all updates of a step as three times their losses.

    This is the usual convention. It includes gradients of parameters that are not trained, and excludes the optimizer
    and recomputation.
    """
    return {module: cost * STEP for module, cost in forward(system, variables, batch).items()}


def total(costs: Costs) -> Cost:
    """Sum the costs of all modules."""
    return sum(costs.values(), Cost())


def _jaxpr_costs(jaxpr: core.Jaxpr, outer_module: str) -> defaultdict[str, Cost]:
    costs: defaultdict[str, Cost] = defaultdict(Cost)
    for equation in jaxpr.eqns:
        stack = str(equation.source_info.name_stack)
        module = "/".join(part for part in (outer_module, stack) if part)
        for name, cost in _equation_costs(equation, module).items():
            costs[name] += cost
    return costs


def _equation_costs(equation: core.JaxprEqn, module: str) -> Costs:
    name, params = equation.primitive.name, equation.params
    if name in OPERATIONS:
        operands: list[Any] = [*equation.invars, *equation.outvars]
        size = sum(math.prod(operand.aval.shape) * operand.aval.dtype.itemsize for operand in operands)
        return {module: Cost(OPERATIONS[name](equation), float(size))}
    inner = [jaxpr for value in params.values() for jaxpr in _jaxprs(value)]
    if not inner:
        return {}
    if name == "custom_vjp_call":  # the other functions belong to the gradient
        inner = inner[:1]
    inner_costs = [_jaxpr_costs(jaxpr, module) for jaxpr in inner]
    if name == "cond":
        return min(inner_costs, key=lambda costs: total(costs).flops)
    times = params["length"] if name == "scan" else 1
    summed: defaultdict[str, Cost] = defaultdict(Cost)
    for costs in inner_costs:
        for path, cost in costs.items():
            summed[path] += cost * times
    return summed


def _jaxprs(value: Any) -> list[core.Jaxpr]:
    """Collect the jaxprs in a parameter of an equation."""
    if isinstance(value, core.ClosedJaxpr):
        return [value.jaxpr]
    if isinstance(value, core.Jaxpr):
        return [value]
    return [jaxpr for item in value for jaxpr in _jaxprs(item)] if isinstance(value, list | tuple) else []


def _shape(variable: Any) -> tuple[int, ...]:
    return variable.aval.shape


def _product(equation: core.JaxprEqn) -> float:
    """Count 2 · elements of the result · length of the contracted axes."""
    (contracted, _), _ = equation.params["dimension_numbers"]
    left, out = _shape(equation.invars[0]), _shape(equation.outvars[0])
    return 2.0 * math.prod(out) * math.prod(left[axis] for axis in contracted)


def _convolution(equation: core.JaxprEqn) -> float:
    """Count 2 · elements of the result · taps · input channels of a group, without zeros from input dilation."""
    params, kernel, out = equation.params, _shape(equation.invars[1]), _shape(equation.outvars[0])
    features = params["dimension_numbers"].rhs_spec[0]
    dilated = math.prod(params["lhs_dilation"])
    return 2.0 * math.prod(out) * math.prod(kernel) / kernel[features] / dilated


def _fourier(equation: core.JaxprEqn) -> float:
    """Count 5 n log₂ n for a complex transform of length n, and half of that for a real one."""
    lengths = equation.params["fft_lengths"]
    kind, count = equation.params["fft_type"].name, math.prod(lengths)
    signal = _shape(equation.outvars[0] if kind == "IRFFT" else equation.invars[0])
    transforms, real = math.prod(signal) / count, kind in ("RFFT", "IRFFT")
    return transforms * 5.0 * count * math.log2(count) * (0.5 if real else 1.0)


OPERATIONS = {"dot_general": _product, "conv_general_dilated": _convolution, "fft": _fourier}
