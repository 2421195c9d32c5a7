"""A residual network that learns to name the instrument of the player in a video frame.

Departs from the paper: Slizovskaia et al. 2021 start from a ResNet-50 that was trained on ImageNet. Where its weights
are not at hand, this trains one on the frames themselves, and a run of it is given to `--train.weights.resnet`. What is
on top of it is what turns a picture into probabilities in experiment 16, which can begin with that layer, too.
"""

import dataclasses
from pathlib import Path
from typing import Any, ClassVar, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from data_pipelines.schema import FRAMES, INSTRUMENTS, SLOTS
from qsep_jax.models import torch_weights
from qsep_jax.models.resnet import ResNet, ResNetSize, apply_to_frames
from qsep_jax.models.visual import InstrumentLogits, adaptive_max_pool
from qsep_jax.systems.base import Aux, Batch, BatchSpec, Optimizer, Phase, System, Variables

STREAM = "separation"
RESNET_50 = ResNetSize()
ADAM = Optimizer(learning_rate=1e-3)


@dataclasses.dataclass(frozen=True)
class FrameClassifier(System):
    """ResNet and one layer, by cross-entropy over the frames of all players: batches are those of `MixAndSeparate`.

    Attributes:
      samples: of the excerpts that frames are from.
      size: height and width of frames, in pixels. They are scaled to 0…1 and no further, as the separators have them.
      hidden: size of the vector that features are pooled to, as separators do.
    """

    cues: ClassVar[tuple[str, ...]] = ()

    stems: tuple[str, ...] = tuple(INSTRUMENTS)
    sample_rate: int = 11_025
    samples: int = 65_536
    size: int = 224
    resnet: ResNetSize = RESNET_50
    hidden: int = 1024
    optimizer: Optimizer = ADAM
    compute_dtype: str = "float32"

    @property
    def chunk_samples(self) -> int:
        return self.samples

    @property
    def tasks(self) -> tuple[str, ...]:
        return ()

    @property
    def network(self) -> ResNet:
        return self.resnet.network(self.compute_dtype)

    @property
    def probabilities(self) -> InstrumentLogits:
        return InstrumentLogits(len(self.stems))

    def init(self, key: Array, spec: BatchSpec) -> Variables:
        resnet_key, top_key = jax.random.split(key)
        resnet = self.network.init(resnet_key, jnp.zeros((1, self.size, self.size, 3)), False)
        top = self.probabilities.init(top_key, jnp.zeros((1, self.hidden)))
        return {
            "params": {"resnet": resnet["params"], "probabilities": top["params"]},
            "batch_stats": {"resnet": resnet["batch_stats"]},
        }

    def phases(self) -> tuple[Phase, ...]:
        return (Phase("classifier", ("resnet", "probabilities"), self.loss, self.optimizer, stream=STREAM),)

    def loss(self, variables: Variables, batch: dict[str, Array], key: Array) -> tuple[Array, Aux]:
        """Mean cross-entropy of the frames `[B, S, n, H, W, 3]` of the `slots` `[B, S]` that hold someone."""
        loss, accuracy, updates = self._judge(variables, batch, train=True)
        return loss, Aux({"accuracy": accuracy}, {"batch_stats": updates})

    def validate(self, variables: Variables, batch: Batch, key: Array) -> dict[str, Array]:
        loss, accuracy, _ = self._judge(variables, batch[STREAM], train=False)
        return {"loss": loss, "accuracy": accuracy}

    def _judge(
        self, variables: Variables, batch: dict[str, Array], *, train: bool
    ) -> tuple[Array, Array, dict[str, Any]]:
        frames = batch[FRAMES]
        wanted = jnp.repeat(batch[SLOTS], frames.shape[2], axis=1).reshape(-1)
        counts = wanted >= 0
        features, updates = apply_to_frames(self.network, variables, frames, batch[SLOTS] >= 0, train)
        pooled = adaptive_max_pool(features, self.hidden)
        logits: Any = self.probabilities.apply({"params": variables["params"]["probabilities"]}, pooled)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.maximum(wanted, 0))
        right, total = logits.argmax(-1) == wanted, jnp.maximum(counts.sum(), 1)
        return (losses * counts).sum() / total, (right & counts).sum() / total, updates

    def preview(self, variables: Variables, batch: Batch) -> dict[str, Array]:
        """Nothing sounds."""
        return {}

    def condition(self, variables: Variables, cues: dict[str, Array]) -> NoReturn:
        self._refuse()

    def separate(self, variables: Variables, mixture: Array, condition: Any) -> NoReturn:
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise ValueError(
            "a FrameClassifier names instruments and separates nothing: start a visual separator from it by "
            "--train.weights.resnet RUN"
        )

    def from_file(self, network: str, path: Path) -> Variables:
        """ImageNet weights of the ResNet, in torchvision's or Hugging Face's names."""
        if network != "resnet":
            return super().from_file(network, path)
        return torch_weights.resnet(torch_weights.read(path), self.network)

    def noise(self, rng: np.random.Generator, batch_size: int) -> Batch:
        frames = rng.integers(0, 256, (batch_size, 1, 1, self.size, self.size, 3), np.uint8)
        return {STREAM: {SLOTS: rng.integers(0, len(self.stems), (batch_size, 1)).astype(np.int32), FRAMES: frames}}
