"""`musdb18`: both published forms, the order of the streams, and the published validation split."""

import hashlib
import json
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from signals import pitch, tone

from data_pipelines.corpora.musdb18 import RATE, VALIDATION, Musdb18, read_stem_file
from data_pipelines.prepared import store
from data_pipelines.schema import FOUR_STEMS

# Frequency of each stream, in the order of the published files.
FREQUENCIES = {"mixture": 300, "drums": 500, "bass": 700, "other": 900, "vocals": 1100}


def write_stem_file(path: Path, tones: list[np.ndarray], rate: int = RATE) -> Path:
    """Write a file with an AAC stream for each of the tones `[T, 2]`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", format="mp4", options={"movflags": "faststart"}) as container:
        streams = [container.add_stream("aac", rate=rate, layout="stereo") for _ in tones]
        for stream, audio in zip(streams, tones, strict=True):
            for start in range(0, len(audio), 1024):
                frame = av.AudioFrame.from_ndarray(
                    np.ascontiguousarray(audio[start : start + 1024].T), format="fltp", layout="stereo"
                )
                frame.sample_rate, frame.pts = rate, start
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    return path


def stem_tones(seconds: float = 0.5) -> list[np.ndarray]:
    return [tone(frequency, seconds, RATE, channels=2) for frequency in FREQUENCIES.values()]


@pytest.fixture(scope="module")
def stem_file(tmp_path_factory) -> Path:
    return write_stem_file(tmp_path_factory.mktemp("musdb18") / "train" / "A - Song.stem.mp4", stem_tones())


def test_streams_of_a_stem_file_have_their_names(stem_file):
    stems = read_stem_file(stem_file)
    assert set(stems) == set(FOUR_STEMS)
    for name, (audio, rate) in stems.items():
        assert rate == RATE
        assert audio.dtype == np.float32
        assert audio.shape[1] == 2
        assert abs(len(audio) - RATE // 2) <= 2048  # AAC has frames of 1024 samples
        inner = audio[4096:-4096]
        assert pitch(inner, RATE) == pytest.approx(FREQUENCIES[name], abs=2)
        assert np.sqrt(np.mean(inner**2)) == pytest.approx(0.3 / np.sqrt(2), rel=0.05)


def test_a_stem_file_as_a_track(stem_file):
    corpus = Musdb18(stem_file.parents[1])
    (track,) = corpus.tracks(map)
    assert (track.name, track.split) == ("A - Song", "train")
    stems = corpus.load(track, 16_000)
    assert {stem.name for stem in stems} == set(FOUR_STEMS)
    assert len({stem.audio.shape for stem in stems}) == 1
    for stem in stems:
        assert stem.audio.dtype == np.int16
        assert pitch(stem.audio[1600:-1600], 16_000) == pytest.approx(FREQUENCIES[stem.name], abs=2)


@pytest.mark.parametrize("count", [1, 4, 6])
def test_a_file_with_other_streams(count, tmp_path):
    path = write_stem_file(tmp_path / "song.stem.mp4", (stem_tones(0.1) * 2)[:count])
    with pytest.raises(ValueError, match=rf"song.stem.mp4 has {count} audio streams; a stem file of MUSDB18 has 5"):
        read_stem_file(path)


@pytest.mark.parametrize("damage", [lambda file: file[: len(file) // 2], lambda file: b"text" * 100, lambda file: b""])
def test_a_damaged_file(damage, stem_file, tmp_path):
    path = tmp_path / "song.stem.mp4"
    path.write_bytes(damage(stem_file.read_bytes()))
    with pytest.raises(ValueError, match=r"song.stem.mp4 cannot be decoded \(.*\); is it damaged\?") as error_info:
        read_stem_file(path)
    assert "\n" not in str(error_info.value)


def write_hq(folder: Path, level: dict[str, float], samples: int = 4410) -> None:
    folder.mkdir(parents=True)
    for name, value in level.items():
        soundfile.write(folder / f"{name}.wav", np.full((samples, 2), value), RATE)


LEVELS = {"mixture": 0.5, "drums": 0.1, "bass": 0.2, "other": 0.3, "vocals": 0.4}


def test_the_folders_of_musdb18_hq(tmp_path):
    write_hq(tmp_path / "train" / "B - Two", LEVELS)
    write_hq(tmp_path / "test" / "C - Three", LEVELS)
    (tmp_path / "train" / "README").write_text("")
    corpus = Musdb18(tmp_path)
    tracks = corpus.tracks(map)
    assert [(track.name, track.split) for track in tracks] == [("B - Two", "train"), ("C - Three", "test")]
    for stem in corpus.load(tracks[0], RATE):
        assert stem.audio.shape == (4410, 2)
        np.testing.assert_allclose(stem.audio, LEVELS[stem.name] * 32768, atol=1)
    assert len(corpus.inputs()) == 10
    assert corpus.sample_rate() == RATE


def test_a_missing_stem_is_reported(tmp_path):
    write_hq(tmp_path / "train" / "song", LEVELS)
    (tmp_path / "train" / "song" / "bass.wav").unlink()
    corpus = Musdb18(tmp_path)
    with pytest.raises(ValueError, match=r"song/bass.wav: no such file"):
        corpus.load(corpus.tracks(map)[0], RATE)


@pytest.mark.parametrize("form", ["hq", "stem.mp4"])
def test_the_published_list_is_the_validation_split(form, tmp_path):
    """The package `musdb` lists 14 of the 100 training songs; a test song with such a name stays in the test split."""
    assert len(VALIDATION) == 14
    for part, name in [*(("train", name) for name in VALIDATION), ("train", "Another"), ("test", "Leaf - Summerghost")]:
        path = tmp_path / part / name
        if form == "hq":
            write_hq(path, {"vocals": 0.1}, 10)
        else:
            path.parent.mkdir(exist_ok=True)
            path.with_name(f"{name}.stem.mp4").touch()
    splits = {"train": set(), "validation": set(), "test": set()}
    for track in Musdb18(tmp_path).tracks(map):
        splits[track.split].add(track.name)
    assert splits == {"train": {"Another"}, "validation": set(VALIDATION), "test": {"Leaf - Summerghost"}}
    everything = [(track.name, track.split) for track in Musdb18(tmp_path, "none").tracks(map)]
    assert sorted(everything) == sorted(
        [*((name, "train") for name in {"Another", *VALIDATION}), ("Leaf - Summerghost", "test")]
    )
    assert store.fingerprint(Musdb18(tmp_path, "none"), RATE) != store.fingerprint(Musdb18(tmp_path), RATE)


def test_the_option_leaves_the_fingerprint_of_corpora_that_were_prepared_before(tmp_path):
    write_hq(tmp_path / "train" / "song", {"vocals": 0.1}, 10)
    corpus = Musdb18(tmp_path)
    content = [store.FORMAT, "musdb18", 1, RATE, 1.5, {"source": str(tmp_path)}, corpus.inputs()]
    before = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
    assert store.fingerprint(corpus, RATE) == before


def test_sources_that_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"none: no such folder"):
        Musdb18(tmp_path / "none").tracks(map)
    with pytest.raises(ValueError, match=r"holds neither train/\*.stem.mp4 nor train/TRACK/vocals.wav"):
        Musdb18(tmp_path).tracks(map)
