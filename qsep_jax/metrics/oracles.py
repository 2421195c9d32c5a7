"""Ideal masks, computed from the true sources: upper bounds for systems that mask the spectrogram of the mixture."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax import Array

from qsep_jax.dsp.stft import istft, stft


@partial(jax.jit, static_argnums=(1, 2))
def ideal_ratio_mask(sources: Array, window_length: int = 1024, hop_length: int = 256) -> Array:
    """Estimate each source from the sum of all with the mask `|S_i| / Σ_j |S_j|`: `[S, T]` → `[S, T]`, any T."""
    return _masked(sources, _shares, window_length, hop_length)


@partial(jax.jit, static_argnums=(1, 2))
def ideal_binary_mask(sources: Array, window_length: int = 1024, hop_length: int = 256) -> Array:
    """Estimate each source from the bins of the mixture in which it is the loudest: `[S, T]` → `[S, T]`, any T.

    The mask is 1 where `|S_i| = max_j |S_j|`, else 0. If several sources are equally loud, the first of them gets the
    bin, so the estimates always sum to the mixture. The masks of Slizovskaia et al. 2021, Eq. 3, and of SiSEC instead
    require at least half of the mixture, and leave bins unassigned when there are more than two sources.
    """
    return _masked(sources, _loudest, window_length, hop_length)


def _masked(sources: Array, masks: Callable[[Array], Array], window_length: int, hop_length: int) -> Array:
    """Apply `masks`, a function of the magnitudes `[S, N, F]`, to the sum of the sources."""
    length = sources.shape[-1]
    padded = jnp.pad(sources, ((0, 0), (0, -length % hop_length)))
    spectrograms = stft(padded, window_length, hop_length)
    mixture = spectrograms.sum(0, keepdims=True)
    return istft(masks(jnp.abs(spectrograms)) * mixture, window_length, hop_length)[..., :length]


def _shares(magnitudes: Array) -> Array:
    return magnitudes / jnp.maximum(magnitudes.sum(0, keepdims=True), 1e-10)


def _loudest(magnitudes: Array) -> Array:
    return jax.nn.one_hot(magnitudes.argmax(0), magnitudes.shape[0], axis=0)
