"""Zhao, Gan, Rouditchenko, Vondrick, McDermott, Torralba 2018, "The sound of pixels" (ECCV).

A visual baseline: the frames of a player are encoded as K numbers and the mixture as K maps, and the sum of the maps
with the numbers as weights is the mask of the player. Players are separated independently, and their instruments do not
enter. Experiments 19 to 21 of Slizovskaia et al. 2021.
"""

import dataclasses
from pathlib import Path
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from jax import Array

from data_pipelines.schema import FRAMES, INSTRUMENTS, SLOTS, SOURCES
from qsep_jax.dsp.frequency_scale import to_linear, to_logarithmic
from qsep_jax.dsp.stft import istft, stft
from qsep_jax.models import torch_weights
from qsep_jax.models.resnet import ResNet, ResNetSize, apply_to_frames
from qsep_jax.models.sound_of_pixels import RESNET_18, FrameHead, SoundNet, Synthesizer
from qsep_jax.systems.base import Aux, Batch, BatchSpec, Condition, Optimizer, Phase, System, Variables
from qsep_jax.systems.bounds import LONGEST_WINDOW, MOST_FRAMES, MOST_LEVELS, MOST_PIXELS, MOST_PLAYERS, bounded
from qsep_jax.systems.capabilities import PlayerFrames

