"""`dsd100`: the published layout, the halves of unlisted test songs, and errors in the source."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from signals import levels_of, write_levels

from data_pipelines import prepare
from data_pipelines.corpora.dsd100 import Dsd100
from data_pipelines.prepared.corpus import Excerpt, open_corpus
from data_pipelines.schema import FOUR_STEMS

# The songs of these tests have invented names.
pytestmark = pytest.mark.filterwarnings("ignore:.*not in the published list of Stoller:UserWarning")
LEVELS = {"vocals": 0.1, "drums": 0.2, "bass": 0.3, "other": 0.4}


def write_song(source: Path, part: str, name: str, rate: int = 44_100) -> None:
    for stem, level in LEVELS.items():
        write_levels(source / "Sources" / part / name / f"{stem}.wav", level, -level, rate=rate)
    write_levels(source / "Mixtures" / part / name / "mixture.wav", 0.9, 0.9, rate=rate)


@pytest.fixture
def source(tmp_path) -> Path:
    for part, name in (("Dev", "052 - B"), ("Dev", "051 - A"), ("Test", "002 - D"), ("Test", "001 - C")):
        write_song(tmp_path / "DSD100", part, name)
    return tmp_path / "DSD100"


def splits_of(corpus: Dsd100) -> list[tuple[str, str]]:
    return [(track.name, track.split) for track in corpus.tracks(map)]


def test_dev_is_the_training_split_and_unlisted_songs_of_test_are_halved(source):
    assert splits_of(Dsd100(source)) == [
        ("051 - A", "train"),
        ("052 - B", "train"),
        ("001 - C", "validation"),
        ("002 - D", "test"),
    ]


def test_an_odd_song_is_in_the_test_split(source):
    write_song(source, "Test", "003 - E")
    assert splits_of(Dsd100(source))[2:] == [("001 - C", "validation"), ("002 - D", "test"), ("003 - E", "test")]


def test_the_stems_of_a_track(source):
    shutil.rmtree(source / "Mixtures")
    corpus = Dsd100(source)
    stems = corpus.load(corpus.tracks(map)[0], 44_100)
    assert tuple(stem.name for stem in stems) == FOUR_STEMS
    assert {stem.name: levels_of(stem.audio) for stem in stems} == {
        name: [level, -level] for name, level in LEVELS.items()
    }
    assert [stem.audio.shape for stem in corpus.load(corpus.tracks(map)[0], 22_050)] == [(200, 2)] * 4


@pytest.mark.parametrize(("rate", "stored"), [(44_100, 44_100), (22_050, 22_050), (48_000, 44_100)])
def test_the_default_sample_rate_is_at_most_44100(rate, stored, tmp_path):
    write_song(tmp_path, "Dev", "051 - A", rate)
    assert Dsd100(tmp_path).sample_rate() == stored


def test_the_prepared_corpus(source, tmp_path):
    prepare.build(Dsd100(source), tmp_path / "out", workers=1)
    view = {"vocals": ("vocals",), "accompaniment": ("drums", "bass", "other")}
    for split, name in (("train", "052 - B"), ("validation", "001 - C"), ("test", "002 - D")):
        corpus = open_corpus(tmp_path / "out", "dsd100", 44_100, split, view, 0)
        for stem, level in {"vocals": 0.1, "accompaniment": 0.9}.items():
            read = corpus.read(Excerpt(name, stem, 0, 400))
            np.testing.assert_allclose(read, np.broadcast_to([level, -level], (400, 2)), atol=1e-3)


def test_changed_files_are_changed_inputs(source):
    before = Dsd100(source).inputs()
    assert len(before) == 16
    write_levels(source / "Sources" / "Test" / "002 - D" / "bass.wav", 0.1, 0.1, samples=500)
    assert [old == new for old, new in zip(before, Dsd100(source).inputs(), strict=True)].count(False) == 1


def test_errors_in_the_source_are_reported(source, tmp_path):
    corpus = Dsd100(source)
    track = corpus.tracks(map)[0]
    os.truncate(source / "Sources" / "Dev" / "051 - A" / "drums.wav", 500)
    with pytest.raises(ValueError, match=r"Dev/051 - A/drums.wav: is truncated"):
        corpus.load(track, 44_100)
    (source / "Sources" / "Test" / "002 - D" / "bass.wav").unlink()
    for method in (corpus.inputs, corpus.sample_rate, lambda: corpus.tracks(map)):
        with pytest.raises(
            ValueError, match=r"Test/002 - D/bass.wav: no such file; a track of DSD100 has vocals.wav, dr"
        ):
            method()
    with pytest.raises(
        ValueError, match=r"DSD100/Sources holds neither Sources/Dev/TRACK/vocals.wav nor .*: give the fol"
    ):
        Dsd100(source / "Sources").tracks(map)
    with pytest.raises(ValueError, match=r"none: no such folder"):
        Dsd100(tmp_path / "none").tracks(map)
