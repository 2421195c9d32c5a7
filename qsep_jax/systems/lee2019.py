"""Lee, Choi, Lee 2019, "Audio query-based music source separation": a query becomes a latent, the latent a mask.

A conditional variational autoencoder with latent regression. In training the target itself is the query; in use it is
any audio that sounds like what is wanted, the mean of a class, or anything between two latents.
"""

import dataclasses
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


@dataclasses.dataclass(frozen=True)
class Lee2019(System):
    """Query-net and AdaIN U-Net. The defaults are the paper's; what it leaves open is said at the field.

    Several channels go through the network one by one with the same latent; a query is mixed down first.

    Attributes:
      frames: STFT frames of a training example and of a chunk. 256 frames of 256 samples are 2.97 of the paper's 3 s,
        what nine halvings need.
      compression: of the magnitudes that the networks see; masks and losses are always linear. The paper says only
        "magnitude spectrogram".
      initial_log_variance: of the latent, at initialisation. With 0 the first latents are mostly noise, which the
        separator learns to ignore before the Query-net says anything; a small run cannot afford that detour.
      mask_adain: whether AdaIN also comes before the sigmoid ("every layer of decoder part").
      freeze_query_net: whether the latent regression leaves the Query-net alone, as in BicycleGAN, so that the two
        networks cannot hide the latent in the output.
    """

    cues: ClassVar[tuple[str, ...]] = ("query",)

    stems: tuple[str, ...] = FOUR_STEMS
    sample_rate: int = 22_050
    window_length: int = 1024
    hop_length: int = 256
    frames: int = 256
    compression: Literal["none", "log1p"] = "none"
    query_channels: tuple[int, ...] = (32, 32, 64, 64, 128, 128)
    query_hidden: int = 128
    latent_size: int = 32
    initial_log_variance: float = 0.0
    channels: tuple[int, ...] = (64, 128, 256, 512, 512, 512, 512, 512, 512)
    mask_adain: bool = False
    reconstruction_weight: float = 10.0
    kl_weight: float = 0.01
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
                f"which must come out even: change channels, window_length or frames"
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
        return {"params": {"query_net": query_net, "separator": separator}}

    def phases(self) -> tuple[Phase, ...]:
        return (Phase("cvae", ("query_net", "separator"), self.loss, self.optimizer),)

    def loss(self, variables: Variables, batch: dict[str, Array], key: Array) -> tuple[Array, Aux]:
        """`λ_R·L_R + λ_KL·L_KL + λ_latent·L_latent` (Eq. 3 to 6) of `{mixture, target}`, each `[B, T, C]`.

        The target is its own query, unless the batch brings another one.
        """
        mixture, target, query = self._magnitudes(batch)
        posterior_key, prior_key = jax.random.split(key)
        mean, log_variance = self._encode(variables, query)
        latent = sample_normal(posterior_key, mean, log_variance)
        prior = jax.random.normal(prior_key, mean.shape)
        if self.latent_weight:
            # One pass for both latents: nothing in the network looks across the batch. An example's two are neighbours,
            # so that each device keeps its own examples.
            latents = jnp.stack([latent, prior], axis=1).reshape(-1, self.latent_size)
            both = self._estimate(variables, jnp.repeat(mixture, 2, axis=0), latents)
            estimate, regressed = jnp.moveaxis(both.reshape(-1, 2, *both.shape[1:]), 1, 0)
            encoder = jax.lax.stop_gradient(variables) if self.freeze_query_net else variables
            latent_loss = l1(self._encode(encoder, regressed)[0], prior)
        else:
            estimate, latent_loss = self._estimate(variables, mixture, latent), jnp.zeros(())
        reconstruction, divergence = l1(estimate, target), kl_to_standard_normal(mean, log_variance)
        total = (
            self.reconstruction_weight * reconstruction + self.kl_weight * divergence + self.latent_weight * latent_loss
        )
        return total, Aux({"reconstruction": reconstruction, "kl": divergence, "latent": latent_loss})

    def validate(self, variables: Variables, batch: Batch, key: Array) -> dict[str, Array]:
        """The reconstruction with the mean of the latent, which alone is `loss`: better separation lowers it."""
        mixture, target, query = self._magnitudes(batch["cvae"])
        mean, log_variance = self._encode(variables, query)
        estimate = self._estimate(variables, mixture, mean)
        return {"loss": l1(estimate, target), "kl": kl_to_standard_normal(mean, log_variance)}

    def preview(self, variables: Variables, batch: Batch) -> dict[str, Array]:
        """The mixture, its target, and what the query gets out of it."""
        mixture, target = batch["cvae"][MIXTURE], batch["cvae"][TARGET]
        condition = self.condition(variables, {"query": batch["cvae"].get(QUERY, target)})
        estimate = self.separate(variables, mixture, condition)[:, 0]
        return {"mixture": mixture, "target": target, "estimate": estimate}

    def condition(self, variables: Variables, cues: dict[str, Array]) -> Array:
        """Mean of the latent of `query` `[B, query_samples, C]`: `[B, Z]`."""
        return self._encode(variables, self._magnitude(cues["query"].mean(axis=-1)))[0]

    def separate(self, variables: Variables, mixture: Array, condition: Array) -> Array:
        """The masked mixture with the mixture's phase: `[B, T, C]` → `[B, 1, T, C]`."""
        batch, length, channels = mixture.shape
        spectrogram = stft(_one_by_one(mixture), self.window_length, self.hop_length)
        latent = jnp.repeat(condition, channels, axis=0)
        magnitude = jnp.abs(spectrogram)[..., :-1]
        parameters = {"params": variables["params"]["separator"]}
        mask = apply_per_device(self.separator.apply, parameters, self._compress(magnitude), latent)
        mask = jnp.pad(mask, ((0, 0), (0, 0), (0, 1)))  # the Nyquist bin, which the network never sees
        estimate = istft(mask * spectrogram, self.window_length, self.hop_length)
        return estimate.reshape(batch, channels, length).swapaxes(1, 2)[:, None]

    def _magnitudes(self, batch: dict[str, Array]) -> tuple[Array, Array, Array]:
        """Of mixture, target and query, each `[B · C, N, F]`."""
        mixture, target = (self._magnitude(_one_by_one(batch[name])) for name in (MIXTURE, TARGET))
        return mixture, target, self._magnitude(_one_by_one(batch[QUERY])) if QUERY in batch else target

    def _magnitude(self, signal: Array) -> Array:
        """`[B, T]` → magnitudes `[B, N, F]` without the Nyquist bin."""
        return jnp.abs(stft(signal, self.window_length, self.hop_length))[..., :-1]

    def _compress(self, magnitude: Array) -> Array:
        return jnp.log1p(magnitude) if self.compression == "log1p" else magnitude

    def _encode(self, variables: Variables, magnitude: Array) -> tuple[Array, Array]:
        parameters = {"params": variables["params"]["query_net"]}
        return apply_per_device(self.query_net.apply, parameters, self._compress(magnitude))

    def _estimate(self, variables: Variables, magnitude: Array, latent: Array) -> Array:
        parameters = {"params": variables["params"]["separator"]}
        mask = apply_per_device(self.separator.apply, parameters, self._compress(magnitude), latent)
        return mask * magnitude


def _one_by_one(audio: Array) -> Array:
    """`[B, T, C]` → `[B · C, T]`."""
    return audio.swapaxes(1, 2).reshape(-1, audio.shape[1])