STREAM = "separation"
SGD = Optimizer("sgd", learning_rate=1e-3, b1=0.9, l2=1e-4, rates=(("resnet", 0.1),))
FLOOR = 1e-10
# Mean and standard deviation of red, green and blue in ImageNet.
IMAGE_MEAN, IMAGE_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclasses.dataclass(frozen=True)
class SoundOfPixels(System):
    """Sound, frame and synthesizer networks. The defaults are those of the published weights.

    Departs from the published code: the random crop of a frame is taken from the stored frame, enlarged by `zoom`, and
    not from the complete picture.

    Attributes:
      window_length: Length of the STFT window in samples.
      hop_length: Hop of the STFT in samples.
      frames: Number of STFT frames of a training example and of a chunk.
      bins: Number of bins of the logarithmic frequency axis, on which the networks work.
      levels: Number of levels of `SoundNet`.
      channels: Channels of the outermost level of `SoundNet`.
      outputs: Number of maps of `SoundNet`, K.
      resnet: Size of the frame network, which is dilated.
      frames_seen: Number of frames of each player.
      spacing: Seconds between these frames: 24 frames at 8 per second.
      size: Height and width of the frames in pixels.
      slots: Largest number of players of a mixture.
      lowest_volume: Smallest random factor of a source in training.
      highest_volume: Largest random factor of a source in training, after which it is clipped to −1…1.
      zoom: Factor by which frames are enlarged in training, before a random part of the original size is cut out; the
        same for all frames of a player. 1 crops nothing.
      mirror: Whether the frames of each player are mirrored with a probability of one half in training.
      threshold: Probability above which a mask is one.
      optimizer: Optimizer of all networks. In the published code its rate falls to a tenth after epochs 40 and 80 of
        100; `configs/slizovskaia2021.py` sets these steps, which depend on the corpus.
    """

    cues: ClassVar[tuple[str, ...]] = ("frames",)

    stems: tuple[str, ...] = tuple(INSTRUMENTS)
    sample_rate: int = 11_025
    window_length: int = bounded(1022, most=LONGEST_WINDOW)
    hop_length: int = 256
    frames: int = bounded(256, most=MOST_FRAMES)
    bins: int = bounded(256, most=LONGEST_WINDOW)
    levels: int = bounded(7, most=MOST_LEVELS)
    channels: int = 64
    outputs: int = 32
    resnet: ResNetSize = RESNET_18
    frames_seen: int = bounded(3, most=MOST_PLAYERS)
    spacing: float = 3.0
    size: int = bounded(224, most=MOST_PIXELS)
    slots: int = bounded(7, most=MOST_PLAYERS)
    lowest_volume: float = 0.5
    highest_volume: float = 1.5
    zoom: float = 1.1
    mirror: bool = True
    threshold: float = 0.5
    optimizer: Optimizer = SGD
    compute_dtype: str = "float32"

    def __post_init__(self):
        if self.bins % 2**self.levels or self.frames % 2**self.levels:
            raise ValueError(
                f"{self.levels} levels halve {self.bins} bins and {self.frames} frames, which must give whole "
                "numbers: change levels, bins or frames"
            )
        if self.zoom < 1:
            raise ValueError(f"zoom enlarges frames: it must be 1 or more, not {self.zoom:g}")

    @property
    def chunk_samples(self) -> int:
        return self.frames * self.hop_length

    def with_frames(self, frames: int) -> System:
        """Return the same system with chunks of `frames` STFT frames."""
        return dataclasses.replace(self, frames=frames)

    @property
    def visual(self) -> PlayerFrames:
        return PlayerFrames(self.frames_seen, self.spacing, self.size, self.slots)

    @property
    def frame_network(self) -> ResNet:
        return self.resnet.network(self.compute_dtype, dilated=True)

    @property
    def head(self) -> FrameHead:
        return FrameHead(self.outputs, jnp.dtype(self.compute_dtype))

    @property
    def sounds(self) -> SoundNet:
        return SoundNet(self.levels, self.channels, self.outputs, jnp.dtype(self.compute_dtype))

    def init(self, key: Array, spec: BatchSpec) -> Variables:
        keys = jax.random.split(key, 4)
        resnet = self.frame_network.init(keys[0], jnp.zeros((1, self.size, self.size, 3)), False)
        sounds = self.sounds.init(keys[1], jnp.zeros((1, self.frames, self.bins)), False)
        head = self.head.init(keys[2], jnp.zeros((1, 1, 3, 3, self.resnet.features)))
        channels = jnp.zeros((1, 1, self.outputs))
        synthesizer = Synthesizer().init(keys[3], channels, channels[:, None])
        return {
            "params": {
                "resnet": resnet["params"],
                "head": head["params"],
                "sounds": sounds["params"],
                "synthesizer": synthesizer["params"],
            },
            "batch_stats": {"resnet": resnet["batch_stats"], "sounds": sounds["batch_stats"]},
        }

    def phases(self) -> tuple[Phase, ...]:
        return (Phase(STREAM, ("resnet", "head", "sounds", "synthesizer"), self.loss, self.optimizer),)

    def loss(self, variables: Variables, batch: dict[str, Array], key: Array) -> tuple[Array, Aux]:
        """Return the loss of `sources` `[B, S, T, 1]` in `slots` `[B, S]` with their `frames`, at random volumes."""
        volume_key, crop_key, mirror_key = jax.random.split(key, 3)
        shape = batch[SLOTS].shape
        volumes = jax.random.uniform(volume_key, shape, minval=self.lowest_volume, maxval=self.highest_volume)
        frames = batch[FRAMES]
        if self.zoom > 1:
            frames = random_crops(crop_key, frames, round(self.zoom * self.size))
        if self.mirror:
            is_mirrored = jax.random.bernoulli(mirror_key, shape=shape)
            frames = jnp.where(is_mirrored[..., None, None, None, None], frames[:, :, :, :, ::-1], frames)
        loss, updates = self._loss(variables, {**batch, FRAMES: frames}, volumes, train=True)
        return loss, Aux({}, {"batch_stats": updates})

    def validate(self, variables: Variables, batch: Batch, key: Array) -> dict[str, Array]:
        """Return the loss at the volumes of the recordings, with running statistics."""
        data = batch[STREAM]
        return {"loss": self._loss(variables, data, jnp.ones(data[SLOTS].shape), train=False)[0]}

    def _loss(
        self, variables: Variables, batch: dict[str, Array], volumes: Array, *, train: bool
    ) -> tuple[Array, dict[str, Any]]:
        """Return the binary cross-entropy of masks, which are one where `|S| > |Y| / 2`, and the statistics.

        It is weighted by `log(1 + |Y|)`, limited to 0.001…10, and averaged over all bins of all present sources.
        """
        present = (batch[SLOTS] >= 0).astype(jnp.float32)
        signals = jnp.clip(volumes[..., None] * batch[SOURCES][..., 0], -1.0, 1.0)
        gains = present / jnp.maximum(present.sum(1, keepdims=True), 1.0)
        spectrograms = stft(gains[..., None] * signals, self.window_length, self.hop_length)
        sources, mixture = jnp.abs(spectrograms), jnp.abs(spectrograms.sum(1)) + FLOOR
        sources, mixture = to_logarithmic(sources, self.bins), to_logarithmic(mixture, self.bins)
        images, image_updates = self._encode_frames(variables, batch[FRAMES], present, train)
        sounds, sound_updates = self._encode_mixture(variables, mixture, train)
        logits: Any = Synthesizer().apply({"params": variables["params"]["synthesizer"]}, images, sounds)
        targets = (sources > 0.5 * mixture[:, None]).astype(jnp.float32)
        weight = jnp.clip(jnp.log1p(mixture), 1e-3, 10.0)[:, None]
        by_source = (weight * optax.sigmoid_binary_cross_entropy(logits, targets)).mean((2, 3))
        return (present * by_source).sum() / jnp.maximum(present.sum(), 1.0), {**image_updates, **sound_updates}

    def _encode_frames(
        self, variables: Variables, frames: Array, present: Array, train: bool
    ) -> tuple[Array, dict[str, Any]]:
        """Encode the frames of each player, `[B, S, n, H, W, 3]` → `[B, S, K]`; also return the statistics."""
        normal = (IMAGE_MEAN, IMAGE_DEVIATION)
        maps, updates = apply_to_frames(self.frame_network, variables, frames, present, train, *normal)
        maps = maps.reshape(-1, frames.shape[2], *maps.shape[1:])
        numbers: Any = self.head.apply({"params": variables["params"]["head"]}, maps)
        return numbers.reshape(*present.shape, -1), updates

    def _encode_mixture(self, variables: Variables, magnitude: Array, train: bool) -> tuple[Array, dict[str, Any]]:
        """Encode positive magnitudes, `[B, N, bins]` → `[B, N, bins, K]`; also return the statistics."""
        return _run(self.sounds, variables, "sounds", train, jnp.log(magnitude), train)

    def condition(self, variables: Variables, cues: dict[str, Array]) -> Condition:
        """Return the encoded frames of each stem's player, `[B, 13, K]`, and whether it has one, `[B, 13]`.

        Args:
          cues: `frames` uint8 `[B, S, n, H, W, 3]` and `slots` int32 `[B, S]`, the stem that the player of each slot
            plays. Several players of one stem count as one player with more frames.

        Raises:
          ValueError: if one of the two is missing.
        """
        missing = [name for name in (FRAMES, SLOTS) if name not in cues]
        if missing:
            raise ValueError(f"this model is conditioned on frames and slots; {' and '.join(missing)} are missing")
        labels = jax.nn.one_hot(cues[SLOTS], len(self.stems))  # −1 is in no class
        images, _ = self._encode_frames(variables, cues[FRAMES], labels.sum(-1), train=False)
        features = (labels[..., None] * images[:, :, None]).max(1)  # the numbers are above 0
        return {"features": features, "present": labels.max(1)}

    def separate(self, variables: Variables, mixture: Array, condition: Condition) -> Array:
        """Apply the binary mask of each player: `[B, T, C]` → `[B, 13, T, C]`; absent stems are silent."""
        batch, length, channels = mixture.shape
        spectrogram = stft(mixture.swapaxes(1, 2).reshape(-1, length), self.window_length, self.hop_length)
        features, present = (jnp.repeat(condition[name], channels, axis=0) for name in ("features", "present"))
        magnitude = to_logarithmic(jnp.abs(spectrogram) + FLOOR, self.bins)
        sounds, _ = self._encode_mixture(variables, magnitude, train=False)
        logits: Any = Synthesizer().apply({"params": variables["params"]["synthesizer"]}, features, sounds)
        masks = to_linear(jax.nn.sigmoid(logits), spectrogram.shape[-1]) > self.threshold
        masks = masks * present[..., None, None]
        estimates = istft(masks * spectrogram[:, None], self.window_length, self.hop_length)
        return estimates.reshape(batch, channels, -1, length).transpose(0, 2, 3, 1)

    def preview(self, variables: Variables, batch: Batch) -> dict[str, Array]:
        """Return the mixture, its first source, and the estimate of that source."""
        data = batch[STREAM]
        gain = 1.0 / jnp.maximum((data[SLOTS] >= 0).sum(1), 1)[:, None, None]
        mixture = gain * data[SOURCES].sum(1)
        estimates = self.separate(variables, mixture, self.condition(variables, data))
        first = jax.nn.one_hot(data[SLOTS][:, 0], len(self.stems))
        estimate = jnp.einsum("bk,bktc->btc", first, estimates)
        return {"mixture": mixture, "target": gain * data[SOURCES][:, 0], "estimate": estimate}

    def from_file(self, network: str, path: Path) -> Variables:
        """Return published weights; `resnet` and `head` are both in the file of the frame network.

        `resnet` is also read from ImageNet weights of a ResNet-18 with the names of torchvision or Hugging Face.
        """
        if network == "resnet":
            return torch_weights.resnet(torch_weights.read(path), self.frame_network)
        if network == "head":
            return torch_weights.frame_head(torch_weights.read(path), self.head, self.resnet.features)
        if network == "sounds":
            return torch_weights.sound_net(torch_weights.read(path), self.sounds)
        if network == "synthesizer":
            return torch_weights.synthesizer(torch_weights.read(path), self.outputs)
        return super().from_file(network, path)

    def noise(self, rng: np.random.Generator, batch_size: int) -> Batch:
        shape = (batch_size, 2, self.frames_seen, self.size, self.size, 3)
        order = np.stack([rng.permutation(len(self.stems))[:2] for _ in range(batch_size)])
        audio = 0.1 * rng.standard_normal((batch_size, 2, self.chunk_samples, 1), np.float32)
        return {STREAM: {SOURCES: audio, SLOTS: order.astype(np.int32), FRAMES: rng.integers(0, 256, shape, np.uint8)}}


