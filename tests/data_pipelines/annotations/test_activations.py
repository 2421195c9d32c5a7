"""Activations of reference stems from their envelopes, and as spans in seconds."""

import math

import numpy as np
import pytest
import scipy.signal

from data_pipelines.annotations.activations import Span, check_has_rest, from_spans, from_stems, to_spans
from tests.data_pipelines.signals import tone

RATE = 44_100
STEMS = ("bass", "drums", "vocals")


def gated(frequency: float, seconds: float, *spans: tuple[float, float], rate: int = RATE, level: float = 0.3):
    """A tone that is silent outside of the spans (s), `[T, 1]`."""
    audio = tone(frequency, seconds, rate, level=level)
    sounding = np.zeros(len(audio), bool)
    for start, end in spans:
        sounding[round(start * rate) : round(end * rate)] = True
    return audio * sounding[:, None]


@pytest.mark.parametrize("rate", [44_100, 48_000, 8000])
def test_activations_enclose_the_sound_closely(rate):
    spans = [(1.0, 2.0), (2.61, 3.37)], [(0.0, 4.0)]
    stems = np.stack([gated(220.0, 4.0, *stem_spans, rate=rate) for stem_spans in spans])
    computed = to_spans(from_stems(stems, rate)[..., 0], ("a", "b"), rate)
    assert [span.stem for span in computed] == ["a", "a", "b"]
    for span, (start, end) in zip(computed[:2], spans[0], strict=True):
        assert 0 <= start - span.start < 0.1
        assert 0 <= span.end - end < 0.1
    assert computed[2] == Span("b", 0.0, 4.0)


def test_a_silent_quarter_of_each_stem_is_detected():
    """As in the test songs of the paper, each stem is silent in a different quarter."""
    rng = np.random.default_rng(0)
    stems = 0.1 * rng.standard_normal((4, 8 * RATE, 2))
    truth = np.ones((4, 8 * RATE), bool)
    for stem, quarter in enumerate((2, 0, 3, 1)):
        truth[stem, 2 * RATE * quarter : 2 * RATE * (quarter + 1)] = False
    active = from_stems(stems * truth[..., None], RATE)
    assert active.shape == (4, 8 * RATE, 2)
    np.testing.assert_allclose(active.mean(axis=1), 0.75, atol=0.2 / 8)
    assert np.all(active[truth])
    assert (active != truth[..., None]).mean() < 0.025


