"""`solos`: the layout of the authors, ranges of frames, the published split, and errors in the source."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from pictures import jpeg, number_of, numbered

from data_pipelines import prepare
from data_pipelines.corpora.solos import Solos
from data_pipelines.prepared.corpus import Excerpt, open_corpus
from data_pipelines.video import frames

RATE = 11_025
VIDEOS = {"DoubleBass": ("a", "b", "c", "d", "e"), "Violin": ("f", "g"), "Tuba": ("h",)}
RANGES = {
    "DoubleBass": {"a": [[0, 50]], "b": [[10, 30], [40, 50]], "c": [], "d": [[5, 45]], "e": [[0, 50]]},
    "Violin": {"f": [[0, 25]], "g": [[25, 50]], "elsewhere": [[0, 10_000]]},
    "Tuba": {"h": [[0, 50]]},
}


def write_video(source: Path, group: str, name: str) -> None:
    """Write two seconds of which each sample encodes its time in steps of 10 ms, and each frame its number from 0."""
    (source / "wav11k" / group).mkdir(parents=True, exist_ok=True)
    audio = np.arange(2 * RATE) * 100 // RATE / 1000
    soundfile.write(source / "wav11k" / group / f"{name}.wav", audio, RATE)
    (folder := source / "frames" / group / name).mkdir(parents=True)
    for number in range(50):
        (folder / f"{number + 1:04d}.jpg").write_bytes(jpeg(number))


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    source = tmp_path_factory.mktemp("solos")
    for group, names in VIDEOS.items():
        for name in names:
            write_video(source, group, name)
    (source / "ranges.json").write_text(json.dumps(RANGES))
    return source


@pytest.fixture
def source(written, tmp_path) -> Path:
    return shutil.copytree(written, tmp_path / "solos")


def tracks_of(corpus: Solos) -> dict[str, str]:
    return {track.name: track.split for track in corpus.tracks(map)}


def load(corpus: Solos, name: str):
    (track,) = (track for track in corpus.tracks(map) if track.name == name)
    (stem,) = corpus.load(track, RATE)
    return stem


def test_the_first_four_fifths_of_each_class_are_for_training(written):
    assert tracks_of(Solos(written)) == {
        **dict.fromkeys("abcdf", "train"),
        "h": "train",
        **dict.fromkeys("eg", "validation"),
    }
    assert [track.split for track in Solos(written).tracks(map)] == ["train"] * 6 + ["validation"] * 2
    assert Solos(written).sample_rate() == RATE


def test_every_range_is_a_track_and_an_empty_list_none(written):
    corpus = Solos(written, written / "ranges.json")
    # The split depends on the files and not on their ranges.
    assert tracks_of(corpus) == {
        **dict.fromkeys(("a", "b", "b_2", "d", "f", "h"), "train"),
        **dict.fromkeys("eg", "validation"),
    }


@pytest.mark.parametrize(
    ("name", "start", "end"), [("a", 0, 50), ("b", 10, 30), ("b_2", 40, 50), ("d", 5, 45), ("g", 25, 50)]
)
def test_audio_and_frames_of_a_range_begin_at_the_same_time(name, start, end, written):
    stem = load(Solos(written, written / "ranges.json"), name)
    assert stem.name == ("violin" if name == "g" else "double_bass")
    assert len(stem.audio) == round((end - start) / 25 * RATE)
    assert round(float(stem.audio[0, 0]) / 32768 * 1000) == start * 4
    assert stem.frame_rate == 5.0
    assert [number_of(frames.decode(frame, 64, "")) for frame in stem.frames] == list(range(start, end, 5))


def test_frames_are_stored_unchanged_unless_a_size_is_given(written):
    stem = load(Solos(written), "a")
    first = written / "frames" / "DoubleBass" / "a" / "0001.jpg"
    assert stem.frames[0] == first.read_bytes()
    assert len(stem.frames) == 10
    small = load(Solos(written, frame_size=32, frame_rate=25.0), "a")
    assert len(small.frames) == 50
    assert small.frames[0] != stem.frames[0]
    assert number_of(frames.decode(small.frames[7], 32, "")) == 7


def test_a_frame_rate_of_zero_needs_no_frames(source):
    shutil.rmtree(source / "frames")
    stem = load(Solos(source, frame_rate=0.0), "a")
    assert (stem.frames, stem.frame_rate) == ((), 0.0)


def test_the_prepared_corpus(written, tmp_path):
    prepare.build(Solos(written, written / "ranges.json"), tmp_path, sample_rate=8000, workers=1)
    train = open_corpus(tmp_path, "solos", 8000, "train")
    assert train.stems == ("double_bass", "tuba", "violin")
    assert train.tracks("double_bass") == ("a", "b", "b_2", "d")
    assert open_corpus(tmp_path, "solos", 8000, "validation").tracks("violin") == ("g",)
    assert train.length("b_2", "double_bass") == round(10 / 25 * 8000)
    images = train.frames("b_2", "double_bass", np.array([0.0, 0.19, 0.3, 9.0]), 32)
    assert [number_of(image) for image in images] == [40, 45, 45, 45]
    read = train.read(Excerpt("b", "double_bass", 2000, 4000))
    # The range begins with frame 10, at 0.4 s of the file, which the audio encodes.
    np.testing.assert_allclose(read[100:-100, 0] * 10, 0.4 + np.arange(2100, 5900) / 8000, atol=0.02)


def test_a_frame_that_is_overwritten_in_place_is_read_with_overwrite(source, tmp_path, in_process):
    """The modification time of the folder, and with it the fingerprint, does not change."""

    def first_frame(**options) -> int:
        prepare.build(Solos(source), tmp_path, sample_rate=8000, **options)
        corpus = open_corpus(tmp_path, "solos", 8000, "train")
        return number_of(corpus.frames("h", "tuba", np.array([0.0]), 32)[0])

    assert first_frame() == 0
    before = Solos(source).inputs()
    (source / "frames" / "Tuba" / "h" / "0001.jpg").write_bytes(jpeg(99))
    assert Solos(source).inputs() == before
    assert first_frame() == 0
    assert first_frame(overwrite=True) == 99
    assert first_frame() == 99


def test_changed_files_and_folders_are_changed_inputs(source):
    corpus = Solos(source, source / "ranges.json")
    before = corpus.inputs()
    assert len(before) == 8 + 1 + 8
    (source / "frames" / "Violin" / "f" / "0051.jpg").write_bytes(jpeg(50))
    assert corpus.inputs() != before
    (source / "ranges.json").write_text(json.dumps(RANGES) + " ")
    assert corpus.inputs()[8] != before[8]


def test_any_sample_rate(source):
    path = source / "wav11k" / "DoubleBass" / "b.wav"
    soundfile.write(path, np.stack([np.arange(96_000) * 100 // 48_000 / 1000] * 2, axis=1), 48_000)
    stem = load(Solos(source, source / "ranges.json"), "b")
    assert stem.audio.shape == (round(20 / 25 * RATE), 1)
    assert float(stem.audio[200:-200].min()) / 32768 == pytest.approx(0.042, abs=0.002)


def remove(path: str):
    return lambda source: (source / path).unlink()


def write(path: str, content: bytes):
    return lambda source: (source / path).write_bytes(content)


def ranges(**changed):
    return lambda source: (source / "ranges.json").write_text(
        json.dumps({**RANGES, "Violin": {**RANGES["Violin"], **changed}})
    )


F = "frames/Violin/f"
DAMAGES = {
    "no such layout": (lambda source: shutil.rmtree(source / "wav11k"), "holds no wav11k/CLASS/VIDEO.wav: give"),
    "an unknown class": (
        lambda source: (source / "wav11k" / "Violin").rename(source / "wav11k" / "Kazoo"),
        r"wav11k/Kazoo: 'Kazoo' is not a class of Solos; rename it to one of Bassoon, .*, DoubleBass",
    ),
    "no folder of frames": (
        lambda source: shutil.rmtree(source / F),
        r"solos lacks the frames, .*0001.jpg and so on, of these .* \(1\): Violin/f; .* --frame-rate 0 if no system",
    ),
    "an empty folder of frames": (
        lambda source: [path.unlink() for path in (source / F).iterdir()],
        r"lacks the frames, .* \(1\): Violin/f;",
    ),
    "a missing frame": (
        remove(f"{F}/0011.jpg"),
        rf"{F}/0011.jpg is missing, although there are later frames: fetch",
    ),
    "an unreadable frame": (
        write(f"{F}/0006.jpg", b"text"),
        rf"{F}/0006.jpg cannot be read as a JPEG \(it is not a JPEG\)",
    ),
    "a frame that is cut short": (
        write(f"{F}/0006.jpg", frames.encode(numbered(3))[:-300]),
        rf"{F}/0006.jpg cannot be read as a JPEG \((?i:.*truncated)",
    ),
    "a range beyond the video": (
        ranges(f=[[0, 80]]),
        r"the range \[0, 80\] of f in .*ranges.json goes beyond .*f.wav, which is 2.00 s or 50 frames long",
    ),
    "a range after the end": (ranges(f=[[60, 70]]), r"the range \[60, 70\] of f .* holds no audio"),
    "a range after the last frame": (
        lambda source: [path.unlink() for path in (source / F).iterdir() if int(path.stem) > 10],
        r"frames/Violin/f holds 10 frames, none from 0021.jpg on",
    ),
    "a video without ranges": (
        ranges(f=None),
        r"a range of f must be \[start, end\] in frames counted from 0, not null",
    ),
    "an empty range": (ranges(f=[[9, 9]]), r"a range of f must be \[start, end\] .*, not \[9, 9\]"),
    "a fraction of a frame": (ranges(f=[[0, 9.5]]), r"not \[0, 9.5\]"),
    "a list without the video": (
        lambda source: (source / "ranges.json").write_text(json.dumps({**RANGES, "Violin": {}})),
        r"ranges.json lacks the ranges of these videos \(2\): Violin/f, Violin/g; add them \(an empty list leaves",
    ),
    "another form of list": (write("ranges.json", b"[1]"), "ranges.json does not hold ranges as"),
    "invalid JSON": (
        write("ranges.json", b"{"),
        r"ranges.json cannot be read as JSON \(.*\): give the published JSON file of ranges",
    ),
    "no list": (remove("ranges.json"), "ranges.json: no such file: give the published JSON file of ranges"),
}


def load_all(corpus):
    corpus.inputs()
    for track in corpus.tracks(map):
        corpus.load(track, RATE)


def test_all_videos_without_frames_or_ranges_are_named_at_once(source):
    for path in ("DoubleBass/b", "Violin/f", "Tuba/h"):
        shutil.rmtree(source / "frames" / path)
    (source / "ranges.json").write_text(json.dumps({**RANGES, "Violin": {}, "Tuba": {}}))
    frames_missing = r"lacks the frames, .* \(3\): DoubleBass/b, Tuba/h, Violin/f; .*"
    ranges_missing = r"lacks the ranges of these videos \(3\): Tuba/h, Violin/f, Violin/g; add"
    with pytest.raises(ValueError, match=frames_missing + ranges_missing):
        Solos(source, source / "ranges.json").inputs()


@pytest.mark.parametrize("damage", DAMAGES)
def test_errors_in_the_source_are_reported(damage, source):
    act, message = DAMAGES[damage]
    if damage == "a range after the last frame":
        ranges(f=[[20, 40]])(source)
    act(source)
    corpus = Solos(source, source / "ranges.json")
    with pytest.raises(ValueError, match=message):
        load_all(corpus)


def test_a_range_may_exceed_the_audio_by_a_few_frames(source):
    ranges(f=[[0, 55]])(source)
    assert len(load(Solos(source, source / "ranges.json"), "f").audio) == 2 * RATE


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"frame_rate": 26.0}, "--frame-rate 26 must be from 0 to 25"),
        ({"frame_size": -1}, "--frame-size -1 must not be negative"),
    ],
)
def test_options_that_are_refused(fields, message, written):
    with pytest.raises(ValueError, match=message):
        Solos(written, **fields).inputs()


def test_no_such_folder(tmp_path):
    with pytest.raises(ValueError, match="nowhere: no such folder"):
        Solos(tmp_path / "nowhere").inputs()
