"""From a linear to a logarithmic frequency axis and back, as Zhao et al. 2018 (Sound of Pixels) sample it.

Both axes run over −1…1 from the first bin to the last. Bin `y` of the logarithmic one reads the linear one at
`(21^((y + 1) / 2) − 11) / 10`, between two bins by straight interpolation with aligned corners; back is the inverse
map. The published code left the corners to PyTorch, whose default changed in version 1.3; here they are aligned, for
which the formula was made: the ends of one axis meet the ends of the other.
"""

import functools

import jax.numpy as jnp
import numpy as np
from jax import Array

BASE = 21.0


def to_logarithmic(spectrogram: Array, bins: int) -> Array:
    """Magnitudes or masks `[..., F]` → `[..., bins]`."""
    return _resampled(spectrogram, _weights(spectrogram.shape[-1], bins, to_log=True))


def to_linear(spectrogram: Array, bins: int) -> Array:
    """Masks `[..., bins of the logarithmic axis]` → `[..., bins]`."""
    return _resampled(spectrogram, _weights(spectrogram.shape[-1], bins, to_log=False))


def _resampled(spectrogram: Array, weights: np.ndarray) -> Array:
    return jnp.einsum("...f,fg->...g", spectrogram, jnp.asarray(weights, spectrogram.dtype))


@functools.cache
def _weights(source: int, target: int, *, to_log: bool) -> np.ndarray:
    """`[source, target]` with the two shares of each target bin, or one share of 1."""
    y = np.linspace(-1.0, 1.0, target)
    read = (BASE ** ((y + 1) / 2) - 11) / 10 if to_log else 2 * np.log(10 * y + 11) / np.log(BASE) - 1
    place = np.clip((read + 1) / 2 * (source - 1), 0, source - 1)
    low = np.minimum(place.astype(int), source - 2)
    weights = np.zeros((source, target), np.float32)
    weights[low, np.arange(target)] = 1 - (place - low)
    weights[low + 1, np.arange(target)] = place - low
    return weights
