"""Stoller, Ewert, Dixon 2018, "Adversarial semi-supervised audio source separation applied to singing voice …".

A U-Net estimates the magnitude of every source. It is trained on songs with known stems and on mixtures without stems.
Of the latter, critics that are trained on real recordings of each source judge the estimates, and the U-Net learns to
make its estimates indistinguishable from the recordings.
"""

import dataclasses
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from data_pipelines.schema import MIXTURE, SOURCES, TARGET
from qsep_jax.dsp.per_device import apply_per_device
from qsep_jax.dsp.stft import istft, stft
from qsep_jax.losses.adversarial import gradient_norms, gradient_penalty, wasserstein
from qsep_jax.models import critic
from qsep_jax.models.valid_unet import Extent, ValidUNet, extent
from qsep_jax.systems.base import Aux, Batch, BatchSpec, Optimizer, Phase, System, Variables
from qsep_jax.systems.bounds import LONGEST_WINDOW, MOST_FRAMES, MOST_LEVELS, bounded

# Streams: songs with stems, mixtures without stems, and the mixtures of the critics' updates. The real recordings of a
# source are the stream with the name of the source.
PAIRED, MIXTURES, CRITIC_MIXTURES = "paired", "mixtures", "critic_mixtures"


@dataclasses.dataclass(frozen=True)
class Stoller2018(System):
    """Separator and critics. The defaults are those of the published code, with a critic for each source.

    Inputs and estimates are magnitudes as log(1 + |X|). The input of the separator is `frames` and the context on both
    sides that its convolutions consume; above the last bin and below the first, the input is padded with zeros.

    Attributes:
      window_length: Length of the STFT window in samples.
      hop_length: Hop of the STFT in samples.
      frames: Number of STFT frames that the critics take; the separator estimates a few more, due to its halvings.
      channels: Channels of the levels of the separator, from the outermost to the bottom.
      critics: Stems that have a critic; without any, training is supervised and takes no mixtures without stems.
      critic_channels: Channels of the first convolution of a critic.
      critic_hidden: Size of the hidden layer of a critic.
      critic_updates: Number of critic updates per separator update, each on a batch of its own, which all critics
        share.
      adversarial_weight: α. The first version of the published code had 0.01 for α and β.
      additivity_weight: β, weight of the difference of the mixture to the sum of its estimates, in linear magnitude.
      penalty_weight: λ, weight of the gradient penalty.
      penalty_sides: Whether the penalty applies to gradients with a norm above 1 only (`one`, as in the code), or to
        smaller ones as well (`two`).
      optimizer: Optimizer of the separator.
      critic_optimizer: Optimizer of the critics.
    """

    cues: ClassVar[tuple[str, ...]] = ()

    stems: tuple[str, ...] = ("vocals", "accompaniment")
    sample_rate: int = 8_192
    window_length: int = bounded(512, most=LONGEST_WINDOW)
    hop_length: int = 256
    frames: int = bounded(64, most=MOST_FRAMES)
    channels: tuple[int, ...] = bounded((16, 32, 64, 128, 256), longest=MOST_LEVELS)
    critics: tuple[str, ...] = bounded(("vocals", "accompaniment"), shortest=0)
    critic_channels: int = 32
    critic_hidden: int = 32
    critic_updates: int = bounded(5, least=0)
    adversarial_weight: float = 0.001
    additivity_weight: float = 0.001
    penalty_weight: float = 10.0
    penalty_sides: Literal["one", "two"] = "one"
    optimizer: Optimizer = Optimizer(learning_rate=5e-5)
    critic_optimizer: Optimizer = Optimizer(learning_rate=5e-5)
    compute_dtype: str = "float32"

    def __post_init__(self):
        unknown = set(self.critics) - set(self.stems)
        if unknown or len(set(self.critics)) < len(self.critics):
            raise ValueError(f"critics {self.critics} must be different stems of {self.stems}")
        for name, size in (("frames", self.frames), ("window_length", self.window_length)):
            if size & (size - 1) or size < 8:
                raise ValueError(f"{name} must be a power of two from 8 on, since critics halve it, not {size}")
        if self.critics and self.critic_updates < 1:
            raise ValueError(f"critic_updates must be at least 1, not {self.critic_updates}")

    @property
    def bins(self) -> int:
        """The number of frequency bins that the critics take: all but the lowest."""
        return self.window_length // 2

    @property
    def time(self) -> Extent:
        """The frames that the separator takes and estimates."""
        return extent(self.frames, len(self.channels) - 1)

    @property
    def frequency(self) -> Extent:
        """The bins that the separator takes and estimates."""
        return extent(self.bins + 1, len(self.channels) - 1)

    @property
    def chunk_samples(self) -> int:
        return self.time.inputs * self.hop_length

    @property
    def context_samples(self) -> int:
        """The context that the convolutions consume, and one frame in which not all overlapping frames are present."""
        return (self.time.context + 1) * self.hop_length

    @property
    def validation_streams(self) -> tuple[str, ...]:
        return (PAIRED,)

    @property
    def separator(self) -> ValidUNet:
        return ValidUNet(self.channels, len(self.stems), jnp.dtype(self.compute_dtype))

    @property
    def critic(self) -> critic.Critic:
        return critic.Critic(self.critic_channels, self.critic_hidden, dtype=jnp.dtype(self.compute_dtype))

    def init(self, key: Array, spec: BatchSpec) -> Variables:
        separator_key, critic_key = jax.random.split(key)
        image = jnp.zeros((1, self.time.inputs, self.frequency.inputs))
        params: dict[str, Any] = {"separator": self.separator.init(separator_key, image)["params"]}
        if self.critics:
            count = len(self.critics)
            params["critics"] = critic.init_all(self.critic, critic_key, count, self.frames, self.bins)
        return {"params": params}

    def phases(self) -> tuple[Phase, ...]:
        if not self.critics:
            return (Phase("separator", ("separator",), self.loss, self.optimizer, stream=(PAIRED,)),)
        streams, k = (CRITIC_MIXTURES, *self.critics), self.critic_updates
        return (
            Phase("critics", ("critics",), self.critic_loss, self.critic_optimizer, k, streams),
            Phase("separator", ("separator",), self.loss, self.optimizer, stream=(PAIRED, MIXTURES)),
        )

    def critic_loss(self, variables: Variables, batch: Batch, key: Array) -> tuple[Array, Aux]:
        """Return `Σ_k −(E[D_k(real)] − E[D_k(fake)]) + λ · penalty_k` of estimates and real recordings.

        The penalty is computed at a random point between the two in each example. The published code shuffles the
        recordings first; here they are drawn independently of the mixtures.
        """
        fakes = self._for_critics(self._sources(variables, batch[CRITIC_MIXTURES][MIXTURE]))
        fakes = jax.lax.stop_gradient(fakes)
        reals = jnp.stack([self.real_view(batch[stem][TARGET]) for stem in self.critics])
        position = jax.random.uniform(key, (reals.shape[1],))[None, :, None, None]
        between = reals + position * (fakes - reals)
        params = variables["params"]["critics"]
        # The two batches are interleaved instead of concatenated, so that each device keeps its own examples.
        pairs = jnp.stack([reals, fakes], axis=2).reshape(len(reals), -1, *reals.shape[2:])
        real, fake = jnp.moveaxis(critic.scores(self.critic, params, pairs).reshape(len(reals), -1, 2), -1, 0)
        steepness = gradient_norms(jax.grad(lambda x: critic.scores(self.critic, params, x).sum())(between))
        distance, penalty = wasserstein(real, fake), gradient_penalty(steepness, self.penalty_sides)
        metrics = {}
        for k, stem in enumerate(self.critics):
            values = {"wasserstein": distance[k], "steepness": steepness[k].mean(), "penalty": penalty[k]}
            metrics |= {f"{name}_{stem}": value for name, value in values.items()}
        return (self.penalty_weight * penalty - distance).sum(), Aux(metrics)

    def loss(self, variables: Variables, batch: Batch, key: Array) -> tuple[Array, Aux]:
        """Return `L_s + α L_u + β L_add`: squared errors of songs with stems, and the other two of mixtures without."""
        supervised, metrics = self._supervised(variables, batch[PAIRED])
        if not self.critics:
            return supervised, Aux(metrics)
        mixture = batch[MIXTURES][MIXTURE]
        estimates = self._sources(variables, mixture)
        scores = critic.scores(self.critic, variables["params"]["critics"], self._for_critics(estimates)).mean(-1)
        magnitude = jnp.expm1(self._centre(self._log_magnitude(mixture)))
        additivity = jnp.square(magnitude - jnp.expm1(estimates).sum(1)).mean()
        metrics |= {"adversarial": -scores.sum(), "additivity": additivity}
        loss = supervised - self.adversarial_weight * scores.sum() + self.additivity_weight * additivity
        return loss, Aux(metrics)

    def validate(self, variables: Variables, batch: Batch, key: Array) -> dict[str, Array]:
        """Return the squared error, by which the best checkpoint is chosen."""
        supervised, metrics = self._supervised(variables, batch[PAIRED])
        return {"loss": supervised, **metrics}

    def _supervised(self, variables: Variables, batch: dict[str, Array]) -> tuple[Array, dict[str, Array]]:
        """Return the mean squared errors in log magnitude: their sum over sources, and each by name."""
        estimates = self._sources(variables, batch[MIXTURE])
        sources = jnp.moveaxis(batch[SOURCES], 1, 0)  # [S, B, T, 1]
        targets = jnp.stack([self._centre(self._log_magnitude(source)) for source in sources], axis=1)
        errors = jnp.square(estimates - targets).mean((0, 2, 3))
        return errors.sum(), {f"mse_{stem}": errors[k] for k, stem in enumerate(self.stems)}

    def _log_magnitude(self, audio: Array) -> Array:
        """Return log(1 + |X|) `[B · C, N, F]` of `[B, T, C]`."""
        flat = audio.swapaxes(1, 2).reshape(-1, audio.shape[1])
        return jnp.log1p(jnp.abs(stft(flat, self.window_length, self.hop_length)))

    def _padded(self, image: Array, frames: int = 0) -> Array:
        """Pad `[B, N, F]` by zeros that the convolutions consume: around the bins, and `frames` on both sides."""
        low = self.frequency.context
        high = self.frequency.inputs - low - image.shape[-1]
        return jnp.pad(image, ((0, 0), (frames, frames), (low, high)))

    def _sources(self, variables: Variables, audio: Array) -> Array:
        """Return log magnitudes of the sources `[B, S, N', F']` in the middle of mixtures `[B, T, 1]`."""
        return self._separator(variables, self._padded(self._log_magnitude(audio)))

    def _separator(self, variables: Variables, image: Array) -> Array:
        """Apply the separator to padded log magnitudes: `[B, N, F]` → `[B, S, N', F']`."""
        return apply_per_device(self.separator.apply, {"params": variables["params"]["separator"]}, image)

    def _centre(self, image: Array) -> Array:
        """Return the part of `[B, N, F]` that the separator estimates, padded with zeros above the last bin."""
        first = self.time.context
        above = self.frequency.outputs - image.shape[-1]
        return jnp.pad(image[:, first : first + self.time.outputs], ((0, 0), (0, 0), (0, above)))

    def _for_critics(self, estimates: Array) -> Array:
        """Return the middle of estimates, of stems that have a critic: `[B, S, N', F']` → `[K, B, N, F]`."""
        first = (self.time.outputs - self.frames) // 2
        middle = estimates[:, :, first : first + self.frames, 1 : self.bins + 1]
        return jnp.stack([middle[:, self.stems.index(stem)] for stem in self.critics])

    def real_view(self, audio: Array) -> Array:
        """Return the input of a critic from a real recording `[B, T, 1]`: `[B, N, F]` from its middle."""
        first = (self.time.inputs - self.frames) // 2 - 1  # a frame more on both sides, so that no edge is included
        audio = audio[:, first * self.hop_length : (first + self.frames + 2) * self.hop_length]
        return self._log_magnitude(audio)[:, 1:-1, 1:]

    def critic_view(self, variables: Variables, mixture: Array) -> tuple[Array, Array]:
        """Return the input of the critics from mixtures `[B, T, 1]`, and the gradients of their scores in it.

        Both are `[K, B, N, F]`: log magnitudes, and where larger ones would make an estimate more like a real source.
        """
        inputs = self._for_critics(self._sources(variables, mixture))
        params = variables["params"]["critics"]
        return inputs, jax.grad(lambda x: critic.scores(self.critic, params, x).sum())(inputs)

    def preview(self, variables: Variables, batch: Batch) -> dict[str, Array]:
        """Return the mixture, and target and estimate of each source."""
        mixture, sources = batch[PAIRED][MIXTURE], batch[PAIRED][SOURCES]
        estimates, signals = self.separate(variables, mixture, ()), {"mixture": mixture}
        for k, stem in enumerate(self.stems):
            signals |= {f"{stem}_target": sources[:, k], f"{stem}_estimate": estimates[:, k]}
        return signals

    def condition(self, variables: Variables, cues: dict[str, Array]) -> tuple[()]:
        return ()

    def separate(self, variables: Variables, mixture: Array, condition: Any) -> Array:
        """Estimate magnitudes and take the mixture's phase, channel by channel: `[B, T, C]` → `[B, S, T, C]`.

        The input is padded with silence, so estimates have their full context only from `context_samples` on.
        """
        batch, length, channels = mixture.shape
        spectrogram = stft(mixture.swapaxes(1, 2).reshape(-1, length), self.window_length, self.hop_length)
        frames = spectrogram.shape[1]
        levels = len(self.channels) - 1
        before = -self.time.context % 2**levels  # so that the halvings start at the first frame, as in training
        padded = extent(before + frames, levels)
        after = padded.outputs - before - frames
        magnitude = jnp.abs(spectrogram)
        image = jnp.pad(self._padded(jnp.log1p(magnitude), padded.context), ((0, 0), (before, after), (0, 0)))
        outputs = self._separator(variables, image)[:, :, before : before + frames, : spectrogram.shape[2]]
        magnitudes = jnp.expm1(outputs)
        phase = jnp.where(magnitude > 0, spectrogram / jnp.where(magnitude > 0, magnitude, 1), 0)
        estimates = istft(magnitudes * phase[:, None], self.window_length, self.hop_length)
        return jnp.moveaxis(estimates.reshape(batch, channels, len(self.stems), length), 1, -1)

    def noise(self, rng: np.random.Generator, batch_size: int) -> Batch:
        def audio(*shape: int) -> np.ndarray:
            return 0.1 * rng.standard_normal((*shape, self.chunk_samples, 1), np.float32)

        sources, updates = audio(batch_size, len(self.stems)), (self.critic_updates, batch_size)
        batch: dict[str, Any] = {PAIRED: {MIXTURE: sources.sum(1), SOURCES: sources}}
        if self.critics:
            batch |= {MIXTURES: {MIXTURE: audio(batch_size)}, CRITIC_MIXTURES: {MIXTURE: audio(*updates)}}
            batch |= {stem: {TARGET: audio(*updates)} for stem in self.critics}
            if self.critic_updates == 1:
                batch |= {name: jax.tree.map(lambda leaf: leaf[0], batch[name]) for name in self.phases()[0].streams}
        return batch
