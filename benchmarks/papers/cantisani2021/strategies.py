"""The strategies of adaptation that the experiment compares: what they train, by which loss, and their names.

A strategy is `l1` to `l5`, what the paper trains. After it may follow `-frozen`, where the decoder stays as it is (the
default of the published code), and then the loss: `-each`, that of the slides, or `-mixture`, the control. The control
makes the same number of updates, but its loss knows no activations: the sum of all estimates must be the mixture.
Without one of these, the loss is that of the published code (`gated`).
"""

import dataclasses
from typing import Literal

import jax

from qsep_jax.systems.cantisani2021 import Cantisani2021
from qsep_jax.systems.one_shot import Adaptation
from qsep_jax.training.partition import select

BASE = "B0"
# The untouched mixture as the estimate of every stem.
MIXTURE = "mixture"
LOSSES = ("each", "mixture")


@dataclasses.dataclass(frozen=True)
class Strategy:
    """A strategy of adaptation.

    Attributes:
      preset: Name of its trained parameters in `Cantisani2021.adaptation_presets`.
      reconstruction: The term of its loss that compares estimates with the mixture; None is that of the model.
    """

    preset: str
    reconstruction: Literal["each", "mixture"] | None = None

    @staticmethod
    def parse(name: str) -> "Strategy":
        """The strategy of a name.

        Raises:
          ValueError: if there is none of this name.
        """
        preset, _, last = name.rpartition("-")
        reconstruction: Literal["each", "mixture"] | None = None
        if last == "each" or last == "mixture":
            reconstruction = last
        else:
            preset = name
        if preset not in presets():
            raise ValueError(
                f"unknown strategy '{name}': choose from {', '.join(presets())}, each also with "
                f"{' or '.join(f'-{loss}' for loss in LOSSES)} behind it"
            )
        return Strategy(preset, reconstruction)

    @property
    def title(self) -> str:
        """The name in the table; `:D` are the strategies of the slides, which train the decoder."""
        layers, _, frozen = self.preset.partition("-")
        title = f"P-{layers.upper()}" + ("" if frozen else ":D")
        return title + (f", {self.reconstruction}" if self.reconstruction else "")

    def settings(self, model: Adaptation, system: Cantisani2021) -> Adaptation:
        """The settings of the strategy, from those of the model."""
        trainable = system.adaptation_presets()[self.preset]
        return model.changed(trainable=trainable, reconstruction=self.reconstruction)


def presets() -> tuple[str, ...]:
    """The names of all sets of trained parameters."""
    return tuple(Cantisani2021().adaptation_presets())


def title_of(name: str) -> str:
    """The name of a row: of a strategy, `B0` or `mixture`, with ` gated` where the activations gate the estimates."""
    name, _, gated = name.partition(" ")
    return (name if name in (BASE, MIXTURE) else Strategy.parse(name).title) + (f", {gated}" if gated else "")


def trained_parameters(system: Cantisani2021, name: str) -> int:
    """The number of parameters that a strategy trains; 0 for `B0` and the mixture."""
    if name in (BASE, MIXTURE):
        return 0
    params = jax.eval_shape(lambda: system.init(jax.random.key(0), {}))["params"]
    return sum(leaf.size for leaf in select(params, system.adaptation_presets()[Strategy.parse(name).preset]).values())
