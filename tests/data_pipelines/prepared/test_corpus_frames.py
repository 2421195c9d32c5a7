"""What a corpus shows of its players: stored, drawn, or as cached features; and corpora that show nothing."""

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
    """The first picture of each stem of each track has a number of its own."""
    first, count = 50 * list(COUNTS).index((track, name)), COUNTS[track, name]
    audio = np.random.default_rng(first).integers(-9, 9, (samples, 1)).astype(np.int16)
    seen = tuple(jpeg(first + number) for number in range(count))
    return Stem(name, audio, notes=NOTES, frames=seen, frame_rate=FRAME_RATE if count else 0.0)


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """Tracks of 4 s whose players are filmed for 4, less than 2, none and more than 7 s, and a variant."""
    root = tmp_path_factory.mktemp("seen")

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
def test_stored_frames_are_those_nearest_in_time(track, stem, seen):
    times = np.array([0.0, 0.1, 0.2, 1.4, 1.5, 1.6, 2.95, 3.74, 3.9, 4.0, 100.0])
    found = seen.frames(track, stem, times, 32)
    assert (found.shape, found.dtype) == ((len(times), 32, 32, 3), np.uint8)
    # Pictures behind the last segment, which ends at 4.5 s, are not stored.
    last = min(COUNTS[track, stem], 18) - 1
    first = 50 * list(COUNTS).index((track, stem))
    expected = [first + min(round(time * FRAME_RATE), last) for time in times]
    assert [number_of(image) for image in found] == expected


def test_variants_are_seen_as_what_they_were_made_from(seen):
    found = seen.frames("t0", seen.variant("cello", 1), [0.5], 16)
    np.testing.assert_array_equal(found, seen.frames("t0", "cello", [0.5], 16))


def test_a_track_without_frames_is_named(seen):
    with pytest.raises(ValueError, match=r"'cello' in 't1' of .*toy/1000 has no video frame: prepare a corpus with"):
        seen.frames("t1", "cello", [0.0], 16)


def test_sound_and_notes_come_back_beside_frames(seen):
    for track, stem in COUNTS:
        original = stem_of(track, stem)
        read = seen.read(Excerpt(track, stem, 0, 4000))
        np.testing.assert_array_equal(read * 32768, original.audio)
        np.testing.assert_array_equal(seen.notes(track, stem), NOTES)


def test_a_corpus_travels_to_workers_with_its_frames(seen):
    again = pickle.loads(pickle.dumps(seen))
    np.testing.assert_array_equal(again.frames("t0", "cello", [1.0], 8), seen.frames("t0", "cello", [1.0], 8))


def stored(folder) -> list[dict[str, bytes]]:
    (path,) = store.shards(folder, "toy", "train")
    reader = ArrayRecordReader(path)
    found = [records.fields(reader.read([place])[0]) for place in range(reader.num_records())]
    reader.close()
    return found


@dataclasses.dataclass(frozen=True)
class Toy(CorpusBuilder):
    """Tracks t0 and t1, with or without what is seen."""

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
        nothing = {"frames": (), "frame_rate": 0.0}
        return stems if self.with_frames else [dataclasses.replace(stem, **nothing) for stem in stems]


def test_corpora_without_frames_are_stored_as_before(tmp_path, in_process):
    """Fields and description know nothing of frames; the sound is the same with and without."""
    plain, filmed = (prepare.build(Toy(with_frames), tmp_path / str(with_frames)) for with_frames in (False, True))
    before, after = stored(plain), stored(filmed)
    assert all(set(fields) == set(RECORD_FIELDS) for fields in before)
    assert all(set(fields) == {*RECORD_FIELDS, *FRAME_FIELDS} for fields in after)
    assert [{key: fields[key] for key in RECORD_FIELDS} for fields in after] == before
    assert "frame" not in (plain / "features.json").read_text()
    assert "frame" in (filmed / "features.json").read_text()


def test_a_killed_build_goes_on_with_its_frames(tmp_path, in_process, monkeypatch):
    load, loaded = Toy.load, []

    def watch(self, track, rate):
        if track.name == "t1" and "t1" not in loaded:
            loaded.append("t1")
            raise KeyboardInterrupt
        loaded.append(track.name)
        return load(self, track, rate)

    monkeypatch.setattr(Toy, "load", watch)
    with pytest.raises(KeyboardInterrupt):
        prepare.build(Toy(), tmp_path / "data")
    folder = prepare.build(Toy(), tmp_path / "data")
    assert loaded == ["t0", "t1", "t1"]
    monkeypatch.undo()
    assert stored(folder) == stored(prepare.build(Toy(), tmp_path / "fresh", workers=1))
    corpus = open_corpus(tmp_path / "data", "toy", 8000, "train")
    assert [number_of(image) for image in corpus.frames("t1", "flute", [0.0, 3.0], 16)] == [150, 162]
    with pytest.raises(ValueError, match="'cello' in 't1'"):
        corpus.frames("t1", "cello", [0.0], 16)


@pytest.fixture(scope="module")
def noted(tmp_path_factory):
    """A corpus of the kind whose players are drawn."""
    root = tmp_path_factory.mktemp("noted")
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


def test_players_of_notes_are_drawn(noted):
    times = np.array([0.0, 1.0, 3.5])
    found = noted.frames("t0", "flute", times, 24)
    expected = [players.draw("flute", NOTES, time, 24, "t0/flute") for time in times]
    np.testing.assert_array_equal(found, np.stack(expected))
    np.testing.assert_array_equal(found, noted.frames("t0", "flute", times, 24))
    assert (found[0] != found[1]).any()
    assert (found != noted.frames("t1", "flute", times, 24)).any(axis=(1, 2, 3)).all()


def test_variants_are_drawn_as_the_same_player_with_their_own_notes(noted):
    shifted = noted.variant("cello", 4)
    found = noted.frames("t0", shifted, [1.0], 24)
    expected = players.draw("cello", NOTES + np.array([0, 0, 4], np.float32), 1.0, 24, "t0/cello")
    np.testing.assert_array_equal(found[0], expected)
    assert (found != noted.frames("t0", "cello", [1.0], 24)).any()


def test_corpora_of_neither_frames_nor_notes_say_so(toy):
    with pytest.raises(ValueError, match=r"'bass' in 't1' of .*toy/8000 has no video frame"):
        toy.open().frames("t1", "bass", [0.0], 16)


def test_features_are_found_by_stem_and_time(noted):
    with pytest.raises(ValueError, match=r"has no features 'net' of 'flute' in 't0'. Compute them with:\n") as missing:
        noted.features("t0", "flute", [0.0], "net")
    root = noted.folder.parents[1]
    command = f"python -m qsep_jax.frame_features --model RUN --root {root} --corpus chamber --name net"
    command += f" --sample-rate {noted.sample_rate}"
    assert str(missing.value).endswith(f"\n  {command}")
    rows = np.arange(24, dtype=np.float32).reshape(8, 3)
    features.write(noted.folder, "net", 2.0, 3, [("train", "t0", "cello", rows)], "mark")
    np.testing.assert_array_equal(noted.features("t0", "cello", [0.0, 1.1, 99.0], "net"), rows[[0, 2, 7]])
    np.testing.assert_array_equal(noted.features("t0", noted.variant("cello", 4), [1.0], "net"), rows[[2]])
    with pytest.raises(ValueError, match="no features 'net' of 'flute' in 't0'"):
        noted.features("t0", "flute", [0.0], "net")
    again = pickle.loads(pickle.dumps(noted))
    np.testing.assert_array_equal(again.features("t0", "cello", [1.1], "net"), rows[[2]])
