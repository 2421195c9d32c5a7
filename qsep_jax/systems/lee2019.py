"""Lee, Choi, Lee 2019, "Audio query-based music source separation".

A conditional variational autoencoder with latent regression: the Query-net encodes a query as a latent, and a U-Net
estimates a mask from the mixture and the latent. In training, the query is the target itself. In inference, it is other
audio of the same kind of source, and the latent may also be the mean of a class or an interpolation of two latents.
"""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
from jax import Array

from data_pipelines.schema import FOUR_STEMS, MIXTURE, QUERY, TARGET
from qsep_jax.dsp.per_device import apply_per_device
from qsep_jax.dsp.stft import istft, stft
from qsep_jax.losses.reconstruction import l1
from qsep_jax.losses.variational import kl_to_standard_normal, sample_normal
from qsep_jax.models.query_net import QueryNet
from qsep_jax.models.unet import QueryUNet
from qsep_jax.systems.base import Aux, Batch, BatchSpec, Optimizer, Phase, System, Variables
from qsep_jax.systems.bounds import LONGEST_WINDOW, MOST_FRAMES, MOST_LEVELS, bounded

# Collection of the variables with the updates so far of what grows from zero.
WARMUP = "warmup"
# KL divergence in nats below which the latent counts as empty.
EMPTY_LATENT = 1.0


