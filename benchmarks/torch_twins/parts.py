"""What several twins share: how they take weights, the forms that they have, and the optimizer."""

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch  # pyright: ignore[reportMissingImports]
from torch import nn  # pyright: ignore[reportMissingImports]

from qsep_jax.systems.base import Phase


class Loading(nn.Module):
    """A twin that takes the weights of its system."""

    def load(self, params: dict[str, Any]) -> None:
        """Take the weights of the JAX system, a tree of numpy arrays; running statistics stay as they are."""
        weights = {name for name, _ in self.named_parameters()}
        others = {name: value for name, value in self.state_dict().items() if name not in weights}
        found = {name: torch.from_numpy(np.array(value)) for name, value in self.named(params)}
        self.load_state_dict({**others, **found})

    def named(self, params: dict[str, Any]) -> Iterator[tuple[str, np.ndarray]]:
        """The leaves of a tree of JAX parameters, or of their gradients, by their names and in their shapes here."""
        raise NotImplementedError


def check_form(system: Any, only: Iterable[str], has: str) -> None:
    """Refuse a `System` whose fields `only` have other values than by default; `has` says what the twin has.

    Raises:
      NotImplementedError: naming the fields and their defaults.
    """
    defaults = {field.name: field.default for field in dataclasses.fields(system)}
    other = [name for name in only if getattr(system, name) != defaults[name]]
    if other:
        said = ", ".join(f"{name} = {defaults[name]}" for name in other)
        raise NotImplementedError(f"the PyTorch twin of {type(system).__name__} has {has} only: {said}")


def adam(twin: nn.Module, phase: Phase) -> torch.optim.Optimizer:
    """Adam or AMSGrad with coupled decay for what a phase trains, at its learning rate, whose schedule costs nothing.

    Raises:
      ValueError: for another rule.
    """
    rule = phase.optimizer
    if rule.name not in ("adam", "amsgrad") or rule.weight_decay or rule.rates:
        raise ValueError(
            f"the twin knows Adam and AMSGrad with coupled decay, not {rule.name} with decay {rule.weight_decay}"
        )
    trained = [weight for name in phase.trainable for weight in twin.get_submodule(name).parameters()]
    amsgrad, betas = rule.name == "amsgrad", (rule.b1, rule.b2)
    return torch.optim.Adam(trained, rule.learning_rate, betas, rule.epsilon, rule.l2, amsgrad=amsgrad, fused=True)
