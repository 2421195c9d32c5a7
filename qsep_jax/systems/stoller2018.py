"""Stoller, Ewert, Dixon 2018, "Adversarial semi-supervised audio source separation applied to singing voice …".

A U-Net draws the magnitude of every source. It learns from songs whose stems are known, and from mixtures without: what
it makes of those shall be such that a critic, which knows real recordings of the source, cannot tell it from them.
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

# Streams: songs with stems, and mixtures without; those of the critics' updates are their own. The real recordings of a
# source come in the stream that has its name.
PAIRED, MIXTURES, CRITIC_MIXTURES = "paired", "mixtures", "critic_mixtures"


@dataclasses.dataclass(frozen=True)
class Stoller2018(System):
    """Separator and critics. The defaults are the published code's, with a critic for both sources.

    Magnitudes are seen and drawn as log(1 + |X|). The separator is shown `frames` and as many more on both sides as its
    convolutions take away; above the last bin and below the first it is shown zeros.

    Attributes:
      frames: that the critics see; the separator gives a few more, as its halvings have it.
      channels: of the separator's levels, the last being the bottom.
      critics: the stems that have one; without any the training is supervised and takes no mixtures.
      adversarial_weight: α. The published code's first version had 0.01, for β, too.
      additivity_weight: β, of the difference of the mixture to the sum of its estimates, in linear magnitude.
      penalty_sides: whether only gradients steeper than 1 are punished, as in the code, or flatter ones, too.
      critic_updates: for each update of the separator, each on a batch of its own that all critics share.
    """

    cues: ClassVar[tuple[str, ...]] = ()

    stems: tuple[str, ...] = ("vocals", "accompaniment")
    sample_rate: int = 8_192
    window_length: int = 512
    hop_length: int = 256
    frames: int = 64
    channels: tuple[int, ...] = (16, 32, 64, 128, 256)
    critics: tuple[str, ...] = ("vocals", "accompaniment")
    critic_channels: int = 32
    critic_hidden: int = 32
    critic_updates: int = 5
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
            raise ValueError(f"critics {self.critics} must be different ones of the stems {self.stems}")
        for name, size in (("frames", self.frames), ("window_length", self.window_length)):
            if size & (size - 1) or size < 8:
                raise ValueError(f"{name} must be a power of two from 8 on, which the critics halve, not {size}")
        if self.critics and self.critic_updates < 1:
            raise ValueError(f"critic_updates must be at least 1, not {self.critic_updates}")

    @property
    def bins(self) -> int:
        """That the critics see: all but the lowest."""
        return self.window_length // 2

    @property
    def time(self) -> Extent:
        return extent(self.frames, len(self.channels) - 1)

    @property
    def frequency(self) -> Extent:
        return extent(self.bins + 1, len(self.channels) - 1)

    @property
    def chunk_samples(self) -> int:
        return self.time.inputs * self.hop_length

    @property
    def context_samples(self) -> int:
        """What the convolutions take away, and a frame in which overlapping frames are not all there."""
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
        """`Σ_k −(E[D_k(real)] − E[D_k(fake)]) + λ · penalty_k`, of what is made of mixtures and of real recordings.

        The penalty is taken between the two, each example at a place of its own. Published, the real ones are shuffled
        first; here they were drawn independently of the mixtures.
        """
        fakes = self._for_critics(self._sources(variables, batch[CRITIC_MIXTURES][MIXTURE]))
        fakes = jax.lax.stop_gradient(fakes)
        reals = jnp.stack([self.real_view(batch[stem][TARGET]) for stem in self.critics])
        place = jax.random.uniform(key, (reals.shape[1],))[None, :, None, None]
        between = reals + place * (fakes - reals)
        params = variables["params"]["critics"]
        # Side by side, not one batch after the other: so each device keeps its own examples.
        both = jnp.stack([reals, fakes], axis=2).reshape(len(reals), -1, *reals.shape[2:])
        real, fake = jnp.moveaxis(critic.scores(self.critic, params, both).reshape(len(reals), -1, 2), -1, 0)
        steepness = gradient_norms(jax.grad(lambda x: critic.scores(self.critic, params, x).sum())(between))
        distance, penalty = wasserstein(real, fake), gradient_penalty(steepness, self.penalty_sides)
        metrics = {}
        for k, stem in enumerate(self.critics):
            said = {"wasserstein": distance[k], "steepness": steepness[k].mean(), "penalty": penalty[k]}
            metrics |= {f"{name}_{stem}": value for name, value in said.items()}
        return (self.penalty_weight * penalty - distance).sum(), Aux(metrics)

    def loss(self, variables: Variables, batch: Batch, key: Array) -> tuple[Array, Aux]:
        """`L_s + α L_u + β L_add`: squared errors of songs with stems; critics and additivity of mixtures without."""
        supervised, metrics = self._supervised(variables, batch[PAIRED])
        if not self.critics:
            return supervised, Aux(metrics)
        mixture = batch[MIXTURES][MIXTURE]
        estimates = self._sources(variables, mixture)
        judged = critic.scores(self.critic, variables["params"]["critics"], self._for_critics(estimates)).mean(-1)
        heard = jnp.expm1(self._centre(self._seen(mixture)))
        additivity = jnp.square(heard - jnp.expm1(estimates).sum(1)).mean()
        metrics |= {"adversarial": -judged.sum(), "additivity": additivity}
        loss = supervised - self.adversarial_weight * judged.sum() + self.additivity_weight * additivity
        return loss, Aux(metrics)

    def validate(self, variables: Variables, batch: Batch, key: Array) -> dict[str, Array]:
        """The squared error alone, by which the best state is chosen."""
        supervised, metrics = self._supervised(variables, batch[PAIRED])
        return {"loss": supervised, **metrics}

    def _supervised(self, variables: Variables, batch: dict[str, Array]) -> tuple[Array, dict[str, Array]]:
        """Mean squared errors in log magnitude: the sum over sources, and each by its name."""
        estimates = self._sources(variables, batch[MIXTURE])
        sources = jnp.moveaxis(batch[SOURCES], 1, 0)  # [S, B, T, 1]
        wanted = jnp.stack([self._centre(self._seen(source)) for source in sources], axis=1)
        errors = jnp.square(estimates - wanted).mean((0, 2, 3))
        return errors.sum(), {f"mse_{stem}": errors[k] for k, stem in enumerate(self.stems)}

    def _seen(self, audio: Array) -> Array:
        """Log magnitudes `[B · C, N, F]` of `[B, T, C]`."""
        flat = audio.swapaxes(1, 2).reshape(-1, audio.shape[1])
        return jnp.log1p(jnp.abs(stft(flat, self.window_length, self.hop_length)))

    def _framed(self, seen: Array, frames: int = 0) -> Array:
        """Zeros around the bins, and around so many frames, for the convolutions to take away."""
        low = self.frequency.context
        high = self.frequency.inputs - low - seen.shape[-1]
        return jnp.pad(seen, ((0, 0), (frames, frames), (low, high)))

    def _sources(self, variables: Variables, audio: Array) -> Array:
        """Log magnitudes of the sources `[B, S, N', F']` in the middle of mixtures `[B, T, 1]`."""
        return self._separator(variables, self._framed(self._seen(audio)))

    def _separator(self, variables: Variables, image: Array) -> Array:
        return apply_per_device(self.separator.apply, {"params": variables["params"]["separator"]}, image)

    def _centre(self, seen: Array) -> Array:
        """The part of `[B, N, F]` that the separator gives, filled up with zeros above the last bin."""
        first = self.time.context
        above = self.frequency.outputs - seen.shape[-1]
        return jnp.pad(seen[:, first : first + self.time.outputs], ((0, 0), (0, 0), (0, above)))

    def _for_critics(self, estimates: Array) -> Array:
        """The middle of the separator's output, of stems that have a critic: `[B, S, N', F']` → `[K, B, N, F]`."""
        first = (self.time.outputs - self.frames) // 2
        middle = estimates[:, :, first : first + self.frames, 1 : self.bins + 1]
        return jnp.stack([middle[:, self.stems.index(stem)] for stem in self.critics])

    def real_view(self, audio: Array) -> Array:
        """What a critic sees of a real recording `[B, T, 1]`: `[B, N, F]` from its middle."""
        first = (self.time.inputs - self.frames) // 2 - 1  # and a frame on both sides, so that no edge is seen
        audio = audio[:, first * self.hop_length : (first + self.frames + 2) * self.hop_length]
        return self._seen(audio)[:, 1:-1, 1:]

    def critic_view(self, variables: Variables, mixture: Array) -> tuple[Array, Array]:
        """What the critics see of the estimates from mixtures `[B, T, 1]`, and the gradients of their scores in it.

        Each `[K, B, N, F]`: log magnitudes, and where more of them would make the estimate more like a real source.
        """
        seen = self._for_critics(self._sources(variables, mixture))
        params = variables["params"]["critics"]
        return seen, jax.grad(lambda x: critic.scores(self.critic, params, x).sum())(seen)

    def preview(self, variables: Variables, batch: Batch) -> dict[str, Array]:
        """The mixture, and of each source the truth and the estimate."""
        mixture, sources = batch[PAIRED][MIXTURE], batch[PAIRED][SOURCES]
        estimates, found = self.separate(variables, mixture, ()), {"mixture": mixture}
        for k, stem in enumerate(self.stems):
            found |= {f"{stem}_target": sources[:, k], f"{stem}_estimate": estimates[:, k]}
        return found

    def condition(self, variables: Variables, cues: dict[str, Array]) -> tuple[()]:
        return ()

    def separate(self, variables: Variables, mixture: Array, condition: Any) -> Array:
        """Drawn magnitudes with the mixture's phase: `[B, T, C]` → `[B, S, T, C]`, each channel by itself.

        Beyond both ends there is silence, so that only `context_samples` further in are estimates the separator's best.
        """
        batch, length, channels = mixture.shape
        spectrogram = stft(mixture.swapaxes(1, 2).reshape(-1, length), self.window_length, self.hop_length)
        frames = spectrogram.shape[1]
        levels = len(self.channels) - 1
        before = -self.time.context % 2**levels  # so that the halvings begin with the first frame, as in training
        around = extent(before + frames, levels)
        seen = jnp.log1p(jnp.abs(spectrogram))
        after = around.outputs - before - frames
        seen = jnp.pad(self._framed(seen, around.context), ((0, 0), (before, after), (0, 0)))
        drawn = self._separator(variables, seen)[:, :, before : before + frames, : spectrogram.shape[2]]
        magnitudes = jnp.expm1(drawn)
        loudness = jnp.abs(spectrogram)
        phase = jnp.where(loudness > 0, spectrogram / jnp.where(loudness > 0, loudness, 1), 0)
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
