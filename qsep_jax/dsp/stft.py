"""Short-time Fourier transform and its inverse: framing by reshape, window, `rfft`.

Analysis and synthesis use a periodic Hann window; the inverse is a weighted overlap-add (least squares). A signal of
`N · hop` samples gives exactly `N` frames: it is extended by `(window − hop) / 2` reflected samples on both sides, so
that frame `n` is centred on the middle of block `n`. Computation is in float32, since the FFT has no bfloat16.
"""

import jax.numpy as jnp
import numpy as np
from jax import Array

from qsep_jax.dsp.per_device import apply_per_device


def hann(window_length: int) -> np.ndarray:
    """The periodic Hann window, float32 `[window_length]`."""
    return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window_length) / window_length)).astype(np.float32)


def stft(signal: Array, window_length: int, hop_length: int, fft_length: int = 0) -> Array:
    """Compute the complex spectrogram `[..., N, F]` of a signal `[..., N · hop_length]`.

    F is `window_length // 2 + 1`, or `fft_length // 2 + 1` where the windowed frames are padded with zeros.

    Args:
      fft_length: length of the transform in samples; 0: that of the window.

    Raises:
      ValueError: if the length is not a positive multiple of the hop, if the signal is too short for the reflection at
        its ends, or if the transform is shorter than the window.
    """
    size = _transform(window_length, fft_length)
    edge = _edge(window_length, hop_length)
    length = signal.shape[-1]
    if length % hop_length or length <= edge[1]:
        raise ValueError(
            f"the STFT needs a multiple of {hop_length} samples and more than {edge[1]} samples, not {length}: pad it"
        )
    padded = jnp.pad(signal, [(0, 0)] * (signal.ndim - 1) + [edge], mode="reflect")
    frames = _frames(padded, window_length, hop_length, length // hop_length)
    frames = frames * jnp.broadcast_to(hann(window_length), frames.shape)
    return apply_per_device(lambda _, part: jnp.fft.rfft(part, size), (), frames)


def istft(spectrogram: Array, window_length: int, hop_length: int, fft_length: int = 0) -> Array:
    """Compute the signal `[..., N · hop_length]` of a spectrogram `[..., N, F]`, with F as in `stft`.

    The result of `stft` gives back its signal up to rounding. Of a zero-padded transform, only the samples within the
    window are used.
    """
    size = _transform(window_length, fft_length)
    window = hann(window_length)
    frames = spectrogram.shape[-2]
    low, _ = _edge(window_length, hop_length)
    pieces = apply_per_device(lambda _, part: jnp.fft.irfft(part, size)[..., :window_length], (), spectrogram)
    pieces = pieces * jnp.broadcast_to(window, pieces.shape)
    signal = _overlap_add(pieces, hop_length)
    weight = _overlap_add(jnp.broadcast_to(np.square(window), (frames, window_length)), hop_length)
    length = frames * hop_length
    signal = signal[..., low : low + length]
    return signal / jnp.broadcast_to(weight[low : low + length], signal.shape)


def _transform(window_length: int, fft_length: int) -> int:
    """The length of the transform, checked."""
    if fft_length and fft_length < window_length:
        raise ValueError(f"the transform must be at least as long as the window of {window_length}, not {fft_length}")
    return fft_length or window_length


def _edge(window_length: int, hop_length: int) -> tuple[int, int]:
    # A Hann window begins with a zero, which another frame must cover.
    if not 0 < hop_length < window_length:
        raise ValueError(f"the hop must be positive and below the window length {window_length}, not {hop_length}")
    total = window_length - hop_length
    return total // 2, total - total // 2


def _frames(signal: Array, window_length: int, hop_length: int, count: int) -> Array:
    """Cut a signal into frames `[..., count, window_length]`.

    The frames are shifted blocks of one hop, concatenated; this needs neither a gather nor a convolution.
    """
    parts = -(-window_length // hop_length)
    missing = (count + parts - 1) * hop_length - signal.shape[-1]
    signal = jnp.pad(signal, [(0, 0)] * (signal.ndim - 1) + [(0, max(missing, 0))])
    blocks = signal[..., : (count + parts - 1) * hop_length].reshape(*signal.shape[:-1], -1, hop_length)
    framed = jnp.concatenate([blocks[..., i : i + count, :] for i in range(parts)], axis=-1)
    return framed[..., :window_length]


def _overlap_add(frames: Array, hop_length: int) -> Array:
    """Add frames `[..., N, W]` at distances of `hop_length`: `[..., (N − 1) · hop_length + W']`.

    W' is W rounded up to a multiple of `hop_length`.
    """
    count, window_length = frames.shape[-2:]
    parts = -(-window_length // hop_length)
    lead = [(0, 0)] * (frames.ndim - 2)
    frames = jnp.pad(frames, [*lead, (0, 0), (0, parts * hop_length - window_length)])
    blocks = frames.reshape(*frames.shape[:-1], parts, hop_length)
    shifted = [jnp.pad(blocks[..., i, :], [*lead, (i, parts - 1 - i), (0, 0)]) for i in range(parts)]
    total = sum(shifted[1:], shifted[0])
    return total.reshape(*total.shape[:-2], (count + parts - 1) * hop_length)
