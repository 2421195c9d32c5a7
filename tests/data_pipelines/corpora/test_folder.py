"""`folder`: stems of any sample rate, length and channel count become uniform."""

import numpy as np
import pytest
import soundfile
from signals import pitch, tone, write_tracks

from data_pipelines import prepare
from data_pipelines.corpora.base import Track
from data_pipelines.corpora.folder import Folder
from data_pipelines.prepared.corpus import Excerpt, open_corpus


def load(corpus: Folder, sample_rate: int) -> dict[str, dict[str, np.ndarray]]:
    return {
        track.name: {stem.name: stem.audio for stem in corpus.load(track, sample_rate)} for track in corpus.tracks(map)
    }


def test_splits_tracks_and_stems(tmp_path):
    write_tracks(tmp_path, {"train/a": ["x", "y"], "validation/b": ["x"], "test/c": ["y"], "other/d": ["x"]})
    (tmp_path / "train" / "a" / "notes.txt").write_text("not a stem")
    (tmp_path / "train" / "stray.wav").write_bytes(b"not in a track")
    corpus = Folder(tmp_path)
    assert [(track.name, track.split) for track in corpus.tracks(map)] == [
        ("a", "train"),
        ("b", "validation"),
        ("c", "test"),
    ]
    assert {name: list(stems) for name, stems in load(corpus, 8000).items()} == {
        "a": ["x", "y"],
        "b": ["x"],
        "c": ["y"],
    }


def test_rates_lengths_channels_and_formats_may_be_mixed(tmp_path):
    track = tmp_path / "train" / "song"
    track.mkdir(parents=True)
    soundfile.write(track / "low.wav", tone(220, 1.0, 8000), 8000)
    soundfile.write(track / "middle.flac", tone(440, 0.5, 44_100, channels=2), 44_100)
    soundfile.write(track / "high.wav", tone(880, 1.25, 96_000), 96_000, subtype="FLOAT")
    stems = load(Folder(tmp_path), 16_000)["song"]
    assert {name: audio.shape for name, audio in stems.items()} == dict.fromkeys(("high", "low", "middle"), (20_000, 2))
    for name, frequency, samples in [("low", 220, 16_000), ("middle", 440, 8000), ("high", 880, 20_000)]:
        assert stems[name].dtype == np.int16
        assert pitch(stems[name][:samples], 16_000) == pytest.approx(frequency, abs=1)
        assert not stems[name][samples:].any()
        np.testing.assert_array_equal(stems[name][:, 0], stems[name][:, 1])


@pytest.mark.parametrize("first", ["mono", "stereo"])
def test_mono_and_stereo_tracks_in_one_corpus(first, tmp_path):
    second = {"mono": "stereo", "stereo": "mono"}[first]
    rng = np.random.default_rng(0)
    audio = {"mono": rng.uniform(-1, 1, (9000, 1)), "stereo": rng.uniform(-1, 1, (9000, 2))}
    for name, kind in {"a": first, "b": second}.items():
        (tmp_path / "in" / "train" / name).mkdir(parents=True)
        soundfile.write(tmp_path / "in" / "train" / name / "x.wav", audio[kind], 8000)
    prepare.build(Folder(tmp_path / "in"), tmp_path / "out", workers=1)
    corpus = open_corpus(tmp_path / "out", "folder", 8000, "train")
    assert corpus.channels == 2
    for name, kind in {"a": first, "b": second}.items():
        expected = np.broadcast_to(audio[kind], (9000, 2))
        np.testing.assert_allclose(corpus.read(Excerpt(name, "x", 0, 9000)), expected, atol=1e-4)


def test_the_default_sample_rate_is_that_of_most_tracks(tmp_path):
    for number, rate in enumerate([16_000, 22_050, 22_050]):
        write_tracks(tmp_path, {f"train/{number}": ["x"]}, rate)
    assert Folder(tmp_path).sample_rate() == 22_050


def test_the_default_sample_rate_is_at_most_44100(tmp_path):
    assert Folder(write_tracks(tmp_path, {"train/a": ["x"]}, 96_000)).sample_rate() == 44_100


def test_inputs_change_with_the_files(tmp_path):
    corpus = Folder(write_tracks(tmp_path, {"train/a": ["x", "y"]}))
    before = corpus.inputs()
    assert [line.split()[0] for line in before] == ["train/a/x.wav", "train/a/y.wav"]
    assert corpus.inputs() == before
    soundfile.write(tmp_path / "train" / "a" / "x.wav", np.zeros((8001, 1)), 8000)
    assert corpus.inputs() != before


def test_sources_that_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"none: no such folder"):
        Folder(tmp_path / "none").tracks(map)
    with pytest.raises(ValueError, match=r"holds no train/TRACK/STEM.wav; splits are named train, validation, test"):
        Folder(tmp_path).tracks(map)
    (tmp_path / "train" / "empty").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"train/empty holds no audio file \(.wav"):
        Folder(tmp_path).tracks(map)


def test_two_files_of_one_stem(tmp_path):
    write_tracks(tmp_path, {"train/a": ["x"]})
    soundfile.write(tmp_path / "train" / "a" / "x.flac", np.zeros((8000, 1)), 8000)
    with pytest.raises(ValueError, match=r"train/a holds two files for one stem: x.flac, x.wav"):
        Folder(tmp_path).tracks(map)


def test_incompatible_channel_counts(tmp_path):
    paths = (tmp_path / "a.wav", tmp_path / "b.wav")
    for path, channels in zip(paths, (2, 6), strict=True):
        soundfile.write(path, np.zeros((100, channels)), 8000)
    with pytest.raises(ValueError, match="cannot turn 2 channels into 6"):
        Folder(tmp_path).load(Track("t", "train", paths), 8000)


def test_the_mixture_and_hidden_files_are_no_stems(tmp_path):
    write_tracks(
        tmp_path, {"train/a": ["x", "y", "mixture"], "train/.ipynb_checkpoints": ["x"], "train/__MACOSX": ["x"]}
    )
    (tmp_path / "train" / "a" / "._x.wav").write_bytes(b"metadata of macOS")
    with pytest.warns(UserWarning, match="train/a/mixture.wav holds a mixture"):
        assert load(Folder(tmp_path), 8000)["a"].keys() == {"x", "y"}


def test_names_that_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"train/a: the name of a stem is 'gtr@amp'"):
        Folder(write_tracks(tmp_path / "stem", {"train/a": ["gtr@amp"]})).tracks(map)
    with pytest.raises(ValueError, match=r"the name of a track is 'live@home'"):
        prepare.build(Folder(write_tracks(tmp_path / "track", {"train/live@home": ["x"]})), tmp_path / "out", workers=1)
    write_tracks(tmp_path / "two", {"train/\u00e9": ["x"], "train/e\u0301": ["x"]})
    with pytest.raises(ValueError, match="holds two folders for one track: 'é'"):
        Folder(tmp_path / "two").tracks(map)
