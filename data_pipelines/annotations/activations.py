"""Activations of the stems of a song: computed from reference stems, as spans in seconds, and for each sample."""

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np

# Sample rate for which the window and the hop were published.
RATE = 44_100
# Sum of the envelopes of all sources below which the song is silent.
GATE = 0.01


@dataclasses.dataclass(frozen=True)
class Span:
    """A section of a song in which a stem is active, from `start` to `end` in seconds.

    A span without length states that the stem is inactive throughout; `to_spans` puts it at 0.
    """

    stem: str
    start: float
    end: float


def from_stems(
    stems: np.ndarray,
    sample_rate: int,
    *,
    threshold: float = 0.01,
    window: int = 4096,
    hop: int = 2048,
    cutoff: float = 0.075,
    slope: float = 20.0,
) -> np.ndarray:
    """Compute the activations of reference stems from their envelopes (Cantisani et al. 2021), for each channel.

    The envelope `e_s` of a source is the mean over a window of `hann · √max(x, 0)`. With `e = Σ_s e_s`, `H_s` is
    `S · e_s / max_t e`, set to zero where `e < 0.01` and then low-pass filtered. A source is active where
    `1 / (1 + exp(−slope · (H_s − threshold))) ≥ 0.5`.

    This is the method of MedleyDB (Bittner et al. 2014) with the threshold of the authors' code. The root makes it
    sensitive: one of S sources counts as active down to about `40 · log10(threshold / S)` dB below the loudest moment,
    which is −92 dB for two sources and −104 dB for four. Stems with noise between the notes need a higher threshold;
    that of MedleyDB is 0.15.

    The windows are centred on multiples of the hop, with zeros before the first sample and after the last. The envelope
    is interpolated linearly between windows. An activation begins up to two hops (93 ms) before the sound and ends up
    to two hops after it.

    Args:
      stems: floating-point samples in −1…1, `[S, T, C]`.
      sample_rate: sample rate in Hz.
      threshold: threshold of `H`, above 0.
      window: window length in samples at 44.1 kHz; at other sample rates, it has the same duration.
      hop: hop in samples at 44.1 kHz; at other sample rates, it has the same duration.
      cutoff: cutoff frequency of the low-pass filter as a fraction of half the sample rate.
      slope: slope of the logistic function.

    Returns:
      bool `[S, T, C]`. All stems of a channel are inactive if the sum of their envelopes never reaches 0.01, which is
      that of a tone of −51 dB.

    Raises:
      ValueError: if the stems have another shape or are integers, or the sample rate, threshold or slope is not
        positive.
    """
    import scipy.special
    from scipy import signal

    if stems.ndim != 3 or not np.issubdtype(stems.dtype, np.floating):
        raise ValueError(f"stems must be floating point [S, T, C], not {stems.dtype} {list(stems.shape)}")
    for name, value in {"sample_rate": sample_rate, "threshold": threshold, "slope": slope}.items():
        if not value > 0:
            raise ValueError(f"{name} must be positive, not {value:g}")
    sources, samples, channels = stems.shape
    active = np.zeros(stems.shape, bool)
    if not stems.size:
        return active
    window, hop = (max(1, round(length * sample_rate / RATE)) for length in (window, hop))
    # Departs from the paper: its code stretches the frames over the song, which shifts them by up to two hops at the
    # end, and interpolates them with a band-limited filter, which rings into silent sections.
    centres, times = np.arange(0, samples + hop - 1, hop), np.arange(samples)
    lowpass = signal.butter(2, cutoff, output="sos")
    for channel in range(channels):
        envelopes = [_envelope(stem[:, channel], window, hop, len(centres)) for stem in stems]
        total = np.interp(times, centres, np.sum(envelopes, axis=0))
        if total.max() < GATE:
            continue
        for stem, envelope in enumerate(envelopes):
            level = np.interp(times, centres, envelope) * (sources / total.max())
            level[total < GATE] = 0.0
            level = signal.sosfiltfilt(lowpass, level, padlen=min(9, samples - 1))
            active[stem, :, channel] = scipy.special.expit(slope * (level - threshold)) >= 0.5
    return active


def _envelope(audio: np.ndarray, window: int, hop: int, frames: int) -> np.ndarray:
    """The envelope `[N]` of samples `[T]`: frame n is centred on sample n · hop."""
    from scipy.signal import windows

    rectified = np.sqrt(np.maximum(audio.astype(np.float64), 0.0))
    before = window // 2
    after = max(0, (frames - 1) * hop + window - before - len(audio))
    framed = np.lib.stride_tricks.sliding_window_view(np.pad(rectified, (before, after)), window)[::hop][:frames]
    return framed @ windows.hann(window + 2)[1:-1] / window


def from_spans(spans: Iterable[Span], stems: Sequence[str], samples: int, sample_rate: int) -> np.ndarray:
    """Whether each stem is active at each sample, bool `[S, T]` with T = `samples`; times are rounded to samples.

    The activity of a stem that no span names is unknown; it counts as active throughout.

    Raises:
      ValueError: if a span names a stem that is not in `stems`.
    """
    active = np.ones((len(stems), samples), bool)
    named = set()
    for span in spans:
        if span.stem not in stems:
            raise ValueError(f"unknown stem '{span.stem}'; the stems are {', '.join(stems)}")
        row = list(stems).index(span.stem)
        if span.stem not in named:
            active[row] = False
            named.add(span.stem)
        active[row, max(0, round(span.start * sample_rate)) : max(0, round(span.end * sample_rate))] = True
    return active


def to_spans(active: np.ndarray, stems: Sequence[str], sample_rate: int) -> tuple[Span, ...]:
    """The spans that describe bool `[S, T]`, by stem and time; `from_spans` is the inverse function.

    A stem that is inactive throughout has one span without length. The result of `from_stems` has channels; pass
    `active.any(axis=-1)`.
    """
    spans = []
    for stem, row in zip(stems, active, strict=True):
        changes = np.flatnonzero(np.diff(row, prepend=False, append=False)) / sample_rate
        spans += [Span(stem, float(start), float(end)) for start, end in changes.reshape(-1, 2)]
        if not len(changes):
            spans.append(Span(stem, 0.0, 0.0))
    return tuple(spans)


def check_has_rest(active: np.ndarray, stems: Sequence[str], name: str) -> None:
    """Raise ValueError if all stems of bool `[S, T]` are always active, since adaptation cannot learn from that.

    Args:
      name: name of the file with the activations, for the error message.
    """
    if np.all(active):
        raise ValueError(
            f"{name}: {', '.join(stems)} are all active throughout, which leaves nothing to learn: for at least one "
            "stem, mark when it is active, so that it is inactive at other times"
        )


def any_channel(active: np.ndarray) -> np.ndarray:
    """Whether each stem is active in any channel, `[S, T]`, for activations `[S, T]` or `[S, T, C]`."""
    return active if active.ndim == 2 else np.max(active, axis=-1)
