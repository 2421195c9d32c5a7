"""Slizovskaia, Haro, Gómez 2021, "Conditioned source separation for musical instrument performances".

A U-Net estimates a mask for each of 13 instruments. It may be conditioned on which of them play: on labels, on one
video frame of each player, or on several frames of each. The condition enters by FiLM at one of three places, or the
masks are multiplied by it. The paper's experiments differ in the fields below; `configs/slizovskaia2021.py` has them by
number.
"""

import dataclasses
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from data_pipelines.schema import FEATURES, FRAMES, INSTRUMENTS, SLOTS, SOURCES
from qsep_jax.dsp.frequency_scale import to_linear, to_logarithmic
from qsep_jax.dsp.level_scale import FLOOR, db_normalised, log_normalised
from qsep_jax.dsp.stft import istft, stft
from qsep_jax.losses.masks import binary_masks, ratio_masks, weighted_binary_cross_entropy
from qsep_jax.models import conditioned_unet_weights, torch_weights
from qsep_jax.models.mask_unet import MaskUNet
from qsep_jax.systems import curriculum
from qsep_jax.systems.base import Aux, Batch, BatchSpec, Optimizer, Phase, System, Variables
from qsep_jax.systems.bounds import LONGEST_WINDOW, MOST_FRAMES, MOST_LEVELS, bounded
from qsep_jax.systems.visual import Visual, VisualEncoder

STREAM = "separation"


