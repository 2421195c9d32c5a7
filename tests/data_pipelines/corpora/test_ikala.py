"""`ikala`: the channels of the stems, thirds of the clips, and errors in the source."""

import os
from pathlib import Path

import pytest
from signals import levels_of, write_levels

from data_pipelines.corpora.ikala import Ikala

CLIPS = ("10161_chorus", "10161_verse", "10164_chorus", "21025_verse")


@pytest.fixture
def source(tmp_path) -> Path:
    for name in CLIPS:
        write_levels(tmp_path / "iKala" / "Wavfile" / f"{name}.wav", 0.1, 0.4)
    (tmp_path / "iKala" / "Wavfile" / "._10161_chorus.wav").write_text("a hidden file of macOS")
    (tmp_path / "iKala" / "PitchLabel").mkdir()
    return tmp_path / "iKala"


def test_thirds(source):
    splits = ("train", "validation", "test", "test")
    tracks = Ikala(source).tracks(map)
    assert [(track.name, track.split) for track in tracks] == list(zip(CLIPS, splits, strict=True))


def test_the_left_channel_is_the_accompaniment_and_the_right_one_the_voice(source):
    corpus = Ikala(source)
    stems = corpus.load(corpus.tracks(map)[3], 44_100)
    assert {stem.name: levels_of(stem.audio) for stem in stems} == {"vocals": [0.4], "accompaniment": [0.1]}
    assert [stem.audio.shape for stem in corpus.load(corpus.tracks(map)[3], 22_050)] == [(200, 1)] * 2


@pytest.mark.parametrize(("rate", "stored"), [(44_100, 44_100), (22_050, 22_050), (48_000, 44_100)])
def test_the_default_sample_rate_is_at_most_44100(rate, stored, source):
    write_levels(source / "Wavfile" / f"{CLIPS[0]}.wav", 0.1, 0.4, rate=rate)
    assert Ikala(source).sample_rate() == stored


def test_changed_files_are_changed_inputs(source):
    before = Ikala(source).inputs()
    assert [line.split()[0] for line in before] == [f"Wavfile/{name}.wav" for name in CLIPS]
    write_levels(source / "Wavfile" / f"{CLIPS[1]}.wav", 0.1, 0.4, samples=500)
    assert [old == new for old, new in zip(before, Ikala(source).inputs(), strict=True)] == [
        True,
        False,
        True,
        True,
    ]


def test_errors_in_the_source_are_reported(source, tmp_path):
    corpus = Ikala(source)
    chorus, verse, *_ = corpus.tracks(map)
    write_levels(chorus.source, 0.1)
    with pytest.raises(
        ValueError, match=r"10161_chorus.wav has 1 channels; a file of iKala has 2, the accompaniment on the left"
    ):
        corpus.load(chorus, 44_100)
    os.truncate(verse.source, 500)
    with pytest.raises(ValueError, match=r"10161_verse.wav: is truncated"):
        corpus.load(verse, 44_100)
    for name in CLIPS[2:]:
        (source / "Wavfile" / f"{name}.wav").unlink()
    with pytest.raises(ValueError, match=r"iKala holds 2 tracks: 3 or more are needed"):
        corpus.tracks(map)
    with pytest.raises(ValueError, match=r"Wavfile holds no Wavfile/TRACK.wav: give the folder that holds Wavfile"):
        Ikala(source / "Wavfile").tracks(map)
    with pytest.raises(ValueError, match=r"none: no such folder"):
        Ikala(tmp_path / "none").tracks(map)
