"""The parts that several twins share: loading of weights, the check of the system's fields, and the optimizer."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch  # pyright: ignore[reportMissingImports]
from torch import nn  # pyright: ignore[reportMissingImports]

from qsep_jax.systems.base import Phase, System


class LoadableTwin(nn.Module):
    """A twin into which the weights of its system can be loaded."""

    def load(self, params: dict[str, Any]) -> None:
        """Copy the weights of the JAX system, a tree of numpy arrays, into the twin; running statistics stay."""
        weights = {name for name, _ in self.named_parameters()}
        buffers = {name: value for name, value in self.state_dict().items() if name not in weights}
        loaded = {name: torch.from_numpy(np.array(value)) for name, value in self.named(params)}
        self.load_state_dict({**buffers, **loaded})

    def named(self, params: dict[str, Any]) -> Iterator[tuple[str, np.ndarray]]:
        """The leaves of a tree of JAX parameters, or of their gradients, with the names and shapes of the twin."""
        raise NotImplementedError


def require_defaults(system: System, fields: Iterable[str], implemented: str) -> None:
    """Check that `fields` of a `System` have their defaults, the only values that the twin implements.

    Args:
      implemented: Phrase for what the twin implements; it is part of the error message.

    Raises:
      NotImplementedError: if a field has another value; the message lists these fields with their defaults.
    """
    values, defaults = vars(system), vars(type(system))  # a dataclass keeps its defaults as attributes of the class
    different = [name for name in fields if values[name] != defaults[name]]
    if different:
        required = ", ".join(f"{name} = {defaults[name]}" for name in different)
        raise NotImplementedError(f"the PyTorch twin of {type(system).__name__} has {implemented} only: {required}")


def adam(twin: nn.Module, phase: Phase) -> torch.optim.Optimizer:
    """Adam or AMSGrad with coupled decay for the networks of a phase, at a constant learning rate (timings need none).

    Raises:
      ValueError: if the phase has another optimizer.
    """
    rule = phase.optimizer
    if rule.name not in ("adam", "amsgrad") or rule.weight_decay or rule.rates:
        raise ValueError(
            f"the twin has Adam and AMSGrad with coupled decay, not {rule.name} with decay {rule.weight_decay}"
        )
    trained = [weight for name in phase.trainable for weight in twin.get_submodule(name).parameters()]
    amsgrad, betas = rule.name == "amsgrad", (rule.b1, rule.b2)
    return torch.optim.Adam(trained, rule.learning_rate, betas, rule.epsilon, rule.l2, amsgrad=amsgrad, fused=True)
