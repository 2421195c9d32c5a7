"""Where each stem of a song is active: of its ground truth, in seconds, and for every sample."""

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np

# The rate at which the published windows are counted, and the level of all sources below which the song is silent.
RATE = 44_100
GATE = 0.01


@dataclasses.dataclass(frozen=True)
class Span:
    """A stretch of a song in which a stem is active, in seconds.

    One without length, which `to_spans` puts at 0, says that its stem rests throughout.
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
    """Where stems of known sound are active, by their envelopes; each channel for itself (Cantisani et al. 2021).

    The envelope `e_s` of a source is the mean over a window of `hann · √max(x, 0)`. With `e = Σ_s e_s`, `H_s` is
    `S · e_s / max_t e`, zero where `e < 0.01`, low-passed; active is `1 / (1 + exp(−slope · (H_s − threshold))) ≥ 0.5`.

    It is the method of MedleyDB (Bittner et al. 2014) with the threshold of the authors' code. The root makes it
    sensitive: between S sources, one is active down to about `40 · log10(threshold / S)` dB below the loudest moment,
    −92 dB for two and −104 dB for four. Stems with noise between the notes want a higher threshold; MedleyDB has 0.15.

    Windows are centred on multiples of the hop and reach into zeros before the first sample and after the last. From
    window to window the envelope runs linearly. What is found active begins up to two hops, 93 ms, before the sound
    and ends up to two hops after it.

    Args:
      stems: floating point in −1…1, `[S, T, C]`.
      threshold: of `H`, above 0.
      window: samples at 44.1 kHz, as is `hop`; at other rates they last as long.
      cutoff: of the low-pass, a share of half the sample rate.

    Returns:
      bool `[S, T, C]`. A song is silent throughout where the sources together never reach 0.01 (a tone of −51 dB).

    Raises:
      ValueError: for stems of another shape or of integers, and for a rate, threshold or slope that is not positive.
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
    # Departs from the paper: its code stretches all frames over the song, which moves them by up to two hops at the
    # end, and resamples them with a band-limited filter, which rings into the silence.
    places, times = np.arange(0, samples + hop - 1, hop), np.arange(samples)
    lowpass = signal.butter(2, cutoff, output="sos")
    for channel in range(channels):
        envelopes = [_envelope(stem[:, channel], window, hop, len(places)) for stem in stems]
        total = np.interp(times, places, np.sum(envelopes, axis=0))
        if total.max() < GATE:
            continue
        for stem, envelope in enumerate(envelopes):
            level = np.interp(times, places, envelope) * (sources / total.max())
            level[total < GATE] = 0.0
            level = signal.sosfiltfilt(lowpass, level, padlen=min(9, samples - 1))
            active[stem, :, channel] = scipy.special.expit(slope * (level - threshold)) >= 0.5
    return active


def _envelope(audio: np.ndarray, window: int, hop: int, frames: int) -> np.ndarray:
    """`[frames]` of `[T]`: frame n is centred on sample n · hop."""
    from scipy.signal import windows

    rectified = np.sqrt(np.maximum(audio.astype(np.float64), 0.0))
    before = window // 2
    after = max(0, (frames - 1) * hop + window - before - len(audio))
    framed = np.lib.stride_tricks.sliding_window_view(np.pad(rectified, (before, after)), window)[::hop][:frames]
    return framed @ windows.hann(window + 2)[1:-1] / window


def from_spans(spans: Iterable[Span], stems: Sequence[str], samples: int, sample_rate: int) -> np.ndarray:
    """Whether each stem is active, bool `[S, T]` with T = `samples`, to the nearest sample.

    A stem that no span names is unknown and counts as active throughout.

    Raises:
      ValueError: for a span of a stem that is not among `stems`.
    """
    active = np.ones((len(stems), samples), bool)
    named = set()
    for span in spans:
        if span.stem not in stems:
            raise ValueError(f"unknown stem '{span.stem}'; known are {', '.join(stems)}")
        place = list(stems).index(span.stem)
        if span.stem not in named:
            active[place] = False
            named.add(span.stem)
        active[place, max(0, round(span.start * sample_rate)) : max(0, round(span.end * sample_rate))] = True
    return active


def to_spans(active: np.ndarray, stems: Sequence[str], sample_rate: int) -> tuple[Span, ...]:
    """What `from_spans` makes bool `[S, T]` of, by stem and time; a stem that rests throughout has one without length.

    What `from_stems` gives has channels: a stem is active where any of them is, `active.any(axis=-1)`.
    """
    spans = []
    for stem, row in zip(stems, active, strict=True):
        changes = np.flatnonzero(np.diff(row, prepend=False, append=False)) / sample_rate
        spans += [Span(stem, float(start), float(end)) for start, end in changes.reshape(-1, 2)]
        if not len(changes):
            spans.append(Span(stem, 0.0, 0.0))
    return tuple(spans)


def check_has_rest(active: np.ndarray, stems: Sequence[str], name: str) -> None:
    """Raise ValueError if all stems of bool `[S, T]` are active everywhere: that says nothing about the song.

    Args:
      name: of the file that says so.
    """
    if np.all(active):
        raise ValueError(
            f"{name}: {', '.join(stems)} are all active throughout, which leaves nothing to learn: mark for at least "
            "one stem where it plays, so that it rests elsewhere"
        )


def any_channel(active: np.ndarray) -> np.ndarray:
    """Where stems sound in any channel: `[S, T]` of that or of `[S, T, C]`."""
    return active if active.ndim == 2 else np.max(active, axis=-1)
