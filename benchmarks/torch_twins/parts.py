"""What several twins share: the forms that they have, and the optimizer."""

import dataclasses
from collections.abc import Iterable
from typing import Any

import torch  # pyright: ignore[reportMissingImports]
from torch import nn  # pyright: ignore[reportMissingImports]

from qsep_jax.systems.base import Phase


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
