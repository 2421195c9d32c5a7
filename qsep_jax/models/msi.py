"""The networks of Lin et al. 2021 together: who is asked for, what it plays, what it sounds like, and both again."""

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
    """QueryNet, encoder, transcriber, PitchExtractor, TimbreFilter and decoder, those that `decoding` and
    `transcription` need (§3.3 and §4.2).

    Attributes:
      decoding: what the decoder draws from: `nothing` (no decoder), `skips`, the maps of the encoder as in any U-Net,
        or `disentangled`, the pitch that was written down and the timbre that was left.
      transcription: whether notes are written down; `disentangled` needs them.
      pooling: `average` (the code) or `max` (the paper).
      normalise_timbre: of `TimbreFilter`.
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
        """Magnitudes of queries `[B, N, F]` → their latents `[B, Z]`."""
        return self.query_net(query, train)

    def __call__(
        self, magnitude: Array, condition: Array, train: bool, timbre: Array | None = None, roll: Array | None = None
    ) -> tuple[Array | None, Array | None]:
        """Magnitudes of the sources `[B · R, N, F]` and logits of their notes `[B · R, N, K]`, if there are such.

        Args:
          magnitude: of the mixtures, `[B, N, F]`.
          condition: latents of the R sources that are asked for, `[B, R, Z]`.
          timbre: magnitudes of the mixtures that timbre is taken from, `[B, N, F]`; by default the same ones.
          roll: the notes to be played, one-hot `[B · R, N, K]`; by default what is written down, softly.
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
