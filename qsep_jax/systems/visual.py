"""Systems that are conditioned on video: how many frames of each player they take, and of what size."""

import dataclasses
from typing import Literal, NamedTuple

from qsep_jax.models.resnet import ResNetSize


@dataclasses.dataclass(frozen=True)
class Visual:
    """What is seen of each player, and how it becomes one vector (the paper's section 3.2.2).

    Attributes:
      frames: of each player; one at the beginning of the excerpt, or so many, `spacing` seconds apart.
      size: pixels of their sides.
      slots: most players; those that are missing are zeros.
      resnet: the network that each frame goes through.
      frozen: whether it stays as it was loaded (`train.weights`), its statistics included.
      summary: `max` of all frames, or the last state of an `lstm` over the slots' frames, one slot after the other.
      hidden: size of the vector.
    """

    frames: int = 1
    spacing: float = 1.2
    size: int = 224
    slots: int = 7
    resnet: ResNetSize = ResNetSize()
    frozen: bool = False
    summary: Literal["max", "lstm"] = "max"
    hidden: int = 1024


class Seen(NamedTuple):
    """What is shown of each player: frames, `spacing` seconds apart, and for how many players there is room."""

    frames: int
    spacing: float
    size: int
    slots: int
