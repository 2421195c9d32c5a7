"""What a perfect mask would do: an upper bound for systems that mask the mixture's spectrogram."""

from functools import partial

import jax
import jax.numpy as jnp
from jax import Array

from qsep_jax.dsp.stft import istft, stft


@partial(jax.jit, static_argnums=(1, 2))
def ideal_ratio_mask(sources: Array, window_length: int = 1024, hop_length: int = 256) -> Array:
    """Each source from the sum of all by the mask `|S_i| / Σ_j |S_j|`: `[S, T]` → `[S, T]`, any T."""
    length = sources.shape[-1]
    padded = jnp.pad(sources, ((0, 0), (0, -length % hop_length)))
    spectrograms = stft(padded, window_length, hop_length)
    magnitudes = jnp.abs(spectrograms)
    masks = magnitudes / jnp.maximum(magnitudes.sum(0, keepdims=True), 1e-10)
    return istft(masks * spectrograms.sum(0, keepdims=True), window_length, hop_length)[..., :length]