def random_crops(key: Array, frames: Array, enlarged: int) -> Array:
    """Enlarge the frames of each player and cut out a random part of the original size.

    Args:
      key: random key.
      frames: uint8 `[B, S, n, H, W, 3]` with H = W.
      enlarged: height and width to which frames are enlarged by cubic interpolation.

    Returns:
      Frames `[B, S, n, H, W, 3]` float32 from 0 to 255; all of a player are cut at the same place.
    """
    batch, slots, count, size = frames.shape[:4]
    corners = jax.random.randint(key, (batch * slots, 2), 0, enlarged - size + 1)
    shape, scale = (count, size, size, 3), jnp.full(2, enlarged / size)

    def cut(player: Array, corner: Array) -> Array:
        shift = -corner.astype(jnp.float32)
        return jax.image.scale_and_translate(player, shape, (1, 2), scale, shift, "cubic", antialias=False)

    images = jax.vmap(cut)(frames.reshape(-1, *frames.shape[2:]).astype(jnp.float32), corners)
    return jnp.clip(images, 0.0, 255.0).reshape(frames.shape)


def _run(network: nn.Module, variables: Variables, name: str, train: bool, *inputs: Any) -> tuple[Any, dict[str, Any]]:
    """Apply a network; also return its running statistics by its name, which change only in training."""
    collections = {collection: variables[collection][name] for collection in ("params", "batch_stats")}
    if not train:
        return network.apply(collections, *inputs), {}
    result: Any = network.apply(collections, *inputs, mutable=["batch_stats"])
    output, changed = result
    return output, {name: changed["batch_stats"]}
