"""Conditions from video: settings of the frames of each player, and the networks that encode them."""

import dataclasses
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax import Array

from data_pipelines.schema import FEATURES, FRAMES
from qsep_jax.dsp.per_device import apply_per_device
from qsep_jax.models.resnet import ResNet, ResNetSize, apply_to_frames
from qsep_jax.models.visual import InstrumentLogits, VisualContext
from qsep_jax.systems.base import Variables
from qsep_jax.systems.capabilities import PlayerFrames


@dataclasses.dataclass(frozen=True)
class Visual(PlayerFrames):
    """The frames of each player and the networks that encode them (Slizovskaia et al. 2021, section 3.2.2).

    Attributes:
      frames: Number of frames of each player.
      spacing: Seconds from one frame to the next; the first is at the beginning of the excerpt.
      size: Height and width of the frames in pixels.
      slots: Largest number of players; empty slots are zeros.
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


@dataclasses.dataclass(frozen=True)
class VisualEncoder:
    """The networks that compute a condition from the frames of all players of a mixture.

    Attributes:
      visual: Frames and sizes.
      classes: Number of instruments whose probabilities are the condition; 0 for the vector itself as the condition.
      compute_dtype: dtype of the network bodies.
    """

    visual: Visual
    classes: int
    compute_dtype: str

    @property
    def resnet(self) -> ResNet:
        return self.visual.resnet.network(self.compute_dtype)

    @property
    def context(self) -> VisualContext:
        return VisualContext(self.visual.summary, self.visual.hidden, jnp.dtype(self.compute_dtype))

    @property
    def probabilities(self) -> InstrumentLogits:
        return InstrumentLogits(self.classes, jnp.dtype(self.compute_dtype))

    @property
    def trainable(self) -> tuple[str, ...]:
        """The names of the networks that are trained."""
        names = [] if self.visual.frozen else ["resnet"]
        names += ["context"] if self.visual.summary == "lstm" else []
        names += ["probabilities"] if self.classes else []
        return tuple(names)

    @property
    def networks(self) -> dict[str, ResNet | VisualContext | InstrumentLogits]:
        """The networks that have parameters, by name."""
        networks: dict[str, ResNet | VisualContext | InstrumentLogits] = {"resnet": self.resnet}
        if self.visual.summary == "lstm":
            networks["context"] = self.context
        if self.classes:
            networks["probabilities"] = self.probabilities
        return networks

    def init(self, keys: Array) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the initial parameters and batch norm statistics by network, from three keys."""
        visual = self.visual
        resnet = self.resnet.init(keys[0], jnp.zeros((1, visual.size, visual.size, 3)), False)
        params = {"resnet": resnet["params"]}
        if visual.summary == "lstm":
            features = jnp.zeros((1, visual.slots, visual.frames, visual.resnet.features))
            params["context"] = self.context.init(keys[1], features, jnp.ones((1, visual.slots)))["params"]
        if self.classes:
            params["probabilities"] = self.probabilities.init(keys[2], jnp.zeros((1, visual.hidden)))["params"]
        return params, {"resnet": resnet["batch_stats"]}

    def condition(self, variables: Variables, batch: dict[str, Array], train: bool) -> tuple[Array, dict[str, Any]]:
        """Return the condition `[B, Z]` of `frames` or `features`, and the batch norm statistics after the batch."""
        features, present, updates = self._features(variables, batch, train and not self.visual.frozen)
        parameters = {"params": variables["params"].get("context", {})}
        condition = apply_per_device(self.context.apply, parameters, features, present)
        if self.classes:
            logits: Any = self.probabilities.apply({"params": variables["params"]["probabilities"]}, condition)
            condition = jax.nn.softmax(logits)
        return condition, updates

    def _features(
        self, variables: Variables, batch: dict[str, Array], train: bool
    ) -> tuple[Array, Array, dict[str, Any]]:
        """Return the features `[B, S, n, D]` of the frames, which slots `[B, S]` have a player, and the statistics.

        Frames are scaled to 0…1 without the normalisation of ImageNet, as in the published code.
        """
        if FEATURES in batch:
            features = batch[FEATURES]
            return features, features.any((2, 3)), {}
        frames = batch[FRAMES]
        present = frames.any((2, 3, 4, 5))
        features, updates = apply_to_frames(self.resnet, variables, frames, present, train)
        return features.reshape(*frames.shape[:3], -1), present, updates
