"""`ccmixter`: the files of the stems, thirds of unlisted songs, and errors in the source."""

import os
from pathlib import Path

import pytest
from signals import levels_of, write_levels

from data_pipelines.corpora.ccmixter import Ccmixter

# The songs of these tests have invented names.
pytestmark = pytest.mark.filterwarnings("ignore:.*not in the published list of Stoller:UserWarning")
LEVELS = {"source-01.wav": 0.1, "source-02.wav": 0.4, "mix.wav": 0.5}
SONGS = ("_ghost_-_Lullaby", "another_one", "song", "the_last")


@pytest.fixture
def source(tmp_path) -> Path:
    for song in SONGS:
        for name, level in LEVELS.items():
            write_levels(tmp_path / "ccmixter" / song / name, level, -level)
    (tmp_path / "ccmixter" / "README").write_text("not a track")
    (tmp_path / "ccmixter" / "scripts").mkdir()
    return tmp_path / "ccmixter"


def test_thirds_of_unlisted_songs(source):
    splits = ("train", "validation", "test", "test")
    tracks = Ccmixter(source).tracks(map)
    assert [(track.name, track.split) for track in tracks] == list(zip(SONGS, splits, strict=True))


def test_the_first_source_is_the_accompaniment_and_the_second_one_the_voice(source):
    (source / "song" / "mix.wav").unlink()
    corpus = Ccmixter(source)
    (track,) = (track for track in corpus.tracks(map) if track.name == "song")
    stems = corpus.load(track, 44_100)
    assert {stem.name: levels_of(stem.audio) for stem in stems} == {"vocals": [0.4, -0.4], "accompaniment": [0.1, -0.1]}
    assert [stem.audio.shape for stem in corpus.load(track, 22_050)] == [(200, 2)] * 2


@pytest.mark.parametrize(("rate", "stored"), [(44_100, 44_100), (22_050, 22_050), (48_000, 44_100)])
def test_the_default_sample_rate_is_at_most_44100(rate, stored, source):
    for name in LEVELS:
        write_levels(source / SONGS[0] / name, 0.1, rate=rate)
    assert Ccmixter(source).sample_rate() == stored


def test_changed_files_are_changed_inputs(source):
    before = Ccmixter(source).inputs()
    assert len(before) == 8
    write_levels(source / "song" / "source-01.wav", 0.1, 0.1, samples=500)
    assert [old == new for old, new in zip(before, Ccmixter(source).inputs(), strict=True)].count(False) == 1


def test_errors_in_the_source_are_reported(source, tmp_path):
    corpus = Ccmixter(source)
    track = corpus.tracks(map)[1]
    os.truncate(source / "another_one" / "source-02.wav", 500)
    with pytest.raises(ValueError, match=r"another_one/source-02.wav: is truncated"):
        corpus.load(track, 44_100)
    for name in LEVELS:
        (source / "the_last" / name).unlink()
        (source / "another_one" / name).unlink()
    with pytest.raises(ValueError, match=r"ccmixter holds 2 tracks: 3 or more are needed"):
        corpus.tracks(map)
    (source / "song" / "source-02.wav").unlink()
    for method in (corpus.inputs, corpus.sample_rate, lambda: corpus.tracks(map)):
        with pytest.raises(
            ValueError, match=r"song/source-02.wav: no such file; a track of CCMixter has source-01.wav, th"
        ):
            method()
    with pytest.raises(ValueError, match=r"holds no TRACK/source-01.wav: give the folder of the tracks"):
        Ccmixter(tmp_path).tracks(map)
    with pytest.raises(ValueError, match=r"none: no such folder"):
        Ccmixter(tmp_path / "none").tracks(map)
