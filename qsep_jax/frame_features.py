"""What a frozen ResNet makes of the frames of a corpus, computed once for all trainings that only look at it.

`qsep frame-features --model RUN --root ROOT --corpus NAME --name FEATURES`
"""

import dataclasses
import hashlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import NamedSharding, PartitionSpec

from data_pipelines.prepared.corpus import Corpus, open_corpus
from data_pipelines.prepared.store import Metadata, corpus_folder
from data_pipelines.progress import Progress
from data_pipelines.schema import SPLITS
from data_pipelines.video.features import write
from qsep_jax.command_line import console
from qsep_jax.models import torch_weights
from qsep_jax.models.resnet import ResNet, ResNetSize
from qsep_jax.nn import xla
from qsep_jax.runs.bundle import find_model
from qsep_jax.systems.frame_classifier import FrameClassifier
from qsep_jax.training.sharding import make_mesh, replicated

EXAMPLE = "qsep frame-features --model runs/classifier --root data --corpus chamber --name classifier"
# Frames that go through the network at a time, on each device.
FRAMES = 32


@dataclasses.dataclass(frozen=True)
class FrameFeatures:
    """Compute the features of all frames of a corpus, in all of its splits, and keep them beside it.

    Attributes:
      model: a run folder or a bundle of a frame classifier, or a file of ResNet-50 weights (.safetensors, .pth, .bin).
      root: folder of the prepared corpora.
      corpus: name of the corpus.
      name: what the features are called; features of this name are replaced.
      rate: features per second.
      size: height and width of frames in pixels; by default what the classifier was trained with, or 224.
      sample_rate: of the prepared copy, Hz.
    """

    model: str
    root: Path
    corpus: str
    name: str
    rate: float = 5.0
    size: int = 0
    sample_rate: int = 11_025


@dataclasses.dataclass(frozen=True)
class FrameEncoder:
    """A frozen network with all that it takes to look: variables, size of frames, features, and where it is from."""

    network: ResNet
    variables: Any
    size: int
    features: int
    name: str

    @property
    def mark(self) -> str:
        """Name, digest of the weights and size of the frames."""
        digest = hashlib.sha256()
        for leaf in jax.tree.leaves(self.variables):
            digest.update(np.asarray(leaf).tobytes())
        return f"{self.name} {digest.hexdigest()[:16]}, {self.size} pixels"


def load_frame_encoder(model: str, size: int = 0) -> FrameEncoder:
    """The network of a frame classifier, or a ResNet-50 of a file of weights.

    Raises:
      ValueError: if it is neither, or damaged.
    """
    path = Path(model)
    if path.suffix in torch_weights.SUFFIXES:
        resnet = ResNetSize()
        variables = torch_weights.resnet(torch_weights.read(path), resnet.network())
        return FrameEncoder(resnet.network(), variables, size or 224, resnet.features, path.name)
    source = find_model(model)
    loaded = source.load()[1]
    system = loaded.system
    if not isinstance(system, FrameClassifier):
        kind = type(system).__name__
        raise ValueError(f"{model} is a run of {kind}: give one of FrameClassifier, or a file of ResNet-50 weights")
    variables = {name: networks["resnet"] for name, networks in loaded.variables.items()}
    return FrameEncoder(
        system.network, variables, size or system.size, system.resnet.features, source.path.resolve().name
    )


def compiled_encoder(encoder: FrameEncoder) -> Callable[[np.ndarray], np.ndarray]:
    """A function from frames uint8 `[n, H, W, 3]` to their features float32 `[n, D]`, on all local devices."""
    mesh = make_mesh(jax.local_devices())
    spread = NamedSharding(mesh, PartitionSpec("data"))
    variables = jax.device_put(encoder.variables, replicated(mesh))
    together = FRAMES * mesh.size

    @xla.jit
    def look(variables: Any, frames: Array) -> Array:
        images = frames.astype(jnp.float32) / 255.0
        return encoder.network.apply(variables, images, False)  # pyright: ignore[reportReturnType]

    def features(frames: np.ndarray) -> np.ndarray:
        padded = np.pad(frames, ((0, -len(frames) % together), (0, 0), (0, 0), (0, 0)))
        parts = [padded[first : first + together] for first in range(0, len(padded), together)]
        found = [look(variables, jax.device_put(part, spread)) for part in parts]
        return np.concatenate(jax.device_get(found))[: len(frames)]

    return features


def rows_of(
    corpus: Corpus, rate: float, size: int, look: Callable[[np.ndarray], np.ndarray]
) -> Iterator[tuple[str, str, str, np.ndarray]]:
    """Split, track, stem and the features at 0, 1 / rate, … s of each stem of each track, frames in pieces."""
    piece = FRAMES * len(jax.local_devices())
    for stem in corpus.stems:
        for track in corpus.tracks(stem):
            seconds = corpus.length(track, stem) / corpus.sample_rate
            times = np.arange(max(int(np.ceil(seconds * rate)), 1)) / rate
            parts = [times[first : first + piece] for first in range(0, len(times), piece)]
            frames = partial(corpus.frames, track, stem, size=size)
            yield corpus.split, track, stem, np.concatenate([look(frames(part)) for part in parts])


def make(options: FrameFeatures) -> Path:
    """Compute and write the features; the folder where they are.

    Raises:
      ValueError: if the model is no ResNet of frames, or the corpus is not prepared or has no frames.
    """
    console.need_positive(options, "rate", "sample_rate")
    open_corpus(options.root, options.corpus, options.sample_rate, "train")  # says how to prepare it, where it is not
    encoder = load_frame_encoder(options.model, options.size)
    folder = corpus_folder(options.root, options.corpus, options.sample_rate)
    index = Metadata.load(folder).index
    corpora = [
        open_corpus(options.root, options.corpus, options.sample_rate, split) for split in SPLITS if index.get(split)
    ]
    total = sum(len(corpus.tracks(stem)) for corpus in corpora for stem in corpus.stems)
    look = compiled_encoder(encoder)
    with Progress(f"features of {options.corpus}", total, unit="stem") as progress:
        items = progress.over(item for corpus in corpora for item in rows_of(corpus, options.rate, encoder.size, look))
        return write(folder, options.name, options.rate, encoder.features, items, encoder.mark)


def main() -> None:
    options = console.parse(FrameFeatures, "qsep frame-features", EXAMPLE)
    console.cache_compilations()
    print(f"written to {make(options)}")


if __name__ == "__main__":
    console.run(main)
