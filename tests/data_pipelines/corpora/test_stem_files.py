"""Folders of tracks, missing files, and stems that are sums of files."""

import numpy as np
import pytest
import soundfile
from signals import levels_of, pitch, tone, write_levels

from data_pipelines.corpora.stem_files import check_present, read_stems


def test_a_stem_is_the_sum_of_its_files(tmp_path):
    files = {level: write_levels(tmp_path / f"{level}.wav", level, level / 2) for level in (0.1, 0.2, 0.4)}
    stems = read_stems({"two": [files[0.1], files[0.4]], "one": [files[0.2]]}, 44_100)
    assert {stem.name: levels_of(stem.audio) for stem in stems} == {"two": [0.5, 0.25], "one": [0.2, 0.1]}
    assert [stem.audio.shape for stem in stems] == [(400, 2)] * 2


def test_files_of_a_sum_may_differ_in_rate_length_and_channels(tmp_path):
    soundfile.write(tmp_path / "low.wav", tone(300, 0.5, 8000), 8000)
    soundfile.write(tmp_path / "high.wav", tone(900, 1.0, 44_100, channels=2, level=0.1), 44_100)
    mixed, single = read_stems(
        {"mixed": [tmp_path / "low.wav", tmp_path / "high.wav"], "single": [tmp_path / "low.wav"]}, 16_000
    )
    assert mixed.audio.shape == single.audio.shape == (16_000, 2)
    np.testing.assert_array_equal(single.audio[:, 0], single.audio[:, 1])
    assert not single.audio[8000:].any()
    assert pitch(mixed.audio[:8000], 16_000) == pytest.approx(300, abs=2)
    assert pitch(mixed.audio[8000:], 16_000) == pytest.approx(900, abs=2)
    rest = mixed.audio[500:7500].astype(int) - single.audio[500:7500]
    assert np.sqrt(np.mean(rest**2)) / 32768 == pytest.approx(0.1 / np.sqrt(2), rel=0.01)


def test_the_error_names_the_missing_file(tmp_path):
    present = write_levels(tmp_path / "a.wav", 0.1)
    check_present([present], "a track has a.wav")
    with pytest.raises(ValueError, match=r"/b.wav: no such file; a track has a.wav and b.wav"):
        check_present([present, tmp_path / "b.wav"], "a track has a.wav and b.wav")
