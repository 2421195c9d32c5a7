"""Arrays of samples are brought into one form, or refused with one line that names the remedy."""

import numpy as np
import pytest

from data_pipelines.audio.arrays import to_audio
from data_pipelines.audio.reading import BLOCK

RATE = 22_050


def test_one_dimension_is_one_channel():
    audio = to_audio(np.array([0.5, -0.25, 0.0]), RATE)
    assert (audio.channels, audio.frames, audio.sample_rate) == (1, 3, RATE)
    assert audio.samples.dtype == np.float32
    np.testing.assert_array_equal(audio.samples[:, 0], [0.5, -0.25, 0.0])


def test_blocks_are_the_samples():
    samples = np.random.default_rng(0).uniform(-1, 1, (2 * BLOCK + 5, 2)).astype(np.float32)
    blocks = list(to_audio(samples, RATE).blocks())
    assert [len(block) for block in blocks] == [BLOCK, BLOCK, 5]
    np.testing.assert_array_equal(np.concatenate(blocks), samples)


@pytest.mark.parametrize(
    ("dtype", "values", "expected"),
    [
        (np.int16, [-32_768, 0, 16_384], [-1.0, 0.0, 0.5]),
        (np.int32, [-(2**31), 0, 2**30], [-1.0, 0.0, 0.5]),
        (np.int8, [-128, 0, 64], [-1.0, 0.0, 0.5]),
        (np.uint8, [0, 128, 192], [-1.0, 0.0, 0.5]),
        (np.float64, [-1.0, 0.0, 0.5], [-1.0, 0.0, 0.5]),
        (np.float16, [-1.0, 0.0, 0.5], [-1.0, 0.0, 0.5]),
    ],
)
def test_full_scale_is_one_for_every_type(dtype, values, expected):
    np.testing.assert_array_equal(to_audio(np.array(values, dtype), RATE).samples[:, 0], np.float32(expected))


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (np.zeros((2, 11_025)), r"shape \(2, 11025\), which is fewer samples than channels.*audio\.T"),
        (np.zeros((100, 65)), "65 channels, more than 64"),
        (np.zeros((1, 100, 2)), r"shape \(1, 100, 2\): give \[T\] or \[T, C\]"),
        (np.zeros(()), "one recording at a time"),
        (np.zeros(0), "is empty"),
        ("mix.wav", r"is the path mix\.wav: read the file first, or use separate_file"),
        (np.zeros((100, 0)), "is empty"),
        (np.zeros(100, np.int64), "dtype int64, whose full scale is unknown"),
        (np.zeros(100, np.uint16), "dtype uint16"),
        (np.zeros(100, np.complex64), "dtype complex64"),
        (np.zeros(100, bool), "dtype bool"),
        (np.array(["a", "b"]), "dtype <U1"),
        (np.where(np.arange(44_100)[:, None] == 22_050, np.nan, np.zeros((1, 2))), r"sample 22050 \(1\.000 s\)"),
        (np.array([0.0, np.inf]), "NaN or infinite at sample 1"),
        (np.array([0.0, 1e300]), "NaN or infinite at sample 1"),
    ],
)
def test_what_is_not_audio_is_refused(samples, message):
    with pytest.raises(ValueError, match=message):
        to_audio(samples, RATE)


@pytest.mark.parametrize("rate", [0, -44_100, 7_999, 192_001, 44_100.5, float("nan"), float("inf"), None, "44100"])
def test_sample_rates_out_of_range_are_refused(rate):
    with pytest.raises(ValueError, match=r"sample rate of the mixture is .*: give a whole number of 8000 to 192000 Hz"):
        to_audio(np.zeros(100), rate, "the mixture")


def test_a_float_that_is_a_whole_number_is_a_rate():
    assert to_audio(np.zeros(100), 44_100.0).sample_rate == 44_100
