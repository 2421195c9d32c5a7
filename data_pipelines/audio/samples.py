"""Changes of sample rate, length, channels and sample format of audio `[T, C]`."""

import warnings
from collections.abc import Iterable, Iterator

import numpy as np
import soxr

from data_pipelines.schema import AUDIO_DTYPE, FULL_SCALE


def resample(audio: np.ndarray, rate: int, target_rate: int) -> np.ndarray:
    """Resample `[T, C]` from `rate` to `target_rate` (Hz): float32 `[⌈T · target_rate / rate⌉, C]` (soxr, HQ)."""
    return np.concatenate(list(resample_blocks([audio], rate, target_rate)))


def resample_blocks(blocks: Iterable[np.ndarray], rate: int, target_rate: int) -> Iterator[np.ndarray]:
    """Resample a signal that comes in blocks `[n, C]`, float32.

    The result is bit for bit that of `resample`, wherever the signal is cut into blocks.
    """
    if rate == target_rate:
        yield from blocks
        return
    stream, samples_in, samples_out, channels = None, 0, 0, 1
    for block in blocks:
        channels = block.shape[1]
        stream = stream or soxr.ResampleStream(rate, target_rate, channels, dtype="float32", quality="HQ")
        samples_in += len(block)
        out = stream.resample_chunk(np.ascontiguousarray(block, np.float32))
        samples_out += len(out)
        yield out
    length = -(-samples_in * target_rate // rate)
    rest = stream.resample_chunk(np.zeros((0, channels), np.float32), last=True) if stream else np.zeros((0, channels))
    yield fit_length(rest.astype(np.float32, copy=False), length - samples_out)


def fit_length(audio: np.ndarray, length: int) -> np.ndarray:
    """Cut or zero-pad `[T, C]` to `[length, C]`."""
    if len(audio) >= length:
        return audio[:length]
    return np.concatenate([audio, np.zeros((length - len(audio), *audio.shape[1:]), audio.dtype)])


def fit_channels(audio: np.ndarray, channels: int) -> np.ndarray:
    """Change the channel count of `[T, C]`: one channel is the mean of all; several are copies of a single one.

    Raises:
      ValueError: for any other change of the channel count.
    """
    if audio.shape[1] == channels:
        return audio
    if channels == 1:
        return audio.mean(axis=1, keepdims=True, dtype=np.float32)
    if audio.shape[1] == 1:
        return np.repeat(audio, channels, axis=1)
    raise ValueError(f"cannot turn {audio.shape[1]} channels into {channels}: give 1 or {channels} channels")


def to_int16(audio: np.ndarray) -> np.ndarray:
    """Round float audio in −1…1 to int16. Samples beyond full scale are clipped, with a warning that has the peak."""
    peak = float(np.max(np.abs(audio), initial=0.0))
    if peak > 1.0:
        warnings.warn(f"audio peaks at {peak:.3f} and is clipped to full scale", stacklevel=2)
    return np.clip(np.rint(audio * FULL_SCALE), -FULL_SCALE, FULL_SCALE - 1).astype(AUDIO_DTYPE)


def scale_to_float(audio: np.ndarray, gain: float, out: np.ndarray) -> np.ndarray:
    """Convert int16 `[T, C]` to float32 in −1…1, multiply it by `gain` and store it in `out` `[T, channels]`.

    `out` has all channels, their mean, or copies of a single one. `audio` may be overwritten. Full scale is a power of
    two, so that the product with the gain is rounded as if the samples had been scaled first.
    """
    stored, channels = audio.shape[1], out.shape[1]
    if channels == 1 < stored:
        gain /= stored
    if channels == 1 and stored == 2:  # reads both samples of a frame as one integer; `sum` is twenty times slower
        pairs = audio.view("<i4")
        right = pairs >> 16
        pairs <<= 16
        pairs >>= 16
        pairs += right
        np.copyto(out, pairs)
    elif channels == 1 < stored:
        np.sum(audio, axis=1, keepdims=True, dtype=np.float32, out=out)
    else:
        np.copyto(out, audio)
    out *= np.float32(gain) / np.float32(FULL_SCALE)
    return out
