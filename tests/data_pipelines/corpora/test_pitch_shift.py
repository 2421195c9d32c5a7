"""Pitch-shifted variants: their pitch and their spectrum, and the length, channels and level of their stem."""

import numpy as np
import pytest
from signals import band_level, pitch, tone

from data_pipelines.audio.samples import resample, to_int16
from data_pipelines.corpora.base import Stem
from data_pipelines.corpora.pitch_shift import band_limited, facts, inputs, shift_rate, shifted
from data_pipelines.schema import variant_name

RATE = 16_000
NOTES = np.array([[0.0, 0.5, 69.0], [0.5, 1.0, 71.0]], np.float32)


def sine(channels: int = 1, rate: int = RATE, level: float = 0.3) -> Stem:
    """A tone of 440 Hz with a length that is not a multiple of any sample interval."""
    return Stem("violin", to_int16(tone(440.0, 1.00037, rate, channels, level)), notes=NOTES)


def variants_of(stem: Stem, most: int, rate: int = RATE) -> list[Stem]:
    """The variants of a stem whose original is at the rate of the corpus."""
    return shifted(stem, stem.audio / np.float32(32768), rate, most, rate)


def test_names():
    assert [variant_name("violin", semitones) for semitones in (-4, 0, 2)] == ["violin@-4", "violin", "violin@+2"]


def test_variants_of_all_shifts_except_zero():
    variants = variants_of(sine(), 2)
    assert [variant.name for variant in variants] == ["violin@-2", "violin@-1", "violin@+1", "violin@+2"]
    assert {variant.parent for variant in variants} == {"violin"}
    assert variants_of(sine(), 0) == []


@pytest.mark.parametrize(("channels", "rate"), [(1, RATE), (2, 22_050)])
def test_only_the_pitch_changes(channels, rate):
    stem = sine(channels, rate)
    for variant in variants_of(stem, 3, rate):
        semitones = int(variant.name.split("@")[1])
        assert pitch(variant.audio, rate) == pytest.approx(440.0 * 2 ** (semitones / 12), rel=0.01)
        assert variant.audio.shape == stem.audio.shape
        assert variant.audio.dtype == np.int16
        level = np.sqrt(np.mean((variant.audio[2000:-2000] / 32768) ** 2, axis=0))
        np.testing.assert_allclose(level, 0.3 / np.sqrt(2), rtol=0.1)


@pytest.mark.parametrize(("original_rate", "rate"), [(48_000, 16_000), (44_100, 8000), (48_000, 44_100)])
def test_variants_of_noise_fill_the_spectrum_as_the_stem_does(original_rate, rate):
    """A hole at the top would tell the shift. From 48 kHz, a corpus at 44.1 kHz is full up to 24 kHz · 2^(−4/12)."""
    noise = np.random.default_rng(0).normal(0.0, 0.1, (4 * original_rate, 1)).astype(np.float32)
    stem = Stem("violin", to_int16(resample(noise, original_rate, rate)))
    top = min(0.9 * rate / 2, 18_500)
    for variant in (stem, *shifted(stem, noise, original_rate, 4, rate)):
        assert band_level(variant.audio, rate, 0.83 * top, top) == pytest.approx(
            band_level(variant.audio, rate, 1000, 3000), abs=1.0
        ), variant.name


def test_the_rate_of_the_shift_is_the_published_one_where_it_suffices():
    assert [shift_rate(48_000, rate, 4) for rate in (8000, 16_000, 22_050)] == [32_000] * 3
    assert shift_rate(16_000, 16_000, 4) == 32_000
    assert shift_rate(48_000, 44_100, 4) == 48_000
    assert shift_rate(44_100, 22_050, 12) == 44_100
    assert shift_rate(44_100, 48_000, 1) == 48_000


def test_prepared_variants_of_older_versions_are_recognised():
    old = {"kind": "chamber", "shifts": "4"}
    assert band_limited(old)
    assert not band_limited({**old, **facts(old)})
    for without_variants in ({"kind": "chamber", "shifts": "0"}, {"kind": "band"}):
        assert facts(without_variants) == {}
        assert not band_limited(without_variants)


def test_channels_are_independent():
    stem = sine(channels=2)
    stem.audio[:, 1] //= 4
    (_, up) = variants_of(stem, 1)
    level = np.sqrt(np.mean(up.audio.astype(float) ** 2, axis=0))
    assert level[1] / level[0] == pytest.approx(0.25, rel=0.02)


def test_only_the_pitches_of_notes_change():
    stem = sine()
    down, up = variants_of(stem, 1)
    np.testing.assert_array_equal(down.notes - NOTES, [[0, 0, -1]] * 2)
    np.testing.assert_array_equal(up.notes - NOTES, [[0, 0, 1]] * 2)
    np.testing.assert_array_equal(stem.notes, NOTES)
    assert up.notes.dtype == np.float32


def test_full_scale_is_clipped_without_a_warning():
    """A square wave at full scale overshoots, and int16 would wrap to the other sign. Warnings are errors in tests."""
    loud = np.where(sine().audio >= 0, 32767, -32768).astype(np.int16)
    for variant in variants_of(Stem("violin", loud), 1):
        assert variant.audio.min() == -32768
        assert variant.audio.max() == 32767
        # A wrapped sample would differ from both of its neighbours by nearly the full range.
        jumps = np.abs(np.diff(variant.audio[:, 0].astype(int)))
        assert (jumps[1:] + jumps[:-1]).max() < 2 * 65535 * 0.9


@pytest.mark.parametrize("parent", ["drums", "violin"])
def test_parts_and_variants_have_no_variants(parent):
    with pytest.raises(ValueError, match=f"'kick' is a part or a variant of '{parent}'"):
        variants_of(Stem("kick", sine().audio, parent), 1)


def test_the_inputs_of_variants():
    assert inputs(0) == []
    assert [line.split()[0] for line in inputs(4)] == ["librosa", "variants"]
    for most in (-1, 13):
        with pytest.raises(ValueError, match=f"--shifts {most} is outside 0 to 12"):
            inputs(most)