@dataclasses.dataclass(frozen=True)
class Lee2019(System):
    """Query-net and AdaIN U-Net. The defaults are those of the paper; the fields say what the paper leaves open.

    Channels pass through the network one by one with the same latent; a query is mixed down first.

    Attributes:
      window_length: Length of the STFT window in samples.
      hop_length: Hop of the STFT in samples.
      frames: Number of STFT frames of a training example and of a chunk. 256 frames of 256 samples are 2.97 s, where
        the paper has 3 s: the nine layers halve the frames eight times.
      compression: Compression of the magnitudes that the networks take; masks and losses are always linear. The paper
        says only "magnitude spectrogram".
      query_channels: Channels of the convolutions of the Query-net.
      query_hidden: Size of the GRU of the Query-net.
      latent_size: Size of the latent, Z.
      initial_log_variance: Log variance of the latent at initialisation. With 0 the first latents are mostly noise, and
        the separator learns to ignore them before the Query-net has learnt anything, which costs a small run too many
        steps.
      channels: Channels of the levels of the U-Net.
      mask_adain: Whether AdaIN is also applied before the sigmoid ("every layer of decoder part").
      reconstruction_weight: λ_R.
      kl_weight: λ_KL.
      kl_warmup: Number of updates over which the weight of the KL divergence grows linearly from 0 to `kl_weight` (0:
        it is constant, as in the paper).
      latent_weight: λ_latent.
      freeze_query_net: Whether the latent regression does not train the Query-net, as in BicycleGAN, so that the two
        networks cannot hide the latent in the output.
      optimizer: Optimizer of both networks.
    """

    cues: ClassVar[tuple[str, ...]] = ("query",)

    stems: tuple[str, ...] = FOUR_STEMS
    sample_rate: int = 22_050
    window_length: int = bounded(1024, most=LONGEST_WINDOW)
    hop_length: int = 256
    frames: int = bounded(256, most=MOST_FRAMES)
    compression: Literal["none", "log1p"] = "none"
    query_channels: tuple[int, ...] = bounded((32, 32, 64, 64, 128, 128), longest=MOST_LEVELS)
    query_hidden: int = 128
    latent_size: int = 32
    initial_log_variance: float = 0.0
    channels: tuple[int, ...] = bounded((64, 128, 256, 512, 512, 512, 512, 512, 512), longest=MOST_LEVELS)
    mask_adain: bool = False
    reconstruction_weight: float = 10.0
    kl_weight: float = 0.01
    kl_warmup: int = 0
    latent_weight: float = 0.5
    freeze_query_net: bool = True
    optimizer: Optimizer = Optimizer(
        learning_rate=2e-4, b1=0.5, b2=0.999, schedule="drops", drop_after=200_000, drop_every=10_000, drop=5e-6
    )
    compute_dtype: str = "float32"

    def __post_init__(self):
        bins, halvings = self.window_length // 2, len(self.channels)
        if bins % 2**halvings or self.frames % 2 ** (halvings - 1):
            raise ValueError(
                f"{halvings} layers halve {bins} bins {halvings} times and {self.frames} frames {halvings - 1} times, "
                "which must give whole numbers: change channels, window_length or frames"
            )

    @property
    def chunk_samples(self) -> int:
        return self.frames * self.hop_length

    @property
    def query_net(self) -> QueryNet:
        return QueryNet(
            self.query_channels,
            self.query_hidden,
            self.latent_size,
            self.initial_log_variance,
            jnp.dtype(self.compute_dtype),
        )

    @property
    def separator(self) -> QueryUNet:
        return QueryUNet(self.channels, self.mask_adain, jnp.dtype(self.compute_dtype))

    def init(self, key: Array, spec: BatchSpec) -> Variables:
        query_key, separator_key = jax.random.split(key)
        magnitude = jnp.zeros((1, self.frames, self.window_length // 2))
        latent = jnp.zeros((1, self.latent_size))
        query_net = self.query_net.init(query_key, magnitude)["params"]
        separator = self.separator.init(separator_key, magnitude, latent)["params"]
        variables = {"params": {"query_net": query_net, "separator": separator}}
        return variables | ({WARMUP: {"kl": {"updates": jnp.zeros(())}}} if self.kl_warmup else {})

    def phases(self) -> tuple[Phase, ...]:
        return (Phase("cvae", ("query_net", "separator"), self.loss, self.optimizer),)

    def loss(self, variables: Variables, batch: dict[str, Array], key: Array) -> tuple[Array, Aux]:
        """Return `λ_R·L_R + λ_KL·L_KL + λ_latent·L_latent` (Eq. 3 to 6) of `{mixture, target}`, each `[B, T, C]`.

        The query is the target, unless the batch has a `query`.
        """
        mixture, target, query = self._magnitudes(batch)
        posterior_key, prior_key = jax.random.split(key)
        mean, log_variance = self._encode(variables, query)
        latent = sample_normal(posterior_key, mean, log_variance)
        prior = jax.random.normal(prior_key, mean.shape)
        if self.latent_weight:
            # Both latents pass together, since the network processes examples independently. The two of an example are
            # neighbours in the batch, so that each device keeps its own examples.
            latents = jnp.stack([latent, prior], axis=1).reshape(-1, self.latent_size)
            estimates = self._estimate(variables, jnp.repeat(mixture, 2, axis=0), latents)
            estimate, regressed = jnp.moveaxis(estimates.reshape(-1, 2, *estimates.shape[1:]), 1, 0)
            encoder = jax.lax.stop_gradient(variables) if self.freeze_query_net else variables
            latent_loss = l1(self._encode(encoder, regressed)[0], prior)
        else:
            estimate, latent_loss = self._estimate(variables, mixture, latent), jnp.zeros(())
        reconstruction, divergence = l1(estimate, target), kl_to_standard_normal(mean, log_variance)
        kl_weight, updates = self.kl_weight, {}
        if self.kl_warmup:
            count = variables[WARMUP]["kl"]["updates"]
            kl_weight *= jnp.minimum(count / self.kl_warmup, 1.0)
            updates = {WARMUP: {"kl": {"updates": count + 1}}}
        total = self.reconstruction_weight * reconstruction + kl_weight * divergence + self.latent_weight * latent_loss
        return total, Aux({"reconstruction": reconstruction, "kl": divergence, "latent": latent_loss}, updates)

    def validate(self, variables: Variables, batch: Batch, key: Array) -> dict[str, Array]:
        """Return the reconstruction error with the mean of the latent as `loss`, and the divergence as `kl`."""
        mixture, target, query = self._magnitudes(batch["cvae"])
        mean, log_variance = self._encode(variables, query)
        estimate = self._estimate(variables, mixture, mean)
        return {"loss": l1(estimate, target), "kl": kl_to_standard_normal(mean, log_variance)}

    def warnings(self, validation: Mapping[str, float]) -> tuple[str, ...]:
        """Warn of a posterior collapse: a latent that carries next to nothing about the query."""
        if validation["kl"] >= EMPTY_LATENT:
            return ()
        return (
            f"the latent is empty: validation/kl is below {EMPTY_LATENT:g} nat, so the separator ignores the query. "
            "The latent may fill later; if it does not, lower system.kl_weight, give system.kl_warmup, or start with "
            "system.initial_log_variance -8",
        )

    def preview(self, variables: Variables, batch: Batch) -> dict[str, Array]:
        """Return the mixture, its target, and the estimate of the target."""
        mixture, target = batch["cvae"][MIXTURE], batch["cvae"][TARGET]
        condition = self.condition(variables, {"query": batch["cvae"].get(QUERY, target)})
        estimate = self.separate(variables, mixture, condition)[:, 0]
        return {"mixture": mixture, "target": target, "estimate": estimate}

    def condition(self, variables: Variables, cues: dict[str, Array]) -> Array:
        """Return the mean of the latent of `query` `[B, query_samples, C]`: `[B, Z]`."""
        return self._encode(variables, self._magnitude(cues["query"].mean(axis=-1)))[0]

    def separate(self, variables: Variables, mixture: Array, condition: Array) -> Array:
        """Mask the complex spectrogram of the mixture: `[B, T, C]` → `[B, 1, T, C]`."""
        batch, length, channels = mixture.shape
        spectrogram = stft(_channels_as_examples(mixture), self.window_length, self.hop_length)
        latent = jnp.repeat(condition, channels, axis=0)
        magnitude = jnp.abs(spectrogram)[..., :-1]
        parameters = {"params": variables["params"]["separator"]}
        mask = apply_per_device(self.separator.apply, parameters, self._compress(magnitude), latent)
        mask = jnp.pad(mask, ((0, 0), (0, 0), (0, 1)))  # the Nyquist bin, which the network does not take
        estimate = istft(mask * spectrogram, self.window_length, self.hop_length)
        return estimate.reshape(batch, channels, length).swapaxes(1, 2)[:, None]

    def _magnitudes(self, batch: dict[str, Array]) -> tuple[Array, Array, Array]:
        """Return the magnitudes of mixture, target and query, each `[B · C, N, F]`."""
        mixture, target = (self._magnitude(_channels_as_examples(batch[name])) for name in (MIXTURE, TARGET))
        return mixture, target, self._magnitude(_channels_as_examples(batch[QUERY])) if QUERY in batch else target

    def _magnitude(self, signal: Array) -> Array:
        """`[B, T]` → magnitudes `[B, N, F]` without the Nyquist bin."""
        return jnp.abs(stft(signal, self.window_length, self.hop_length))[..., :-1]

    def _compress(self, magnitude: Array) -> Array:
        return jnp.log1p(magnitude) if self.compression == "log1p" else magnitude

    def _encode(self, variables: Variables, magnitude: Array) -> tuple[Array, Array]:
        """Return mean and log variance of the latent `[B, Z]` of magnitudes `[B, N, F]`."""
        parameters = {"params": variables["params"]["query_net"]}
        return apply_per_device(self.query_net.apply, parameters, self._compress(magnitude))

    def _estimate(self, variables: Variables, magnitude: Array, latent: Array) -> Array:
        """Return the masked magnitudes `[B, N, F]`."""
        parameters = {"params": variables["params"]["separator"]}
        mask = apply_per_device(self.separator.apply, parameters, self._compress(magnitude), latent)
        return mask * magnitude


def _channels_as_examples(audio: Array) -> Array:
    """`[B, T, C]` → `[B · C, T]`."""
    return audio.swapaxes(1, 2).reshape(-1, audio.shape[1])
