"""Reading of audio files: each fault has an error of one line, and conversions preserve the signal."""

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from data_pipelines.audio import reading

NOISE = np.random.default_rng(0).uniform(-0.9, 0.9, (3000, 2)).astype(np.float32)


def missing(path: Path) -> Path:
    return path / "missing.wav"


def too_many_channels(path: Path) -> Path:
    soundfile.write(path / "many.wav", np.zeros((10, 65)), 8000)
    return path / "many.wav"


def empty(path: Path) -> Path:
    (path / "empty.wav").touch()
    return path / "empty.wav"


def playlist(path: Path) -> Path:
    """FFmpeg would open the files and addresses in it."""
    (path / "list.m3u8").write_text("#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1/a.ts\n")
    return path / "list.m3u8"


def text(path: Path) -> Path:
    (path / "text.wav").write_text("not audio, in spite of its name\n" * 50)
    return path / "text.wav"


def truncated(path: Path) -> Path:
    soundfile.write(path / "cut.wav", NOISE, 8000)
    os.truncate(path / "cut.wav", 5000)
    return path / "cut.wav"


def truncated_flac(path: Path) -> Path:
    soundfile.write(path / "cut.flac", NOISE, 8000)
    os.truncate(path / "cut.flac", 5000)
    return path / "cut.flac"


def only_a_header(path: Path) -> Path:
    soundfile.write(path / "header.wav", NOISE, 8000)
    os.truncate(path / "header.wav", 44)
    return path / "header.wav"


def no_samples(path: Path) -> Path:
    soundfile.write(path / "nothing.wav", NOISE[:0], 8000)
    return path / "nothing.wav"


def nan_samples(path: Path) -> Path:
    bad = NOISE.copy()
    bad[17, 1] = np.nan
    soundfile.write(path / "nan.wav", bad, 8000, subtype="FLOAT")
    return path / "nan.wav"


def low_rate(path: Path) -> Path:
    soundfile.write(path / "low.wav", NOISE, 7999)
    return path / "low.wav"


def high_rate(path: Path) -> Path:
    soundfile.write(path / "high.wav", NOISE, 192_001)
    return path / "high.wav"


BAD_FILES = {
    missing: "no such file",
    text: r"cannot be read as audio; .* convert it first: ffmpeg -i \S+text\.wav text\.wav",
    empty: "is an empty file",
    playlist: "cannot be read as audio",
    too_many_channels: "has 65 channels, more than 64: split it first",
    truncated: "is truncated: its header promises more",
    truncated_flac: "damaged|truncated",
    only_a_header: "truncated|no samples",
    no_samples: "holds no samples",
    nan_samples: "sample 17 is NaN or infinite; repair the file",
    low_rate: "sample rate 7999 Hz is outside 8000 to 192000 Hz; resample it",
    high_rate: "sample rate 192001 Hz is outside 8000 to 192000 Hz; resample it",
}


@pytest.mark.parametrize("make", BAD_FILES, ids=lambda make: make.__name__)
def test_the_error_for_a_bad_file_names_it_and_the_fault(make, tmp_path):
    path = make(tmp_path)
    with pytest.raises(ValueError, match=BAD_FILES[make]) as error_info:
        reading.read_audio(path)
    assert str(error_info.value).startswith(f"{path}: ")
    assert "\n" not in str(error_info.value)


FORMATS = [("wav", "PCM_16"), ("wav", "PCM_24"), ("wav", "FLOAT"), ("flac", "PCM_16"), ("flac", "PCM_24")]
STEPS = {"PCM_16": 2**-15, "PCM_24": 2**-23, "FLOAT": 0.0}


@pytest.mark.parametrize(("suffix", "subtype"), FORMATS)
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_the_samples_that_were_written_are_read(suffix, subtype, channels, tmp_path):
    samples = np.random.default_rng(channels).uniform(-0.9, 0.9, (1000, channels)).astype(np.float32)
    soundfile.write(tmp_path / f"file.{suffix}", samples, 48_000, subtype=subtype)
    read, rate = reading.read_audio(tmp_path / f"file.{suffix}")
    assert rate == 48_000
    assert read.dtype == np.float32
    np.testing.assert_allclose(read, samples, rtol=0, atol=STEPS[subtype])


def test_the_content_determines_the_format(tmp_path):
    soundfile.write(tmp_path / "song.dat", NOISE, 8000, format="FLAC")
    file = reading.AudioFile(tmp_path / "song.dat")
    assert (file.container, file.frames) == ("FLAC", len(NOISE))


def test_a_file_that_is_too_long_as_a_whole_is_read_in_blocks_only(tmp_path, monkeypatch):
    soundfile.write(tmp_path / "long.flac", NOISE, 8000)
    monkeypatch.setattr(reading, "MOST_SAMPLES", NOISE.size - 1)
    with pytest.raises(
        ValueError, match=r"long\.flac: is too long to be read as a whole: cut it into parts of at most"
    ):
        reading.read_audio(tmp_path / "long.flac")
    assert sum(map(len, reading.AudioFile(tmp_path / "long.flac").blocks())) == len(NOISE)
    monkeypatch.setattr(reading, "MOST_SAMPLES", NOISE.size)
    assert len(reading.read_audio(tmp_path / "long.flac")[0]) == len(NOISE)


def test_a_file_is_read_in_blocks_several_times(tmp_path):
    soundfile.write(tmp_path / "noise.wav", NOISE, 8000, subtype="FLOAT")
    file = reading.AudioFile(tmp_path / "noise.wav")
    assert (file.sample_rate, file.channels, file.frames) == (8000, 2, 3000)
    assert (file.container, file.subtype) == ("WAV", "FLOAT")
    for size in (999, 3000, 10_000):
        blocks = list(file.blocks(size))
        assert {len(block) for block in blocks[:-1]} <= {size}
        np.testing.assert_array_equal(np.concatenate(blocks), NOISE)
