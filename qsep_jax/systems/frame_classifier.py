"""A residual network that classifies the instrument of the player in a video frame.

Departs from the paper: Slizovskaia et al. 2021 start from a ResNet-50 that was trained on ImageNet. Where its weights
are not available, this system trains one on the frames of the corpus, and `--train.weights.resnet RUN` loads it into a
separator. The layer on top of the network is the one that computes the probabilities in experiment 16, which can be
initialised with it, too.
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
from qsep_jax.systems.bounds import MOST_PIXELS, bounded

STREAM = "separation"
RESNET_50 = ResNetSize()
ADAM = Optimizer(learning_rate=1e-3)


@dataclasses.dataclass(frozen=True)
class FrameClassifier(System):
    """A ResNet and one dense layer, trained by cross-entropy on the frames of all players.

    It takes the batches of `MixAndSeparate`.

    Attributes:
      samples: T of the excerpts that the frames are from.
      size: Height and width of the frames in pixels. Frames are scaled to 0…1 and not normalised further, as in the
        separators.
      resnet: Size of the network.
      hidden: Size of the vector that the features are pooled to, as in the separators.
      optimizer: Optimizer of the network and the layer.
    """

    cues: ClassVar[tuple[str, ...]] = ()

    stems: tuple[str, ...] = tuple(INSTRUMENTS)
    sample_rate: int = 11_025
    samples: int = 65_536
    size: int = bounded(224, most=MOST_PIXELS)
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
        """Return the mean cross-entropy of the frames `[B, S, n, H, W, 3]` of all non-empty `slots` `[B, S]`."""
        loss, accuracy, updates = self._classify(variables, batch, train=True)
        return loss, Aux({"accuracy": accuracy}, {"batch_stats": updates})

    def validate(self, variables: Variables, batch: Batch, key: Array) -> dict[str, Array]:
        loss, accuracy, _ = self._classify(variables, batch[STREAM], train=False)
        return {"loss": loss, "accuracy": accuracy}

    def _classify(
        self, variables: Variables, batch: dict[str, Array], *, train: bool
    ) -> tuple[Array, Array, dict[str, Any]]:
        """Return cross-entropy, accuracy and the batch norm statistics after the batch."""
        frames = batch[FRAMES]
        classes = jnp.repeat(batch[SLOTS], frames.shape[2], axis=1).reshape(-1)
        counts = classes >= 0
        features, updates = apply_to_frames(self.network, variables, frames, batch[SLOTS] >= 0, train)
        pooled = adaptive_max_pool(features, self.hidden)
        logits: Any = self.probabilities.apply({"params": variables["params"]["probabilities"]}, pooled)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.maximum(classes, 0))
        correct, total = logits.argmax(-1) == classes, jnp.maximum(counts.sum(), 1)
        return (losses * counts).sum() / total, (correct & counts).sum() / total, updates

    def preview(self, variables: Variables, batch: Batch) -> dict[str, Array]:
        """Return nothing: the system has no waveforms."""
        return {}

    def condition(self, variables: Variables, cues: dict[str, Array]) -> NoReturn:
        self._refuse()

    def separate(self, variables: Variables, mixture: Array, condition: Any) -> NoReturn:
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise ValueError(
            "a FrameClassifier classifies instruments and does not separate: initialise a visual separator from it by "
            "--train.weights.resnet RUN"
        )

    def from_file(self, network: str, path: Path) -> Variables:
        """Return ImageNet weights of the ResNet from a file with the names of torchvision or Hugging Face."""
        if network != "resnet":
            return super().from_file(network, path)
        return torch_weights.resnet(torch_weights.read(path), self.network)

    def noise(self, rng: np.random.Generator, batch_size: int) -> Batch:
        frames = rng.integers(0, 256, (batch_size, 1, 1, self.size, self.size, 3), np.uint8)
        return {STREAM: {SLOTS: rng.integers(0, len(self.stems), (batch_size, 1)).astype(np.int32), FRAMES: frames}}
