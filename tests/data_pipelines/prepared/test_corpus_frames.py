"""Frames of players that are stored or drawn, cached features, and corpora without any of them."""

import dataclasses
import pickle

import numpy as np
import pytest
from array_record.python.array_record_module import ArrayRecordReader
from pictures import jpeg, number_of

from data_pipelines import prepare
from data_pipelines.corpora.base import CorpusBuilder, Stem, Track
from data_pipelines.prepared import records, store
from data_pipelines.prepared.corpus import Excerpt, open_corpus
from data_pipelines.schema import FRAME_FIELDS, RECORD_FIELDS, variant_name
from data_pipelines.video import features, players

RATE, FRAME_RATE = 1000, 4.0
NOTES = np.array([[0.5, 2.0, 60.0], [3.0, 4.5, 65.0]], np.float32)
COUNTS = {("t0", "cello"): 16, ("t0", "flute"): 7, ("t1", "cello"): 0, ("t1", "flute"): 30}


def stem_of(track: str, name: str, samples: int = 4000) -> Stem:
    """A stem with numbered frames; the number of the first one identifies the track and the stem."""
    first, count = 50 * list(COUNTS).index((track, name)), COUNTS[track, name]
    audio = np.random.default_rng(first).integers(-9, 9, (samples, 1)).astype(np.int16)
    jpegs = tuple(jpeg(first + number) for number in range(count))
    return Stem(name, audio, notes=NOTES, frames=jpegs, frame_rate=FRAME_RATE if count else 0.0)


@pytest.fixture(scope="module")
def filmed(tmp_path_factory):
    """A corpus with tracks of 4 s, with 4 s, less than 2 s, none and more than 7 s of video, and with a variant."""
    root = tmp_path_factory.mktemp("filmed")

    def tracks():
        for track in ("t0", "t1"):
            stems = [stem_of(track, name) for name in ("cello", "flute")]
            variant = dataclasses.replace(
                stems[0], name=variant_name("cello", 1), parent="cello", frames=(), frame_rate=0.0
            )
            yield store.segments(track, [*stems, variant], RATE, with_frames=True)

    folder = store.corpus_folder(root, "toy", RATE)
    by_split = {"train": tracks()}
    store.write(folder, "toy", RATE, 1, by_split, fingerprint="0", options={"kind": "toy"}, with_frames=True)
    return open_corpus(root, "toy", RATE, "train")


@pytest.mark.parametrize(("track", "stem"), [("t0", "cello"), ("t0", "flute"), ("t1", "flute")])
def test_stored_frames_are_those_nearest_in_time(track, stem, filmed):
    times = np.array([0.0, 0.1, 0.2, 1.4, 1.5, 1.6, 2.95, 3.74, 3.9, 4.0, 100.0])
    images = filmed.frames(track, stem, times, 32)
    assert (images.shape, images.dtype) == ((len(times), 32, 32, 3), np.uint8)
    # Frames after the last segment, which ends at 4.5 s, are not stored.
    last = min(COUNTS[track, stem], 18) - 1
    first = 50 * list(COUNTS).index((track, stem))
    expected = [first + min(round(time * FRAME_RATE), last) for time in times]
    assert [number_of(image) for image in images] == expected


def test_variants_have_the_frames_of_their_stem(filmed):
    images = filmed.frames("t0", filmed.variant("cello", 1), [0.5], 16)
    np.testing.assert_array_equal(images, filmed.frames("t0", "cello", [0.5], 16))


def test_the_error_names_a_track_without_frames(filmed):
    with pytest.raises(ValueError, match=r"'cello' in 't1' of .*toy/1000 has no video frame: prepare a corpus with"):
        filmed.frames("t1", "cello", [0.0], 16)


def test_audio_and_notes_are_stored_with_the_frames(filmed):
    for track, stem in COUNTS:
        original = stem_of(track, stem)
        read = filmed.read(Excerpt(track, stem, 0, 4000))
        np.testing.assert_array_equal(read * 32768, original.audio)
        np.testing.assert_array_equal(filmed.notes(track, stem), NOTES)


def test_a_pickled_corpus_reads_its_frames(filmed):
    restored = pickle.loads(pickle.dumps(filmed))
    np.testing.assert_array_equal(restored.frames("t0", "cello", [1.0], 8), filmed.frames("t0", "cello", [1.0], 8))


def stored_fields(folder) -> list[dict[str, bytes]]:
    """The fields of every record."""
    (path,) = store.shards(folder, "toy", "train")
    reader = ArrayRecordReader(path)
    fields = [records.fields(reader.read([number])[0]) for number in range(reader.num_records())]
    reader.close()
    return fields


@dataclasses.dataclass(frozen=True)
class Toy(CorpusBuilder):
    """The tracks t0 and t1, with or without frames."""

    kind = "toy"
    version = 1
    with_frames: bool = True

    def inputs(self):
        return []

    def sample_rate(self):
        return 8000

    def tracks(self, ordered_map):
        return [Track(name, "train", name) for name in ("t0", "t1")]

    def load(self, track, sample_rate):
        stems = [stem_of(track.source, name, 25_000) for name in ("cello", "flute")]
        without = {"frames": (), "frame_rate": 0.0}
        return stems if self.with_frames else [dataclasses.replace(stem, **without) for stem in stems]


