"""Rendering of notes: pitch, time and level."""

import numpy as np
import pytest
from signals import pitch, tone

from data_pipelines.corpora.render import default_soundfont, level, render
from data_pipelines.schema import INSTRUMENTS

A4 = np.array([[0.0, 1.0, 69.0]], np.float32)


def play(notes: np.ndarray, program: int = 73, seconds: float = 1.0, rate: int = 8000, **options) -> np.ndarray:
    return render(notes, np.full(len(notes), 100), program, seconds, rate, default_soundfont(), **options)


@pytest.mark.parametrize("rate", [8000, 22_050, 44_100])
def test_an_a4_has_440_hz(rate):
    audio = play(A4, rate=rate)
    assert audio.shape == (rate, 1)
    assert audio.dtype == np.float32
    assert pitch(audio[rate // 10 :], rate) == pytest.approx(440.0, rel=0.01)


def test_every_instrument_is_in_tune():
    """Most of the power is near harmonics of the note, in the middle and at the ends of the range."""
    out_of_tune = []
    for instrument, (low, high, program) in INSTRUMENTS.items():
        for midi in (low, (low + high) // 2, high):
            audio = play(np.array([[0.0, 1.0, midi]]), program, rate=22_050)[2205:]
            power = np.abs(np.fft.rfft(audio[:, 0] * np.hanning(len(audio)))) ** 2
            harmonic = np.arange(len(power)) * 22_050 / len(audio) / (440.0 * 2.0 ** ((midi - 69) / 12))
            power[harmonic < 0.5] = 0.0  # some samples have an offset
            near = np.abs(harmonic - np.rint(harmonic)) < np.minimum(0.03 * np.rint(harmonic), 0.2)
            if np.sum(power[near]) < 0.7 * np.sum(power):
                out_of_tune.append((instrument, midi))
    assert not out_of_tune


def test_notes_sound_at_their_time():
    audio = play(np.array([[0.5, 0.8, 69.0], [1.5, 1.8, 76.0]]), seconds=2.5)[:, 0]
    loud = [np.sqrt(np.mean(part**2)) > 0.005 for part in np.split(audio, 10)]
    assert not any(loud[:2])
    assert loud[2]
    assert loud[6]
    assert not loud[9]
    assert pitch(audio[4400:6000, None], 8000) == pytest.approx(440.0, rel=0.01)
    assert pitch(audio[12_400:14_000, None], 8000) == pytest.approx(659.3, rel=0.01)


def test_no_notes_give_silence():
    audio = play(np.zeros((0, 3)))
    assert audio.shape == (8000, 1)
    assert not audio.any()


def test_a_snare_is_not_a_tone():
    """The energy of a snare is spread over many frequencies, and that of a flute is not."""

    def share_of_strongest(audio):
        power = np.abs(np.fft.rfft(audio[:, 0])) ** 2
        return np.sort(power)[-20:].sum() / power.sum()

    snare = play(np.array([[0.0, 0.5, 38.0]]), 0, drum=True)
    assert share_of_strongest(snare) < 0.5 < share_of_strongest(play(A4))


def test_louder_notes_are_louder():
    notes = np.array([[0.0, 0.8, 69.0], [1.0, 1.8, 69.0]])
    soft, loud = np.split(render(notes, np.array([40, 120]), 73, 2.0, 8000, default_soundfont()), 2)
    assert np.sum(soft**2) < 0.7 * np.sum(loud**2)


@pytest.mark.parametrize("rms", [0.01, 0.08, 0.2])
def test_level(rms):
    audio = level(tone(440, 1.0, 8000, level=0.5), rms)
    assert np.sqrt(np.mean(audio**2)) == pytest.approx(rms, rel=1e-4)


def test_level_is_limited_by_full_scale():
    audio = np.zeros((100, 1), np.float32)
    audio[50] = -0.5
    assert np.abs(level(audio, 0.5)).max() == pytest.approx(1.0)


def test_silence_stays_silent():
    np.testing.assert_array_equal(level(np.zeros((10, 1), np.float32), 0.1), np.zeros((10, 1)))
    assert level(np.zeros((0, 1), np.float32), 0.1).shape == (0, 1)
