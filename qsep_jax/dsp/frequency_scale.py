"""Resampling between a linear and a logarithmic frequency axis, as in Zhao et al. 2018 (Sound of Pixels).

Both axes run over −1…1 from the first bin to the last. Bin `y` of the logarithmic axis reads the linear axis at
`(21^((y + 1) / 2) − 11) / 10`, by linear interpolation between the two nearest bins with aligned corners. `to_linear`
applies the inverse map. The published code leaves the treatment of corners to PyTorch's default, which changed in
version 1.3. Here corners are aligned, as the formula implies: it maps the ends of one axis to the ends of the other.
"""

import functools

import jax.numpy as jnp
import numpy as np
from jax import Array

BASE = 21.0


def to_logarithmic(spectrogram: Array, bins: int) -> Array:
    """Resample magnitudes or masks `[..., F]` to a logarithmic axis: `[..., bins]`."""
    return _resample(spectrogram, _weights(spectrogram.shape[-1], bins, to_log=True))


def to_linear(spectrogram: Array, bins: int) -> Array:
    """Resample masks `[..., F_log]` from a logarithmic axis to a linear one: `[..., bins]`."""
    return _resample(spectrogram, _weights(spectrogram.shape[-1], bins, to_log=False))


def _resample(spectrogram: Array, weights: np.ndarray) -> Array:
    return jnp.einsum("...f,fg->...g", spectrogram, jnp.asarray(weights, spectrogram.dtype))


@functools.cache
def _weights(source: int, target: int, *, to_log: bool) -> np.ndarray:
    """Interpolation matrix `[source, target]`; each column holds the weights of two source bins, which sum to 1."""
    y = np.linspace(-1.0, 1.0, target)
    source_position = (BASE ** ((y + 1) / 2) - 11) / 10 if to_log else 2 * np.log(10 * y + 11) / np.log(BASE) - 1
    index = np.clip((source_position + 1) / 2 * (source - 1), 0, source - 1)
    low = np.minimum(index.astype(int), source - 2)
    weights = np.zeros((source, target), np.float32)
    weights[low, np.arange(target)] = 1 - (index - low)
    weights[low + 1, np.arange(target)] = index - low
    return weights
