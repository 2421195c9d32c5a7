"""The joint network of Lin et al. 2021 for query-based separation, transcription and synthesis."""

from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from data_pipelines.schema import CLASSES
from qsep_jax.models.disentangle import PitchExtractor, TimbreFilter
from qsep_jax.models.film_unet import Decoder, FiLMEncoder
from qsep_jax.models.query_embedding import QueryEmbedding
from qsep_jax.models.transcriber import Transcriber


class MSI(nn.Module):
    """QueryNet, encoder, transcriber, PitchExtractor, TimbreFilter and decoder (§3.3 and §4.2).

    Only the networks that `decoding` and `transcription` require exist.

    Attributes:
      channels: Channels of the encoder's levels, outermost first.
      query_channels: Channels of the blocks of QueryNet.
      query_layers: Convolutions in a block of QueryNet.
      latent_size: Size Z of the latent.
      transcriber_channels: Channels of the blocks of the transcriber.
      decoding: Input of the decoder: `nothing` (no decoder), `skips` (the maps of the encoder, as in any U-Net), or
        `disentangled` (the transcribed pitch combined with the extracted timbre).
      transcription: Whether there is a transcriber; `disentangled` needs it.
      pooling: `average` (the published code) or `max` (the paper).
      normalise_timbre: Whether `TimbreFilter` has batch normalisation and ReLU.
      dtype: Compute type; parameters are float32.
    """

    channels: tuple[int, ...]
    query_channels: tuple[int, ...]
    query_layers: int
    latent_size: int
    transcriber_channels: tuple[int, ...]
    decoding: Literal["nothing", "skips", "disentangled"]
    transcription: bool
    pooling: str
    normalise_timbre: bool
    dtype: jnp.dtype = jnp.dtype("float32")

    def setup(self):
        self.query_net = QueryEmbedding(
            self.query_channels, self.query_layers, self.latent_size, self.pooling, self.dtype
        )
        self.encoder = FiLMEncoder(self.channels, self.pooling, self.dtype)
        if self.transcription:
            self.transcriber = Transcriber(self.transcriber_channels, CLASSES, self.pooling, self.dtype)
        if self.decoding != "nothing":
            self.decoder = Decoder(self.dtype)
        if self.decoding == "disentangled":
            self.timbre_filter = TimbreFilter(self.normalise_timbre, self.dtype)
            self.pitch_extractor = PitchExtractor(self.dtype)

    def embed(self, query: Array, train: bool) -> Array:
        """Embed the magnitudes of queries `[B, N, F]`: latents `[B, Z]`."""
        return self.query_net(query, train)

    def __call__(
        self, magnitude: Array, condition: Array, train: bool, timbre: Array | None = None, roll: Array | None = None
    ) -> tuple[Array | None, Array | None]:
        """Return magnitudes of the sources `[B · R, N, F]` and logits of their pitch classes `[B · R, N, K]`.

        The first is None without decoder, the second without transcriber.

        Args:
          magnitude: magnitudes of the mixtures, `[B, N, F]`.
          condition: latents of R queries for each mixture, `[B, R, Z]`.
          train: whether batch norm uses and tracks the statistics of the batch.
          timbre: magnitudes of the mixtures from which timbre is extracted, `[B, N, F]`; by default `magnitude`.
          roll: one-hot score to synthesise, `[B · R, N, K]`; by default the transcribed probabilities.
        """
        features = self.encoder(magnitude, condition, train)
        logits: Any = self.transcriber(features[-1], train) if self.transcription else None
        if self.decoding == "nothing":
            return None, logits
        if self.decoding == "disentangled":
            if timbre is not None:
                features = self.encoder(timbre, condition, train)
            notes = jax.nn.softmax(logits) if roll is None else roll
            features = self.pitch_extractor(notes, self.timbre_filter(features, train))
        return self.decoder(features, train), logits