@pytest.mark.parametrize(("threshold", "sources"), [(0.01, 2), (0.01, 4), (0.15, 2)])
def test_the_threshold_is_a_level_below_the_loudest(threshold, sources):
    """`40 · log10(threshold / S)`: −92 dB for two stems with the published 0.01, −45 dB with MedleyDB's 0.15."""
    edge = 40 * math.log10(threshold / sources)
    loud = tone(200.0, 2.0, RATE)
    for decibels, is_active in ((edge + 2, True), (edge - 2, False)):
        silent = [np.zeros_like(loud)] * (sources - 2)
        active = from_stems(np.stack([loud, loud * 10 ** (decibels / 20), *silent]), RATE, threshold=threshold)
        assert active[0].all()
        assert active[1, RATE // 2 : -RATE // 2].all() == active[1].any() == is_active
        assert not active[2:].any()


def test_sixty_decibels_lower_is_inactive_for_the_threshold_of_medleydb():
    loud = tone(200.0, 1.0, RATE)
    stems = np.stack([loud, loud / 1000])
    assert from_stems(stems, RATE)[1].all()
    assert not from_stems(stems, RATE, threshold=0.15)[1].any()


def reference_activations(
    stems: np.ndarray, threshold: float, window: int, hop: int, cutoff: float, slope: float
) -> np.ndarray:
    """The published method for one channel, `[S, T]`, computed for one sample at a time."""
    sources, samples = stems.shape
    hann = [0.5 - 0.5 * math.cos(2 * math.pi * (n + 1) / (window + 1)) for n in range(window)]
    envelopes = np.zeros((sources, samples))
    for s in range(sources):

        def level(frame: int, s: int = s) -> float:
            first, total = frame * hop - window // 2, 0.0
            for n in range(window):
                if 0 <= first + n < samples and stems[s, first + n] > 0:
                    total += hann[n] * math.sqrt(stems[s, first + n])
            return total / window

        for t in range(samples):
            frame, beyond = divmod(t, hop)
            envelopes[s, t] = level(frame) + (level(frame + 1) - level(frame)) * beyond / hop
    total = [sum(envelopes[:, t]) for t in range(samples)]
    largest = max(total)
    active = np.zeros((sources, samples), bool)
    for s in range(sources):
        scaled = [sources * envelopes[s, t] / largest if total[t] >= 0.01 else 0.0 for t in range(samples)]
        numerator, denominator = np.asarray(scipy.signal.butter(2, cutoff, "low"))
        smooth = scipy.signal.filtfilt(numerator, denominator, scaled)
        active[s] = [1 / (1 + math.exp(-slope * (level - threshold))) >= 0.5 for level in smooth]
    return active


@pytest.mark.parametrize("threshold", [0.01, 0.15, 0.8])
def test_the_method_equals_the_reference(threshold):
    rng = np.random.default_rng(1)
    loudness = 10.0 ** rng.uniform(-6, -1, (3, 23, 2)).repeat(13, axis=1)[:, :291]
    stems = rng.uniform(-1, 1, (3, 291, 2)) * loudness * rng.integers(0, 2, (3, 23, 1)).repeat(13, axis=1)[:, :291]
    active = from_stems(stems, RATE, threshold=threshold, window=16, hop=8, cutoff=0.3)
    assert 0.05 < active.mean() < 0.95
    for channel in range(2):
        expected = reference_activations(stems[..., channel], threshold, 16, 8, 0.3, 20.0)
        np.testing.assert_array_equal(active[..., channel], expected)


def test_channels_are_independent():
    left = gated(220.0, 2.0, (0.0, 1.0))
    stems = np.concatenate([np.stack([left, tone(330.0, 2.0, RATE)]), np.zeros((2, 2 * RATE, 1))], axis=2)
    active = from_stems(stems.astype(np.float32), RATE)
    np.testing.assert_array_equal(active[..., :1], from_stems(stems[..., :1], RATE))
    assert not active[..., 1].any()
    assert active[0, RATE // 2, 0]
    assert not active[0, 3 * RATE // 2, 0]


def test_a_song_below_the_gate_is_silent():
    """The envelope of a tone of level A is `0.19 · √A`: 0.01 is reached at −51 dB."""
    for decibels, is_active in ((-50.0, True), (-52.0, False)):
        stems = tone(441.0, 1.0, RATE, level=10 ** (decibels / 20))[None]
        assert from_stems(stems, RATE).any() == is_active


@pytest.mark.parametrize("samples", [0, 1, 2, 9, 10, 5000])
def test_silence_and_short_stems(samples):
    silent = from_stems(np.zeros((2, samples, 1)), RATE)
    assert silent.shape == (2, samples, 1)
    assert not silent.any()
    short = from_stems(np.full((1, samples, 1), 0.5), RATE)
    assert short.all() if samples in (0, 5000) else not short.any()  # a few samples do not fill a window


def test_invalid_arguments_are_refused():
    for stems, message in (
        (np.zeros((2, 5)), r"float64 \[2, 5\]"),
        (np.zeros((2, 5, 1), np.int16), r"int16 \[2, 5, 1\]"),
    ):
        with pytest.raises(ValueError, match=message):
            from_stems(stems, RATE)
    with pytest.raises(ValueError, match="threshold must be positive, not 0"):
        from_stems(np.zeros((2, 5, 1)), RATE, threshold=0.0)
    with pytest.raises(ValueError, match="slope must be positive, not -20"):
        from_stems(np.zeros((2, 5, 1)), RATE, slope=-20.0)
    with pytest.raises(ValueError, match="sample_rate must be positive, not -8000"):
        from_stems(np.zeros((2, 5, 1)), -8000)


def test_spans_as_samples():
    spans = (Span("vocals", 0.5, 1.0), Span("drums", 0.0, 0.0), Span("vocals", 1.25, 2.0))
    active = from_spans(spans, STEMS, 16, 8)
    assert active[0].all(), "no span names it, so its activity is unknown"
    assert not active[1].any(), "its span has no length, so it is inactive throughout"
    np.testing.assert_array_equal(np.flatnonzero(~active[2]), [0, 1, 2, 3, 8, 9])
    assert from_spans((), STEMS, 16, 8).all()
    assert from_spans((Span("bass", -1.0, 9.0),), STEMS, 16, 8).all()
    with pytest.raises(ValueError, match="unknown stem 'voice'; the stems are bass, drums, vocals"):
        from_spans((Span("voice", 0.0, 1.0),), STEMS, 16, 8)


def test_samples_as_spans():
    active = np.array([[1, 1, 0, 1], [0, 0, 0, 0], [1, 1, 1, 1]], bool)
    assert to_spans(active, STEMS, 2) == (
        Span("bass", 0.0, 1.0),
        Span("bass", 1.5, 2.0),
        Span("drums", 0.0, 0.0),
        Span("vocals", 0.0, 2.0),
    )
    with pytest.raises(ValueError, match="zip"):
        to_spans(active, STEMS[:2], 2)


@pytest.mark.parametrize("rate", [8000, 11_025, 44_100, 48_000, 192_000])
def test_spans_preserve_every_sample(rate):
    rng = np.random.default_rng(rate)
    for share in (0.001, 0.1, 0.5, 0.999):
        active = np.cumsum(rng.random((3, 20_011)) < share, axis=1) % 2 == 1
        restored = from_spans(to_spans(active, STEMS, rate), STEMS, active.shape[1], rate)
        np.testing.assert_array_equal(restored, active)


def test_activations_without_inactive_times_are_refused():
    active = np.ones((3, 5), bool)
    with pytest.raises(
        ValueError, match=r"a\.csv: bass, drums, vocals are all active throughout.*for at least one stem"
    ):
        check_has_rest(active, STEMS, "a.csv")
    active[1, 4] = False
    check_has_rest(active, STEMS, "a.csv")
