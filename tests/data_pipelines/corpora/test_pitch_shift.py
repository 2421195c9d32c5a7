"""Pitch-shifted variants: at the pitch that they claim, of the form of their stem, and out of default views."""

import numpy as np
import pytest
from signals import pitch, tone

from data_pipelines.audio.reading import to_int16
from data_pipelines.corpora.base import Stem
from data_pipelines.corpora.pitch_shift import inputs, shifted
from data_pipelines.schema import variant_name

RATE = 16_000
NOTES = np.array([[0.0, 0.5, 69.0], [0.5, 1.0, 71.0]], np.float32)


def sine(channels: int = 1, rate: int = RATE, level: float = 0.3) -> Stem:
    """440 Hz, of a length that no rate divides."""
    return Stem("violin", to_int16(tone(440.0, 1.00037, rate, channels, level)), notes=NOTES)


def test_names():
    assert [variant_name("violin", semitones) for semitones in (-4, 0, 2)] == ["violin@-4", "violin", "violin@+2"]


def test_every_variant_but_the_stem_itself():
    variants = shifted(sine(), 2, RATE)
    assert [variant.name for variant in variants] == ["violin@-2", "violin@-1", "violin@+1", "violin@+2"]
    assert {variant.parent for variant in variants} == {"violin"}
    assert shifted(sine(), 0, RATE) == []


@pytest.mark.parametrize(("channels", "rate"), [(1, RATE), (2, 22_050)])
def test_pitch_moves_and_form_stays(channels, rate):
    stem = sine(channels, rate)
    for variant in shifted(stem, 3, rate):
        semitones = int(variant.name.split("@")[1])
        assert pitch(variant.audio, rate) == pytest.approx(440.0 * 2 ** (semitones / 12), rel=0.01)
        assert variant.audio.shape == stem.audio.shape
        assert variant.audio.dtype == np.int16
        level = np.sqrt(np.mean((variant.audio[2000:-2000] / 32768) ** 2, axis=0))
        np.testing.assert_allclose(level, 0.3 / np.sqrt(2), rtol=0.1)


def test_channels_stay_apart():
    stem = sine(channels=2)
    stem.audio[:, 1] //= 4
    (_, up) = shifted(stem, 1, RATE)
    level = np.sqrt(np.mean(up.audio.astype(float) ** 2, axis=0))
    assert level[1] / level[0] == pytest.approx(0.25, rel=0.02)


def test_notes_move_along_in_pitch_only():
    stem = sine()
    down, up = shifted(stem, 1, RATE)
    np.testing.assert_array_equal(down.notes - NOTES, [[0, 0, -1]] * 2)
    np.testing.assert_array_equal(up.notes - NOTES, [[0, 0, 1]] * 2)
    np.testing.assert_array_equal(stem.notes, NOTES)
    assert up.notes.dtype == np.float32


def test_full_scale_is_clipped_without_a_word():
    """Warnings are errors here; a square wave at full scale overshoots, and would wrap to the other sign."""
    loud = np.where(sine().audio >= 0, 32767, -32768).astype(np.int16)
    for variant in shifted(Stem("violin", loud), 1, RATE):
        assert variant.audio.min() == -32768
        assert variant.audio.max() == 32767
        # A wrapped sample would be a jump of nearly the whole range to a neighbour and back.
        jumps = np.abs(np.diff(variant.audio[:, 0].astype(int)))
        assert (jumps[1:] + jumps[:-1]).max() < 2 * 65535 * 0.9


@pytest.mark.parametrize("parent", ["drums", "violin"])
def test_parts_and_variants_have_no_variants(parent):
    with pytest.raises(ValueError, match=f"'kick' is part or variant of '{parent}'"):
        shifted(Stem("kick", sine().audio, parent), 1, RATE)


def test_what_variants_depend_on():
    assert inputs(0) == []
    assert [line.split()[0] for line in inputs(4)] == ["librosa"]
    for most in (-1, 13):
        with pytest.raises(ValueError, match=f"--shifts {most} is outside 0 to 12"):
            inputs(most)
