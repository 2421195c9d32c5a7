"""Changes of sample rate, length, channels and sample format preserve the signal."""

import numpy as np
import pytest
from signals import pitch, tone

from data_pipelines.audio import samples

NOISE = np.random.default_rng(0).uniform(-0.9, 0.9, (3000, 2)).astype(np.float32)


@pytest.mark.parametrize(("rate", "target"), [(44_100, 8000), (8000, 44_100), (48_000, 22_050), (11_025, 16_000)])
def test_resampling_keeps_length_and_tone(rate, target):
    before = tone(1000.0, 0.777, rate, channels=2)
    after = samples.resample(before, rate, target)
    assert after.dtype == np.float32
    assert after.shape == (-(-len(before) * target // rate), 2)
    assert pitch(after, target) == pytest.approx(1000.0, abs=1.0)
    inner = slice(len(after) // 4, -len(after) // 4)
    assert np.sqrt(np.mean(after[inner] ** 2)) == pytest.approx(0.3 / np.sqrt(2), rel=0.01)


def test_resampling_to_the_same_rate_changes_nothing():
    np.testing.assert_array_equal(samples.resample(NOISE, 8000, 8000), NOISE)


def test_fit_length_cuts_and_pads():
    np.testing.assert_array_equal(samples.fit_length(NOISE, 100), NOISE[:100])
    longer = samples.fit_length(NOISE, 3010)
    np.testing.assert_array_equal(longer[:3000], NOISE)
    np.testing.assert_array_equal(longer[3000:], np.zeros((10, 2)))


def test_fit_channels_mixes_and_copies():
    np.testing.assert_allclose(samples.fit_channels(NOISE, 1)[:, 0], (NOISE[:, 0] + NOISE[:, 1]) / 2, atol=1e-7)
    np.testing.assert_array_equal(samples.fit_channels(NOISE, 2), NOISE)
    np.testing.assert_array_equal(samples.fit_channels(NOISE[:, :1], 3), np.stack([NOISE[:, 0]] * 3, axis=1))
    with pytest.raises(ValueError, match="cannot turn 2 channels into 6: give 1 or 6"):
        samples.fit_channels(NOISE, 6)


def test_to_int16_rounds():
    rounded = np.array([[0.0, -1.0, 1.0, 0.5, 1.4 / 32768, 1.6 / 32768]], np.float32)
    out = samples.to_int16(rounded)
    assert out.dtype == np.int16
    np.testing.assert_array_equal(out, [[0, -32768, 32767, 16384, 1, 2]])


def test_to_int16_warns_that_it_clips():
    with pytest.warns(UserWarning, match=r"peaks at 1\.500 and is clipped"):
        out = samples.to_int16(np.array([[1.5, -1.2]], np.float32))
    np.testing.assert_array_equal(out, [[32767, -32768]])


@pytest.mark.parametrize(("rate", "target"), [(44_100, 16_000), (22_050, 48_000), (16_000, 16_000)])
def test_resampling_in_blocks_is_the_same_to_the_bit(rate, target):
    signal = np.random.default_rng(0).uniform(-0.9, 0.9, (2 * rate + 17, 2)).astype(np.float32)
    expected = samples.resample(signal, rate, target)
    assert len(expected) == -(-len(signal) * target // rate)
    for size in (501, 20_000):
        blocks = (signal[start : start + size] for start in range(0, len(signal), size))
        np.testing.assert_array_equal(np.concatenate(list(samples.resample_blocks(blocks, rate, target))), expected)
