"""Compute the features of the frames of a corpus by a frozen ResNet, once for all trainings that use them.

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
# Number of frames that each device encodes at a time.
FRAMES = 32


@dataclasses.dataclass(frozen=True)
class FrameFeatures:
    """Compute the features of all frames of a prepared corpus, in all of its splits, and store them in its folder.

    Attributes:
      model: Run folder or bundle of a frame classifier, or a file of ResNet-50 weights (.safetensors, .pth, .bin).
      root: Folder of the prepared corpora.
      corpus: Name of the corpus.
      name: Name of the features; existing features of this name are replaced.
      rate: Features per second.
      size: Height and width of the frames in pixels (0: those that the classifier was trained with, or 224 for a file
        of weights).
      sample_rate: Sample rate of the prepared corpus in Hz.
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
    """A frozen network that encodes frames.

    Attributes:
      network: The network.
      variables: Its variables, `{collection: tree}`.
      size: Height and width of the frames in pixels.
      features: Number of features of a frame.
      name: Name of the run folder, bundle or file that it comes from.
    """

    network: ResNet
    variables: Any
    size: int
    features: int
    name: str

    @property
    def mark(self) -> str:
        """The identifier that is stored with the features: name, digest of the weights and size of the frames."""
        digest = hashlib.sha256()
        for leaf in jax.tree.leaves(self.variables):
            digest.update(np.asarray(leaf).tobytes())
        return f"{self.name} {digest.hexdigest()[:16]}, {self.size} pixels"


def load_frame_encoder(model: str, size: int = 0) -> FrameEncoder:
    """Load the network of a frame classifier, or a ResNet-50 from a file of weights.

    Args:
      model: Run folder, bundle or file of weights.
      size: Height and width of the frames in pixels; 0 for the default of the model.

    Raises:
      ValueError: if the model is neither of them, or damaged.
    """
    path = Path(model)
    if path.suffix in torch_weights.SUFFIXES:
        resnet = ResNetSize()
        variables = torch_weights.resnet(torch_weights.read(path), resnet.network())
        return FrameEncoder(resnet.network(), variables, size or 224, resnet.features, path.name)
    saved = find_model(model)
    classifier = saved.load()[1]
    system = classifier.system
    if not isinstance(system, FrameClassifier):
        kind = type(system).__name__
        raise ValueError(f"{model} is a run of {kind}: give one of FrameClassifier, or a file of ResNet-50 weights")
    variables = {name: networks["resnet"] for name, networks in classifier.variables.items()}
    return FrameEncoder(
        system.network, variables, size or system.size, system.resnet.features, saved.path.resolve().name
    )


def compiled_encoder(encoder: FrameEncoder) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function from frames uint8 `[n, H, W, 3]` to their features float32 `[n, D]`, on all local devices."""
    mesh = make_mesh(jax.local_devices())
    sharding = NamedSharding(mesh, PartitionSpec("data"))
    variables = jax.device_put(encoder.variables, replicated(mesh))
    batch_size = FRAMES * mesh.size

    @xla.jit
    def encode_batch(variables: Any, frames: Array) -> Array:
        images = frames.astype(jnp.float32) / 255.0
        return encoder.network.apply(variables, images, False)  # pyright: ignore[reportReturnType]

    def encode(frames: np.ndarray) -> np.ndarray:
        padded = np.pad(frames, ((0, -len(frames) % batch_size), (0, 0), (0, 0), (0, 0)))
        batches = [padded[first : first + batch_size] for first in range(0, len(padded), batch_size)]
        features = [encode_batch(variables, jax.device_put(batch, sharding)) for batch in batches]
        return np.concatenate(jax.device_get(features))[: len(frames)]

    return encode


def features_of_stems(
    corpus: Corpus, rate: float, size: int, encode: Callable[[np.ndarray], np.ndarray]
) -> Iterator[tuple[str, str, str, np.ndarray]]:
    """Yield split, track, stem and the features `[N, D]` at 0, 1 / rate, … s, for each stem of each track.

    Args:
      size: Height and width of the frames in pixels.
      encode: Function from frames to features; it gets at most one batch at a time, so that memory does not depend on
        the length of a track.
    """
    batch_size = FRAMES * len(jax.local_devices())
    for stem in corpus.stems:
        for track in corpus.tracks(stem):
            seconds = corpus.length(track, stem) / corpus.sample_rate
            times = np.arange(max(int(np.ceil(seconds * rate)), 1)) / rate
            batches = [times[first : first + batch_size] for first in range(0, len(times), batch_size)]
            frames_at = partial(corpus.frames, track, stem, size=size)
            yield corpus.split, track, stem, np.concatenate([encode(frames_at(batch)) for batch in batches])


def compute_features(options: FrameFeatures) -> Path:
    """Compute the features and write them: the folder that they are written to.

    Raises:
      ValueError: if the model cannot encode frames, or the corpus is not prepared or has no frames.
    """
    console.need_positive(options, "rate", "sample_rate")
    open_corpus(options.root, options.corpus, options.sample_rate, "train")  # its error tells how to prepare the corpus
    encoder = load_frame_encoder(options.model, options.size)
    folder = corpus_folder(options.root, options.corpus, options.sample_rate)
    index = Metadata.load(folder).index
    corpora = [
        open_corpus(options.root, options.corpus, options.sample_rate, split) for split in SPLITS if index.get(split)
    ]
    total = sum(len(corpus.tracks(stem)) for corpus in corpora for stem in corpus.stems)
    encode = compiled_encoder(encoder)
    with Progress(f"features of {options.corpus}", total, unit="stem") as progress:
        items = progress.over(
            item for corpus in corpora for item in features_of_stems(corpus, options.rate, encoder.size, encode)
        )
        return write(folder, options.name, options.rate, encoder.features, items, encoder.mark)


def main() -> None:
    options = console.parse(FrameFeatures, "qsep frame-features", EXAMPLE)
    console.cache_compilations()
    print(f"written to {compute_features(options)}")


if __name__ == "__main__":
    console.run(main)