def test_corpora_without_frames_have_no_fields_for_them(tmp_path, in_process):
    """The other fields are the same with and without frames."""
    plain, with_video = (prepare.build(Toy(with_frames), tmp_path / str(with_frames)) for with_frames in (False, True))
    before, after = stored_fields(plain), stored_fields(with_video)
    assert all(set(fields) == set(RECORD_FIELDS) for fields in before)
    assert all(set(fields) == {*RECORD_FIELDS, *FRAME_FIELDS} for fields in after)
    assert [{key: fields[key] for key in RECORD_FIELDS} for fields in after] == before
    assert "frame" not in (plain / "features.json").read_text()
    assert "frame" in (with_video / "features.json").read_text()


def test_a_killed_build_is_continued_with_its_frames(tmp_path, in_process, monkeypatch):
    load, loaded = Toy.load, []

    def interrupted_load(self, track, rate):
        if track.name == "t1" and "t1" not in loaded:
            loaded.append("t1")
            raise KeyboardInterrupt
        loaded.append(track.name)
        return load(self, track, rate)

    monkeypatch.setattr(Toy, "load", interrupted_load)
    with pytest.raises(KeyboardInterrupt):
        prepare.build(Toy(), tmp_path / "data")
    folder = prepare.build(Toy(), tmp_path / "data")
    assert loaded == ["t0", "t1", "t1"]
    monkeypatch.undo()
    assert stored_fields(folder) == stored_fields(prepare.build(Toy(), tmp_path / "fresh", workers=1))
    corpus = open_corpus(tmp_path / "data", "toy", 8000, "train")
    assert [number_of(image) for image in corpus.frames("t1", "flute", [0.0, 3.0], 16)] == [150, 162]
    with pytest.raises(ValueError, match="'cello' in 't1'"):
        corpus.frames("t1", "cello", [0.0], 16)


@pytest.fixture(scope="module")
def chamber(tmp_path_factory):
    """A corpus of the kind `chamber`, whose players are drawn."""
    root = tmp_path_factory.mktemp("chamber")
    plain = {"frames": (), "frame_rate": 0.0}

    def tracks():
        for track in ("t0", "t1"):
            stems = [dataclasses.replace(stem_of(track, name), **plain) for name in ("cello", "flute")]
            higher = NOTES + np.array([0, 0, 4], np.float32)
            shifted = dataclasses.replace(stems[0], name=variant_name("cello", 4), parent="cello", notes=higher)
            yield store.segments(track, [*stems, shifted], RATE)

    folder = store.corpus_folder(root, "chamber", RATE)
    store.write(folder, "chamber", RATE, 1, {"train": tracks()}, fingerprint="0", options={"kind": "chamber"})
    return open_corpus(root, "chamber", RATE, "train")


def test_players_are_drawn_from_their_notes(chamber):
    times = np.array([0.0, 1.0, 3.5])
    images = chamber.frames("t0", "flute", times, 24)
    expected = [players.draw("flute", NOTES, time, 24, "t0/flute") for time in times]
    np.testing.assert_array_equal(images, np.stack(expected))
    np.testing.assert_array_equal(images, chamber.frames("t0", "flute", times, 24))
    assert (images[0] != images[1]).any()
    assert (images != chamber.frames("t1", "flute", times, 24)).any(axis=(1, 2, 3)).all()


def test_variants_are_drawn_with_the_same_player_and_their_own_notes(chamber):
    shifted = chamber.variant("cello", 4)
    images = chamber.frames("t0", shifted, [1.0], 24)
    expected = players.draw("cello", NOTES + np.array([0, 0, 4], np.float32), 1.0, 24, "t0/cello")
    np.testing.assert_array_equal(images[0], expected)
    assert (images != chamber.frames("t0", "cello", [1.0], 24)).any()


def test_a_corpus_with_neither_frames_nor_drawn_players(toy):
    with pytest.raises(ValueError, match=r"'bass' in 't1' of .*toy/8000 has no video frame"):
        toy.open().frames("t1", "bass", [0.0], 16)


def test_features_are_looked_up_by_stem_and_time(chamber):
    with pytest.raises(
        ValueError, match=r"has no features 'net' of 'flute' in 't0'. Compute them with:\n"
    ) as error_info:
        chamber.features("t0", "flute", [0.0], "net")
    root = chamber.folder.parents[1]
    command = f"qsep frame-features --model RUN --root {root} --corpus chamber --name net"
    command += f" --sample-rate {chamber.sample_rate}"
    assert str(error_info.value).endswith(f"\n  {command}")
    rows = np.arange(24, dtype=np.float32).reshape(8, 3)
    features.write(chamber.folder, "net", 2.0, 3, [("train", "t0", "cello", rows)], "mark")
    np.testing.assert_array_equal(chamber.features("t0", "cello", [0.0, 1.1, 99.0], "net"), rows[[0, 2, 7]])
    np.testing.assert_array_equal(chamber.features("t0", chamber.variant("cello", 4), [1.0], "net"), rows[[2]])
    with pytest.raises(ValueError, match="no features 'net' of 'flute' in 't0'"):
        chamber.features("t0", "flute", [0.0], "net")
    restored = pickle.loads(pickle.dumps(chamber))
    np.testing.assert_array_equal(restored.features("t0", "cello", [1.1], "net"), rows[[2]])
