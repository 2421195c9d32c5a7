"""What a perfect mask would do: an upper bound for systems that mask the mixture's spectrogram."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax import Array

from qsep_jax.dsp.stft import istft, stft


@partial(jax.jit, static_argnums=(1, 2))
def ideal_ratio_mask(sources: Array, window_length: int = 1024, hop_length: int = 256) -> Array:
    """Each source from the sum of all by the mask `|S_i| / Σ_j |S_j|`: `[S, T]` → `[S, T]`, any T."""
    return _masked(sources, _shares, window_length, hop_length)


@partial(jax.jit, static_argnums=(1, 2))
def ideal_binary_mask(sources: Array, window_length: int = 1024, hop_length: int = 256) -> Array:
    """Each source from the bins of the sum of all in which it is the loudest: `[S, T]` → `[S, T]`, any T.

    The mask is 1 where `|S_i| = max_j |S_j|`, else 0; among equals the first source has the bin, so that the estimates
    add up to the mixture. The masks of Slizovskaia et al. 2021, Eq. 3, and of SiSEC ask for half of the mixture instead
    and leave bins without an owner when there are more than two sources.
    """
    return _masked(sources, _loudest, window_length, hop_length)


def _masked(sources: Array, masks: Callable[[Array], Array], window_length: int, hop_length: int) -> Array:
    """The sum of sources through `masks`, of magnitudes `[S, N, F]`."""
    length = sources.shape[-1]
    padded = jnp.pad(sources, ((0, 0), (0, -length % hop_length)))
    spectrograms = stft(padded, window_length, hop_length)
    mixture = spectrograms.sum(0, keepdims=True)
    return istft(masks(jnp.abs(spectrograms)) * mixture, window_length, hop_length)[..., :length]


def _shares(magnitudes: Array) -> Array:
    return magnitudes / jnp.maximum(magnitudes.sum(0, keepdims=True), 1e-10)


def _loudest(magnitudes: Array) -> Array:
    return jax.nn.one_hot(magnitudes.argmax(0), magnitudes.shape[0], axis=0)
