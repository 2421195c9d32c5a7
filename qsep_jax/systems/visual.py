"""Settings of systems that are conditioned on video: the frames of each player, and the networks that encode them."""

import dataclasses
from typing import Literal

from qsep_jax.models.resnet import ResNetSize


@dataclasses.dataclass(frozen=True)
class PlayerFrames:
    """Which frames of each player a system takes.

    Attributes:
      frames: Number of frames of each player.
      spacing: Seconds from one frame to the next; the first is at the beginning of the excerpt.
      size: Height and width of the frames in pixels.
      slots: Largest number of players; empty slots are zeros.
    """

    frames: int = 1
    spacing: float = 1.2
    size: int = 224
    slots: int = 7


@dataclasses.dataclass(frozen=True)
class Visual(PlayerFrames):
    """The frames of each player and the networks that encode them (Slizovskaia et al. 2021, section 3.2.2).

    Attributes:
      resnet: Size of the network that encodes each frame.
      frozen: Whether that network, its batch norm statistics included, stays as it was loaded (`train.weights`).
      summary: How the frames of all players become one vector: `max` of all frames, or the last state of an `lstm` over
        the frames of the slots, one slot after the other.
      hidden: Size of that vector.
    """

    resnet: ResNetSize = ResNetSize()
    frozen: bool = False
    summary: Literal["max", "lstm"] = "max"
    hidden: int = 1024