@dataclasses.dataclass(frozen=True)
class Slizovskaia2021(System):
    """U-Net or Multi-Head U-Net, conditioned or not. The defaults are experiment 6 as the published code has it.

    Examples have 65,536 samples instead of 65,535, since frames are centred in their hop.

    Attributes:
      window_length: Length of the STFT window in samples.
      hop_length: Hop of the STFT in samples.
      frames: Number of STFT frames of a training example and of a chunk.
      frequency_scale: Frequency axis of the input and the masks; `logarithmic` has half as many bins.
      level_scale: Scale of the input: `db` or natural logarithm (`log`), each normalised to −1…1 in every example.
      input_noise: Standard deviation of normally distributed noise that is added to the input, as in the code also in
        validation and inference. There it is always the same, so that results can be repeated.
      channels: Channels of the levels of the U-Net.
      heads: Whether each instrument has a decoder of its own.
      output: What the network estimates. `ratio`: masks, trained by L2. `binary`: masks, trained by cross-entropy in
        which a one has the weight `positive_weight`. `magnitude`: the magnitudes, trained by L2, relative to the
        largest of the mixture (the paper's section 5.4).
      competing: Whether ratio masks are a softmax over the instruments, as in the published code. The visual models of
        the code are an exception: their masks are the maps of the network, 0 or more.
      positive_weight: Weight of a one in the cross-entropy of binary masks.
      conditioning: Place where the condition enters. With `multiply` it is a factor of the map of each instrument.
      film_offset: Constant that FiLM adds to γ: 1 as in the code, 0 as in Eq. 9 of the paper.
      multiply: Whether the condition multiplies the maps (`before` the softmax, as in the code, where an absent
        instrument has a logit of 0) or the masks (`after`, as the paper says, where it has silence).
      visual: Frames of the players that the system is conditioned on; None for labels.
      common_gain: Whether the targets of `binary` masks and `magnitude` are the sources divided by their number, as the
        mixture is. In the code the sources are not divided. Ratio masks do not depend on it.
      curriculum: Whether mixtures start with 2 sources and have one more whenever the validation loss has not fallen by
        1e-4 for `curriculum_patience` steps. The recipe must always draw the largest number.
      curriculum_patience: Number of steps without improvement. The code adds a source when more than 10 epochs of 250
        steps had none, that is after the 11th; the paper says 10,000 steps.
      classifier_weight: Weight of a loss that classifies the instruments from the bottleneck (the paper's section 5.4).
      dropout: Dropout rate of the U-Net.
      optimizer: Learning rate and patience are those of the code, which halves the rate after the 51st epoch without
        improvement; the paper says 1e-5 and 25,000. The threshold is PyTorch's default, a ten-thousandth of the lowest
        loss. When the curriculum adds a source, the lowest loss is forgotten.
    """

    stems: tuple[str, ...] = tuple(INSTRUMENTS)
    sample_rate: int = 11_025
    window_length: int = bounded(1022, most=LONGEST_WINDOW)
    hop_length: int = 256
    frames: int = bounded(256, most=MOST_FRAMES)
    frequency_scale: Literal["linear", "logarithmic"] = "linear"
    level_scale: Literal["db", "log"] = "db"
    input_noise: float = 0.0
    channels: tuple[int, ...] = bounded((16, 32, 64, 128, 256, 512), longest=MOST_LEVELS)
    heads: bool = False
    output: Literal["ratio", "binary", "magnitude"] = "ratio"
    competing: bool = True
    positive_weight: float = 5.0
    conditioning: Literal["none", "bottleneck", "encoder", "final", "multiply"] = "none"
    film_offset: float = 1.0
    multiply: Literal["before", "after"] = "before"
    visual: Visual | None = None
    common_gain: bool = False
    curriculum: bool = False
    curriculum_patience: int = 2_750
    classifier_weight: float = 0.0
    dropout: float = 0.2
    optimizer: Optimizer = Optimizer(
        learning_rate=1e-4,
        l2=5e-4,
        schedule="plateau",
        factor=0.5,
        patience=12_750,
        threshold=1e-4,
        threshold_mode="relative",
    )
    compute_dtype: str = "float32"

    def __post_init__(self):
        halvings, bins = len(self.channels), self.bins
        if bins % 2**halvings or self.frames % 2**halvings:
            raise ValueError(
                f"{halvings} levels halve {bins} bins and {self.frames} frames, which must give whole numbers: change "
                f"channels, window_length or frames"
            )
        if self.visual and self.conditioning == "none":
            raise ValueError("visual needs a place where the condition enters: set conditioning, or leave visual out")

    @property
    def cues(self) -> tuple[str, ...]:  # pyright: ignore[reportIncompatibleVariableOverride]
        if self.conditioning == "none":
            return ()
        return ("frames",) if self.visual else ("labels",)

    @property
    def asks_who_plays(self) -> bool:
        """Whether the condition is the probabilities of the instruments, estimated from video."""
        return self.visual is not None and self.conditioning == "multiply"

    @property
    def bins(self) -> int:
        """The number of frequency bins of the input and the masks."""
        linear = self.window_length // 2 + 1
        return linear // 2 if self.frequency_scale == "logarithmic" else linear

    @property
    def chunk_samples(self) -> int:
        return self.frames * self.hop_length

    def with_frames(self, frames: int) -> System:
        """Return the same system with chunks of `frames` STFT frames."""
        return dataclasses.replace(self, frames=frames)

    @property
    def separator(self) -> MaskUNet:
        film = "none" if self.conditioning == "multiply" else self.conditioning
        classes = len(self.stems) if self.classifier_weight else 0
        dtype = jnp.dtype(self.compute_dtype)
        return MaskUNet(
            len(self.stems), self.channels, self.heads, film, self.film_offset, classes, self.dropout, dtype
        )

    @property
    def _condition_size(self) -> int:
        return self.visual.hidden if self.visual else len(self.stems)

    @property
    def encoder(self) -> VisualEncoder | None:
        """The networks that compute the condition from video, if there are any."""
        classes = len(self.stems) if self.conditioning == "multiply" else 0
        return VisualEncoder(self.visual, classes, self.compute_dtype) if self.visual else None

    def init(self, key: Array, spec: BatchSpec) -> Variables:
        separator_key, *visual_keys = jax.random.split(key, 4)
        spectrogram = jnp.zeros((1, self.frames, self.bins))
        params, statistics = self.encoder.init(jnp.stack(visual_keys)) if self.encoder else ({}, {})
        condition = jnp.zeros((1, self._condition_size)) if self.separator.film != "none" else None
        separator = self.separator.init(separator_key, spectrogram, condition, False, key)
        variables = {
            "params": {"separator": separator["params"], **params},
            "batch_stats": {"separator": separator["batch_stats"], **statistics},
        }
        return {**variables, curriculum.COLLECTION: curriculum.initial()} if self.curriculum else variables

    def phases(self) -> tuple[Phase, ...]:
        trainable = ("separator", *(self.encoder.trainable if self.encoder else ()))
        return (Phase(STREAM, trainable, self.loss, self.optimizer),)

    def loss(self, variables: Variables, batch: dict[str, Array], key: Array) -> tuple[Array, Aux]:
        """Return the loss (Eq. 6 or 7, as means) of `sources` `[B, S, T, 1]` in `slots` `[B, S]` with their frames."""
        count_key, noise_key, dropout_key = jax.random.split(key, 3)
        if self.curriculum:
            batch = curriculum.random_sources(batch, variables, count_key)
        return self._loss(variables, batch, noise_key, dropout_key, train=True)

    def validate(self, variables: Variables, batch: Batch, key: Array) -> dict[str, Array]:
        """Return the same loss with running statistics, without dropout, and with noise of `key`."""
        data = dict(batch[STREAM])
        if self.curriculum:
            data = curriculum.spread_sources(data, variables)
        loss, aux = self._loss(variables, data, key, key, train=False)
        return {"loss": loss, **aux.metrics}

    def observe(self, variables: Variables, loss: Array, updates: Array) -> Variables:
        """Advance the curriculum if the validation loss stagnates."""
        return curriculum.advance(variables, loss, updates, self.curriculum_patience) if self.curriculum else variables

    def stage(self, variables: Variables) -> Array:
        """Return the largest number of sources of a mixture with a curriculum, 0 without one."""
        return curriculum.most_sources(variables) if self.curriculum else jnp.zeros(())

    def _loss(
        self, variables: Variables, batch: dict[str, Array], noise_key: Array, dropout_key: Array, *, train: bool
    ) -> tuple[Array, Aux]:
        labels = jax.nn.one_hot(batch[SLOTS], len(self.stems))  # [B, S, K]; −1 is in no class
        spectrograms = stft(batch[SOURCES][..., 0], self.window_length, self.hop_length)
        count = labels.sum((1, 2))
        mixture = spectrograms.sum(1) / count[:, None, None]
        present = labels.sum(-1)[:, :, None, None]
        magnitudes = present * (jnp.abs(spectrograms) + FLOOR)
        sources = jnp.einsum("bsk,bsnf->bknf", labels, magnitudes)
        condition, updates = self._condition(variables, batch, labels.sum(1), train)
        magnitude = jnp.abs(mixture) + FLOOR
        inputs = self._scaled(magnitude)
        if self.input_noise:
            inputs = inputs + self.input_noise * jax.random.normal(noise_key, inputs.shape)
        maps, logits, statistics = self._maps(variables, inputs, condition, train, dropout_key)
        if self.frequency_scale == "logarithmic":
            sources, magnitude = to_logarithmic(sources, self.bins), to_logarithmic(magnitude, self.bins)
        loss = self._mask_loss(maps, condition, sources, magnitude, count)
        metrics = {"masks": loss}
        if logits is not None:
            metrics["classes"] = optax.sigmoid_binary_cross_entropy(logits, labels.sum(1)).mean()
            loss = loss + self.classifier_weight * metrics["classes"]
        if self.curriculum:
            metrics["most_sources"] = curriculum.most_sources(variables)
        return loss, Aux(metrics, {"batch_stats": {**statistics, **updates}} if train else {})

    def _mask_loss(self, maps: Array, condition: Array | None, sources: Array, magnitude: Array, count: Array) -> Array:
        """Compare maps with the magnitudes of sources, both `[B, K, N, bins]`; a mixture has `count` `[B]` of them."""
        targets = sources / count[:, None, None, None] if self.common_gain else sources
        if self.output == "binary":
            return weighted_binary_cross_entropy(maps, binary_masks(targets, magnitude), self.positive_weight)
        if self.output == "magnitude":
            return jnp.square(maps - targets / magnitude.max((1, 2))[:, None, None, None]).mean()
        return jnp.square(self._masks(maps, condition) - ratio_masks(sources)).mean()

    def _scaled(self, magnitude: Array) -> Array:
        """Scale magnitudes `[B, N, F]` to the input of the network, `[B, N, bins]`."""
        if self.frequency_scale == "logarithmic":
            magnitude = to_logarithmic(magnitude, self.bins)
        return db_normalised(magnitude) if self.level_scale == "db" else log_normalised(magnitude)

    def _maps(
        self, variables: Variables, inputs: Array, condition: Array | None, train: bool, key: Array
    ) -> tuple[Array, Array | None, dict[str, Any]]:
        """Return maps `[B, K, N, bins]`, multiplied by the condition if that is its place, logits, and statistics."""
        factors, film = (condition, None) if self.conditioning == "multiply" else (None, condition)
        collections = {name: variables[name]["separator"] for name in ("params", "batch_stats")}
        if train:
            result: Any = self.separator.apply(collections, inputs, film, True, key, mutable=["batch_stats"])
            (maps, logits), changed = result
            statistics = {"separator": changed["batch_stats"]}
        else:
            outputs: Any = self.separator.apply(collections, inputs, film, False, key)
            (maps, logits), statistics = outputs, {}
        if factors is not None and (self.multiply == "before" or self.output != "ratio"):
            maps = maps * factors[:, :, None, None]
        return maps, logits, statistics

    def _masks(self, maps: Array, condition: Array | None) -> Array:
        """Return ratio masks `[B, K, N, bins]` from maps."""
        masks = jax.nn.softmax(maps, axis=1) if self.competing else maps
        if self.conditioning == "multiply" and self.multiply == "after" and condition is not None:
            masks = masks * condition[:, :, None, None]
        return masks

    def _condition(
        self, variables: Variables, batch: dict[str, Array], labels: Array, train: bool
    ) -> tuple[Array | None, dict[str, Any]]:
        """Return the condition `[B, Z]` of a batch, None without one, and the batch norm statistics after the batch."""
        if self.conditioning == "none":
            return None, {}
        return self.encoder.condition(variables, batch, train) if self.encoder else (labels, {})

    def condition(self, variables: Variables, cues: dict[str, Array]) -> Any:
        """Return the condition `[B, Z]`, or () of an unconditioned system.

        Args:
          cues: `labels` `[B, K]`, or `frames` `[B, S, n, H, W, 3]` uint8 or their `features`.

        Raises:
          ValueError: if the system is conditioned on another cue.
        """
        if not self.cues:
            return ()
        accepted = {"labels"} if not self.visual else {FRAMES, FEATURES}
        if not accepted & set(cues):
            raise ValueError(f"this model is conditioned on {self.cues[0]}, not on {', '.join(cues) or 'nothing'}")
        return self._condition(variables, cues, cues.get("labels", jnp.zeros(())), False)[0]

    def separate(self, variables: Variables, mixture: Array, condition: Any) -> Array:
        """Separate all instruments, with the phase of the mixture: `[B, T, C]` → `[B, K, T, C]`.

        The estimates of instruments that are absent by the condition are those of the network; they are not silenced.
        """
        spectrograms = jnp.moveaxis(self.spectrograms(variables, mixture, condition), -1, 2)
        return jnp.moveaxis(istft(spectrograms, self.window_length, self.hop_length), 2, 3)

    def spectrograms(self, variables: Variables, mixture: Array, condition: Any) -> Array:
        """Return the estimates of `separate` before the inverse STFT: complex `[B, K, N, F, C]`."""
        batch, length, channels = mixture.shape
        spectrogram = stft(mixture.swapaxes(1, 2).reshape(-1, length), self.window_length, self.hop_length)
        conditions = None if isinstance(condition, tuple) else jnp.repeat(condition, channels, axis=0)
        magnitude = jnp.abs(spectrogram) + FLOOR
        inputs, key = self._scaled(magnitude), jax.random.key(0)
        if self.input_noise:  # the same for every example, so that an estimate does not depend on the batch
            inputs = inputs + self.input_noise * jax.random.normal(key, (1, *inputs.shape[1:]))
        maps = self._maps(variables, inputs, conditions, False, key)[0]
        if self.output == "binary":
            masks = (maps > 0).astype(jnp.float32)  # a probability above one half
        elif self.output == "magnitude":
            masks = maps * magnitude.max((1, 2))[:, None, None, None]
        else:
            masks = self._masks(maps, conditions)
        if self.frequency_scale == "logarithmic":
            masks = to_linear(masks, spectrogram.shape[-1])
        if self.output == "magnitude":
            masks = masks / magnitude[:, None]
        estimates = masks * spectrogram[:, None]
        return jnp.moveaxis(estimates.reshape(batch, channels, *estimates.shape[1:]), 1, -1)

    def preview(self, variables: Variables, batch: Batch) -> dict[str, Array]:
        """Return the mixture, its first source, and the estimate of that source."""
        data = batch[STREAM]
        labels = jax.nn.one_hot(data[SLOTS], len(self.stems))
        gain = 1 / labels.sum((1, 2))[:, None, None]
        mixture = gain * data[SOURCES].sum(1)
        cues = {name: data[name] for name in (FRAMES, FEATURES) if name in data} if self.visual else {}
        condition = self.condition(variables, cues or {"labels": labels.sum(1)})
        estimates = self.separate(variables, mixture, condition)
        estimate = jnp.einsum("bk,bktc->btc", labels[:, 0], estimates)
        return {"mixture": mixture, "target": gain * data[SOURCES][:, 0], "estimate": estimate}

    def from_file(self, network: str, path: Path) -> Variables:
        """Return a network of a checkpoint of the authors, or ImageNet weights of the ResNet.

        A checkpoint is a state dictionary of all networks, of which `separator`, `resnet`, `context` and
        `probabilities` are read one by one. ImageNet weights have the names of torchvision or Hugging Face.
        """
        if network == "separator":
            weights, film = torch_weights.read(path), self.separator.film != "none"
            return conditioned_unet_weights.unet(weights, self.separator, self._condition_size if film else 0)
        if self.encoder and network in self.encoder.networks:
            return conditioned_unet_weights.visual(torch_weights.read(path), self.encoder.networks[network])
        return super().from_file(network, path)

    def noise(self, rng: np.random.Generator, batch_size: int) -> Batch:
        slots = self.visual.slots if self.visual else 7
        audio = 0.1 * rng.standard_normal((batch_size, slots, self.chunk_samples, 1), np.float32)
        order = np.stack([rng.permutation(len(self.stems))[:slots] for _ in range(batch_size)]).astype(np.int32)
        order[:, slots - slots // 2 :] = -1
        present = order >= 0
        batch = {SOURCES: audio * present[:, :, None, None], SLOTS: order}
        if self.visual:
            shape = (batch_size, slots, self.visual.frames, self.visual.size, self.visual.size, 3)
            frames = rng.integers(0, 256, shape, np.uint8)
            batch[FRAMES] = frames * present[:, :, None, None, None, None]
        return {STREAM: batch}
