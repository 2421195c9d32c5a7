"""Slizovskaia, Haro, Gómez 2021, "Conditioned source separation for musical instrument performances".

A U-Net gives a mask for each of 13 instruments, and may be told which of them play: by labels, by a picture of each
player, or by several pictures of each. What it is told enters by FiLM at one of three places or multiplies the masks.
The paper's experiments differ in the fields below; `configs/slizovskaia2021.py` has them by number.
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
from qsep_jax.dsp.per_device import apply_per_device
from qsep_jax.dsp.stft import istft, stft
from qsep_jax.losses import plateau
from qsep_jax.losses.masks import binary_masks, ratio_masks, weighted_binary_cross_entropy
from qsep_jax.models import torch_weights
from qsep_jax.models.mask_unet import MaskUNet
from qsep_jax.models.resnet import ResNet, apply_to_frames
from qsep_jax.models.visual import InstrumentLogits, VisualContext
from qsep_jax.systems.base import Aux, Batch, BatchSpec, Optimizer, Phase, System, Variables
from qsep_jax.systems.visual import Visual

STREAM = "separation"


@dataclasses.dataclass(frozen=True)
class Slizovskaia2021(System):
    """U-Net or Multi-Head U-Net, conditioned or not. The defaults are experiment 6 as its code has it.

    Examples are 65,536 samples and not 65,535, since frames are centred in their hop.

    Attributes:
      frequency_scale: of what the network sees and masks; `logarithmic` has half as many bins.
      level_scale: of what the network sees: `db` or natural logarithm (`log`), each over −1…1 in every example.
      input_noise: standard deviation of noise added to that in training.
      heads: whether each instrument has a decoder of its own.
      output: `ratio` masks by L2; `binary` masks by cross-entropy in which a one weighs `positive_weight`; or the
        `magnitude` itself by L2, relative to the mixture's largest (the paper's section 5.4).
      competing: whether ratio masks are a softmax over the instruments. The code's are, except in its visual models,
        whose masks are the maps as they are, 0 or more.
      conditioning: where the condition enters. By `multiply` it is a factor of each instrument's map.
      multiply: of the maps (`before` the softmax, as in the code, where an absent instrument gets a logit of 0) or of
        the masks (`after`, as the paper says, where it gets silence).
      visual: what is seen of the players; None for labels.
      common_gain: whether `binary` masks and `magnitude` are wanted of sources that are divided by their number, as the
        mixture is. The code's sources stay as loud as they were. Ratio masks are the same either way.
      curriculum: whether mixtures begin with 2 sources, and get one more whenever the validation loss has not fallen
        by 1e-4 for `curriculum_patience` steps. The recipe must always draw the most. The paper says 10,000 steps.
      classifier_weight: of a loss that names the instruments from the bottleneck (the paper's section 5.4).
      optimizer: rates and patience are the code's; the paper says 1e-5 and 25,000.
    """

    stems: tuple[str, ...] = tuple(INSTRUMENTS)
    sample_rate: int = 11_025
    window_length: int = 1022
    hop_length: int = 256
    frames: int = 256
    frequency_scale: Literal["linear", "logarithmic"] = "linear"
    level_scale: Literal["db", "log"] = "db"
    input_noise: float = 0.0
    channels: tuple[int, ...] = (16, 32, 64, 128, 256, 512)
    heads: bool = False
    output: Literal["ratio", "binary", "magnitude"] = "ratio"
    competing: bool = True
    positive_weight: float = 5.0
    conditioning: Literal["none", "bottleneck", "encoder", "final", "multiply"] = "none"
    multiply: Literal["before", "after"] = "before"
    visual: Visual | None = None
    common_gain: bool = False
    curriculum: bool = False
    curriculum_patience: int = 2_500
    classifier_weight: float = 0.0
    dropout: float = 0.2
    optimizer: Optimizer = Optimizer(
        learning_rate=1e-4, l2=5e-4, schedule="plateau", factor=0.5, patience=12_500, threshold=1e-4
    )
    compute_dtype: str = "float32"

    def __post_init__(self):
        halvings, bins = len(self.channels), self.bins
        if bins % 2**halvings or self.frames % 2**halvings:
            raise ValueError(
                f"{halvings} levels halve {bins} bins and {self.frames} frames, which must come out even: change "
                f"channels, window_length or frames"
            )
        if self.visual and self.conditioning == "none":
            raise ValueError("what is seen must enter somewhere: set conditioning, or leave visual out")

    @property
    def cues(self) -> tuple[str, ...]:  # pyright: ignore[reportIncompatibleVariableOverride]
        if self.conditioning == "none":
            return ()
        return ("frames",) if self.visual else ("labels",)

    @property
    def asks_who_plays(self) -> bool:
        """Whether what is seen becomes probabilities of the instruments, which masks are multiplied by."""
        return self.visual is not None and self.conditioning == "multiply"

    @property
    def bins(self) -> int:
        """That the network sees."""
        linear = self.window_length // 2 + 1
        return linear // 2 if self.frequency_scale == "logarithmic" else linear

    @property
    def chunk_samples(self) -> int:
        return self.frames * self.hop_length

    @property
    def separator(self) -> MaskUNet:
        film = "none" if self.conditioning == "multiply" else self.conditioning
        classes = len(self.stems) if self.classifier_weight else 0
        dtype = jnp.dtype(self.compute_dtype)
        return MaskUNet(len(self.stems), self.channels, self.heads, film, classes, self.dropout, dtype)

    @property
    def seen(self) -> Visual:
        if not self.visual:
            raise ValueError("this model does not look: it has no visual networks")
        return self.visual

    @property
    def resnet(self) -> ResNet:
        return self.seen.resnet.network(self.compute_dtype)

    @property
    def context(self) -> VisualContext:
        return VisualContext(self.seen.summary, self.seen.hidden, jnp.dtype(self.compute_dtype))

    @property
    def probabilities(self) -> InstrumentLogits:
        return InstrumentLogits(len(self.stems), jnp.dtype(self.compute_dtype))

    def init(self, key: Array, spec: BatchSpec) -> Variables:
        separator_key, *visual_keys = jax.random.split(key, 4)
        spectrogram = jnp.zeros((1, self.frames, self.bins))
        params, statistics, size = {}, {}, len(self.stems)
        if self.visual:
            seen, size = self.visual, self.visual.hidden
            resnet = self.resnet.init(visual_keys[0], jnp.zeros((1, seen.size, seen.size, 3)), False)
            params["resnet"], statistics["resnet"] = resnet["params"], resnet["batch_stats"]
            if seen.summary == "lstm":
                features = jnp.zeros((1, seen.slots, seen.frames, seen.resnet.features))
                params["context"] = self.context.init(visual_keys[1], features, jnp.ones((1, seen.slots)))["params"]
            if self.conditioning == "multiply":
                params["probabilities"] = self.probabilities.init(visual_keys[2], jnp.zeros((1, size)))["params"]
        condition = jnp.zeros((1, size)) if self.separator.film != "none" else None
        separator = self.separator.init(separator_key, spectrogram, condition, False, key)
        variables = {
            "params": {"separator": separator["params"], **params},
            "batch_stats": {"separator": separator["batch_stats"], **statistics},
        }
        if self.curriculum:
            begin = {"most": jnp.full((), 2.0), "lowest": jnp.full((), jnp.inf), "since": jnp.zeros(())}
            variables["curriculum"] = {"mixtures": begin}
        return variables

    def phases(self) -> tuple[Phase, ...]:
        trained = ["separator"]
        if self.visual:
            trained += [] if self.visual.frozen else ["resnet"]
            trained += ["context"] if self.visual.summary == "lstm" else []
            trained += ["probabilities"] if self.conditioning == "multiply" else []
        return (Phase(STREAM, tuple(trained), self.loss, self.optimizer),)

    def loss(self, variables: Variables, batch: dict[str, Array], key: Array) -> tuple[Array, Aux]:
        """Of `sources` `[B, S, T, 1]` in `slots` `[B, S]` and what is seen of them (Eq. 6 or 7, as means)."""
        count_key, noise_key, dropout_key = jax.random.split(key, 3)
        if self.curriculum:
            most = variables["curriculum"]["mixtures"]["most"]
            batch = _first_sources(
                batch, 2 + jnp.floor(jax.random.uniform(count_key, (len(batch[SLOTS]),)) * (most - 1))
            )
        return self._loss(variables, batch, noise_key, dropout_key, train=True)

    def validate(self, variables: Variables, batch: Batch, key: Array) -> dict[str, Array]:
        """The same loss with running statistics, without noise and dropout."""
        data = dict(batch[STREAM])
        if self.curriculum:  # as many sources as there are now, half of the examples with fewer
            most = variables["curriculum"]["mixtures"]["most"]
            share = (jnp.arange(len(data[SLOTS])) + 0.5) / len(data[SLOTS])
            data = _first_sources(data, 2 + jnp.floor(share * (most - 1)))
        loss, aux = self._loss(variables, data, key, key, train=False)
        return {"loss": loss, **aux.metrics}

    def observe(self, variables: Variables, loss: Array, updates: Array) -> Variables:
        """The curriculum goes on where the loss does not."""
        if not self.curriculum:
            return variables
        state = variables["curriculum"]["mixtures"]
        patience, before = self.curriculum_patience, (state["lowest"], state["since"])
        lowest, since, grows = plateau.watch(*before, loss, updates, threshold=1e-4, patience=patience)
        lowest = jnp.where(grows, jnp.inf, lowest)  # more sources are harder
        changed = {"most": jnp.minimum(state["most"] + grows, 7.0), "lowest": lowest, "since": since}
        return {**variables, "curriculum": {"mixtures": changed}}

    def _loss(
        self, variables: Variables, batch: dict[str, Array], noise_key: Array, dropout_key: Array, *, train: bool
    ) -> tuple[Array, Aux]:
        labels = jax.nn.one_hot(batch[SLOTS], len(self.stems))  # [B, S, K]; −1 is in no class
        spectrograms = stft(batch[SOURCES][..., 0], self.window_length, self.hop_length)
        count = labels.sum((1, 2))
        mixture = spectrograms.sum(1) / count[:, None, None]
        there = labels.sum(-1)[:, :, None, None]
        magnitudes = there * (jnp.abs(spectrograms) + FLOOR)
        sources = jnp.einsum("bsk,bsnf->bknf", labels, magnitudes)
        condition, updates = self._condition(variables, batch, labels.sum(1), train)
        magnitude = jnp.abs(mixture) + FLOOR
        seen = self._scaled(magnitude)
        if train and self.input_noise:
            seen = seen + self.input_noise * jax.random.normal(noise_key, seen.shape)
        maps, logits, statistics = self._maps(variables, seen, condition, train, dropout_key)
        if self.frequency_scale == "logarithmic":
            sources, magnitude = (to_logarithmic(each, self.bins) for each in (sources, magnitude))
        wanted = sources / count[:, None, None, None] if self.common_gain else sources
        if self.output == "binary":
            loss = weighted_binary_cross_entropy(maps, binary_masks(wanted, magnitude), self.positive_weight)
        elif self.output == "magnitude":
            loss = jnp.square(maps - wanted / magnitude.max((1, 2))[:, None, None, None]).mean()
        else:
            loss = jnp.square(self._masks(maps, condition) - ratio_masks(sources)).mean()
        metrics = {"masks": loss}
        if logits is not None:
            metrics["classes"] = optax.sigmoid_binary_cross_entropy(logits, labels.sum(1)).mean()
            loss = loss + self.classifier_weight * metrics["classes"]
        if self.curriculum:
            metrics["most_sources"] = variables["curriculum"]["mixtures"]["most"]
        return loss, Aux(metrics, {"batch_stats": {**statistics, **updates}} if train else {})

    def _scaled(self, magnitude: Array) -> Array:
        """Magnitudes `[B, N, F]` as the network sees them, `[B, N, bins]`."""
        if self.frequency_scale == "logarithmic":
            magnitude = to_logarithmic(magnitude, self.bins)
        return db_normalised(magnitude) if self.level_scale == "db" else log_normalised(magnitude)

    def _maps(
        self, variables: Variables, seen: Array, condition: Array | None, train: bool, key: Array
    ) -> tuple[Array, Array | None, dict[str, Any]]:
        """Maps `[B, K, N, bins]`, multiplied by the condition where that is its place, logits, and statistics."""
        factors, steering = (condition, None) if self.conditioning == "multiply" else (None, condition)
        collections = {name: variables[name]["separator"] for name in ("params", "batch_stats")}
        if train:
            result: Any = self.separator.apply(collections, seen, steering, True, key, mutable=["batch_stats"])
            (maps, logits), changed = result
            statistics = {"separator": changed["batch_stats"]}
        else:
            found: Any = self.separator.apply(collections, seen, steering, False, key)
            (maps, logits), statistics = found, {}
        if factors is not None and (self.multiply == "before" or self.output != "ratio"):
            maps = maps * factors[:, :, None, None]
        return maps, logits, statistics

    def _masks(self, maps: Array, condition: Array | None) -> Array:
        """Ratio masks from maps, `[B, K, N, bins]`."""
        masks = jax.nn.softmax(maps, axis=1) if self.competing else maps
        if self.conditioning == "multiply" and self.multiply == "after" and condition is not None:
            masks = masks * condition[:, :, None, None]
        return masks

    def _condition(
        self, variables: Variables, batch: dict[str, Array], labels: Array, train: bool
    ) -> tuple[Array | None, dict[str, Any]]:
        """The condition `[B, Z]` of a batch, None without one, and the statistics of what made it."""
        if self.conditioning == "none":
            return None, {}
        if not self.visual:
            return labels, {}
        features, present, updates = self._features(variables, batch, train and not self.visual.frozen)
        parameters = {"params": variables["params"].get("context", {})}
        condition = apply_per_device(self.context.apply, parameters, features, present)
        if self.conditioning == "multiply":
            logits: Any = self.probabilities.apply({"params": variables["params"]["probabilities"]}, condition)
            condition = jax.nn.softmax(logits)
        return condition, updates

    def _features(
        self, variables: Variables, batch: dict[str, Array], train: bool
    ) -> tuple[Array, Array, dict[str, Any]]:
        """Features `[B, S, n, D]` of the frames, who is there `[B, S]`, and the statistics after them.

        Images are numbers from 0 to 1, without ImageNet's normalisation, as published.
        """
        if FEATURES in batch:
            features = batch[FEATURES]
            return features, features.any((2, 3)), {}
        frames = batch[FRAMES]
        present = frames.any((2, 3, 4, 5))
        found, updates = apply_to_frames(self.resnet, variables, frames, present, train)
        return found.reshape(*frames.shape[:3], -1), present, updates

    def condition(self, variables: Variables, cues: dict[str, Array]) -> Any:
        """`labels` `[B, K]`, or `frames` `[B, S, n, H, W, 3]` uint8 or their `features` → `[B, Z]`; () without any.

        Raises:
          ValueError: if the model needs another cue.
        """
        if not self.cues:
            return ()
        known = {"labels"} if not self.visual else {FRAMES, FEATURES}
        if not known & set(cues):
            raise ValueError(f"this model is told by {self.cues[0]}, not by {', '.join(cues) or 'nothing'}")
        return self._condition(variables, cues, cues.get("labels", jnp.zeros(())), False)[0]

    def separate(self, variables: Variables, mixture: Array, condition: Any) -> Array:
        """Masked mixture, or drawn magnitudes with its phase: `[B, T, C]` → `[B, K, T, C]`, as the network gives them.

        Instruments that the condition says are absent are not silenced here.
        """
        spectrograms = jnp.moveaxis(self.spectrograms(variables, mixture, condition), -1, 2)
        return jnp.moveaxis(istft(spectrograms, self.window_length, self.hop_length), 2, 3)

    def spectrograms(self, variables: Variables, mixture: Array, condition: Any) -> Array:
        """What `separate` turns into sound, which a Wiener filter starts from: complex `[B, K, N, F, C]`."""
        batch, length, channels = mixture.shape
        spectrogram = stft(mixture.swapaxes(1, 2).reshape(-1, length), self.window_length, self.hop_length)
        told = None if isinstance(condition, tuple) else jnp.repeat(condition, channels, axis=0)
        magnitude = jnp.abs(spectrogram) + FLOOR
        maps = self._maps(variables, self._scaled(magnitude), told, False, jax.random.key(0))[0]
        if self.output == "binary":
            masks = (maps > 0).astype(jnp.float32)  # a probability above one half
        elif self.output == "magnitude":
            masks = maps * magnitude.max((1, 2))[:, None, None, None]
        else:
            masks = self._masks(maps, told)
        if self.frequency_scale == "logarithmic":
            masks = to_linear(masks, spectrogram.shape[-1])
        if self.output == "magnitude":
            masks = masks / magnitude[:, None]
        estimates = masks * spectrogram[:, None]
        return jnp.moveaxis(estimates.reshape(batch, channels, *estimates.shape[1:]), 1, -1)

    def preview(self, variables: Variables, batch: Batch) -> dict[str, Array]:
        """The mixture, its first source, and the estimate of that."""
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
        """ImageNet weights of the ResNet, in torchvision's or Hugging Face's names."""
        if network != "resnet" or not self.visual:
            return super().from_file(network, path)
        return torch_weights.resnet(torch_weights.read(path), self.resnet)

    def noise(self, rng: np.random.Generator, batch_size: int) -> Batch:
        slots = self.visual.slots if self.visual else 7
        audio = 0.1 * rng.standard_normal((batch_size, slots, self.chunk_samples, 1), np.float32)
        order = np.stack([rng.permutation(len(self.stems))[:slots] for _ in range(batch_size)]).astype(np.int32)
        order[:, slots - slots // 2 :] = -1
        there = order >= 0
        batch = {SOURCES: audio * there[:, :, None, None], SLOTS: order}
        if self.visual:
            shape = (batch_size, slots, self.visual.frames, self.visual.size, self.visual.size, 3)
            frames = rng.integers(0, 256, shape, np.uint8)
            batch[FRAMES] = frames * there[:, :, None, None, None, None]
        return {STREAM: batch}


def _first_sources(batch: dict[str, Array], count: Array) -> dict[str, Array]:
    """Only the first `count` `[B]` slots of each example; the others are emptied."""
    kept = jnp.arange(batch[SLOTS].shape[1])[None] < count[:, None]

    def emptied(leaf: Array) -> Array:
        return leaf * kept.reshape(*kept.shape, *[1] * (leaf.ndim - 2)).astype(leaf.dtype)

    return {name: jnp.where(kept, leaf, -1) if name == SLOTS else emptied(leaf) for name, leaf in batch.items()}
