"""What a computation costs, counted from shapes alone: floating-point operations and bytes of its matrix products.

`cost_analysis()` of XLA counts the body of a loop once, and the forms in which convolutions are computed rather than
what they are. Here the program is walked as JAX traced it: loops count as often as they run, and of forms among which
the platform chooses the cheapest counts, which is the plain one.
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
    """Of matrix products, convolutions and Fourier transforms.

    Attributes:
      flops: additions and multiplications.
      bytes: that they read and write, if nothing is kept between them.
    """

    flops: float = 0.0
    bytes: float = 0.0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.flops + other.flops, self.bytes + other.bytes)

    def __mul__(self, times: float) -> "Cost":
        return Cost(self.flops * times, self.bytes * times)


# By the path of the module that they belong to, such as `Separator/down_1`; empty where there is none.
Costs = dict[str, Cost]


def cost_of(function: Callable[..., Any], *args: Any) -> Costs:
    """What calling a function costs, by module; the arguments may be shapes."""
    return dict(_of_jaxpr(jax.make_jaxpr(function)(*args).jaxpr, ""))


def forward(system: System, variables: Variables, batch: BatchSpec) -> Costs:
    """The losses of all updates of a step, without their gradients."""
    found: defaultdict[str, Cost] = defaultdict(Cost)
    key = jax.eval_shape(lambda: jax.random.key(0))
    for phase in system.phases():
        for module, cost in cost_of(phase.loss, variables, phase.spec(batch), key).items():
            found[module] += cost * phase.repeats
    return dict(found)


# The gradient of a product are two products as large as itself.
STEP = 3.0


def step(system: System, variables: Variables, batch: BatchSpec) -> Costs:
    """All updates of a step, taken as three times their losses.

    That is the usual convention. It counts gradients of what is not trained, and leaves out the optimizer and whatever
    is computed again.
    """
    return {module: cost * STEP for module, cost in forward(system, variables, batch).items()}


def total(costs: Costs) -> Cost:
    return sum(costs.values(), Cost())


def _of_jaxpr(jaxpr: core.Jaxpr, outside: str) -> defaultdict[str, Cost]:
    found: defaultdict[str, Cost] = defaultdict(Cost)
    for equation in jaxpr.eqns:
        stack = str(equation.source_info.name_stack)
        module = "/".join(part for part in (outside, stack) if part)
        for name, cost in _of_equation(equation, module).items():
            found[name] += cost
    return found


def _of_equation(equation: core.JaxprEqn, module: str) -> Costs:
    name, params = equation.primitive.name, equation.params
    if name in OPERATIONS:
        operands: list[Any] = [*equation.invars, *equation.outvars]
        size = sum(math.prod(each.aval.shape) * each.aval.dtype.itemsize for each in operands)
        return {module: Cost(OPERATIONS[name](equation), float(size))}
    inner = [each for value in params.values() for each in _jaxprs(value)]
    if not inner:
        return {}
    if name == "custom_vjp_call":  # its other functions are those of the gradient
        inner = inner[:1]
    found = [_of_jaxpr(each, module) for each in inner]
    if name == "cond":
        return min(found, key=lambda costs: total(costs).flops)
    times = params["length"] if name == "scan" else 1
    summed: defaultdict[str, Cost] = defaultdict(Cost)
    for costs in found:
        for each, cost in costs.items():
            summed[each] += cost * times
    return summed


def _jaxprs(value: Any) -> list[core.Jaxpr]:
    """Those in a parameter of an equation."""
    if isinstance(value, core.ClosedJaxpr):
        return [value.jaxpr]
    if isinstance(value, core.Jaxpr):
        return [value]
    return [each for item in value for each in _jaxprs(item)] if isinstance(value, list | tuple) else []


def _shape(variable: Any) -> tuple[int, ...]:
    return variable.aval.shape


def _product(equation: core.JaxprEqn) -> float:
    """2 · elements of the result · length of what is summed."""
    (summed, _), _ = equation.params["dimension_numbers"]
    left, out = _shape(equation.invars[0]), _shape(equation.outvars[0])
    return 2.0 * math.prod(out) * math.prod(left[axis] for axis in summed)


def _convolution(equation: core.JaxprEqn) -> float:
    """2 · elements of the result · taps · input channels of a group, less what dilation of the input fills with 0."""
    params, kernel, out = equation.params, _shape(equation.invars[1]), _shape(equation.outvars[0])
    features = params["dimension_numbers"].rhs_spec[0]
    dilated = math.prod(params["lhs_dilation"])
    return 2.0 * math.prod(out) * math.prod(kernel) / kernel[features] / dilated


def _fourier(equation: core.JaxprEqn) -> float:
    """5 n log₂ n of a complex transform of length n, half of it of a real one."""
    lengths = equation.params["fft_lengths"]
    kind, count = equation.params["fft_type"].name, math.prod(lengths)
    signal = _shape(equation.outvars[0] if kind == "IRFFT" else equation.invars[0])
    transforms, real = math.prod(signal) / count, kind in ("RFFT", "IRFFT")
    return transforms * 5.0 * count * math.log2(count) * (0.5 if real else 1.0)


OPERATIONS = {"dot_general": _product, "conv_general_dilated": _convolution, "fft": _fourier}
