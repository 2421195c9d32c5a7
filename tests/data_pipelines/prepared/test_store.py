"""The stored format: records are read as they were written, also by TFDS, and only complete folders appear."""

import hashlib
import json

import numpy as np
import pytest
import tensorflow_datasets as tfds

from data_pipelines.corpora.base import Stem
from data_pipelines.corpora.chamber import Chamber
from data_pipelines.prepared import store
from data_pipelines.prepared.corpus import Excerpt, open_corpus

# Samples of a record at 8 kHz.
SEGMENT = 12_000


def test_metadata_round_trip(toy):
    metadata = store.Metadata.load(toy.folder)
    assert json.loads(json.dumps(metadata.dump())) == json.loads((toy.folder / "metadata.json").read_text())
    assert (metadata.name, metadata.fingerprint, metadata.options) == ("toy", "0123", {"kind": "toy"})
    assert (metadata.sample_rate, metadata.channels, metadata.segment_samples) == (8000, 2, SEGMENT)


def test_the_index_lists_every_stem_in_order(toy):
    metadata = store.Metadata.load(toy.folder)
    assert list(metadata.index) == ["train", "test"]
    for split, rows in metadata.index.items():
        originals = {(track, stem): audio for (part, track, stem), audio in toy.audio.items() if part == split}
        assert [(row.track, row.stem) for row in rows] == list(originals)
        first = 0
        for row in rows:
            assert row.first == first
            assert row.samples == len(originals[row.track, row.stem])
            assert row.parent == ("drums" if row.stem in ("kick", "hat") else "")
            first += -(-row.samples // SEGMENT)


def test_tfds_reads_the_folder(toy):
    builder = tfds.builder_from_directory(str(toy.folder))
    assert builder.info.name == "toy"
    rows = store.Metadata.load(toy.folder).index["test"]
    source = builder.as_data_source("test")
    for row in rows:
        records = [source[number] for number in range(row.first, row.first + -(-row.samples // SEGMENT))]
        assert [record["segment"] for record in records] == list(range(len(records)))
        assert {record["track"].decode() for record in records} == {row.track}
        assert {record["stem"].decode() for record in records} == {row.stem}
        np.testing.assert_array_equal(
            np.concatenate([record["audio"] for record in records]), toy.audio["test", row.track, row.stem]
        )


def test_segments_have_the_notes_that_sound_in_them():
    notes = np.array([[0.0, 1.0, 60], [1.4, 1.6, 62], [2.0, 2.5, 64], [3.0, 3.5, 65]], np.float32)
    rows = store.segments("t", [Stem("a", np.zeros((30_000, 1), np.int16), "p", notes)], 8000)
    assert [len(record["audio"]) for record in rows] == [SEGMENT, SEGMENT, 6000]
    assert [record["segment"] for record in rows] == [0, 1, 2]
    assert [record["notes"][:, 2].tolist() for record in rows] == [[60, 62], [62, 64], [65]]


def test_many_shards_are_read_as_one(toy, tmp_path, monkeypatch):
    """Here, a shard holds only 4 records, because otherwise only large corpora have several shards."""
    monkeypatch.setattr(store, "RECORDS_PER_SHARD", 4)
    noise = {(t, s): np.random.default_rng([t, s]).integers(-9, 9, (29_999, 1)) for t in range(3) for s in range(2)}
    loaded = [[Stem(f"s{s}", noise[t, s].astype(np.int16)) for s in range(2)] for t in range(3)]
    tracks = iter([store.segments(f"t{t}", stems, 8000) for t, stems in enumerate(loaded)])
    folder = store.corpus_folder(tmp_path, "many", 8000)
    store.write(folder, "many", 8000, 1, {"train": tracks}, fingerprint="0", options={})
    assert len(store.shards(folder, "many", "train")) > 3
    corpus = open_corpus(tmp_path, "many", 8000, "train")
    for (t, s), original in noise.items():
        read = corpus.read(Excerpt(f"t{t}", f"s{s}", 0, 29_999))
        np.testing.assert_array_equal(read * 32768, original)


def test_options_that_were_added_later_change_the_fingerprint_only_if_they_are_used():
    """Without shifts, the fingerprint is that of the time before `shifts` was an option."""
    corpus = Chamber()
    options = {"works": "160", "longest": "120.0", "seed": "0", "soundfont": "None"}
    content = [1, "chamber", 3, 22_050, 1.5, options, corpus.inputs()]
    before = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
    assert store.fingerprint(corpus, 22_050) == store.fingerprint(Chamber(shifts=0), 22_050) == before
    fingerprints = {store.fingerprint(Chamber(shifts=shifts), 22_050) for shifts in (0, 1, 2)}
    assert len(fingerprints) == 3
    # Other options change the fingerprint at any value.
    assert store.fingerprint(Chamber(works=60), 22_050) not in fingerprints


def test_no_other_files_are_left_beside_the_folder(toy):
    assert [path.name for path in toy.folder.parent.iterdir()] == ["8000"]


def test_a_write_that_fails_leaves_the_old_corpus(tmp_path):
    folder = store.corpus_folder(tmp_path, "c", 8000)

    def write(tracks):
        store.write(folder, "c", 8000, 1, {"train": tracks}, fingerprint="0", options={})

    def members(fail):
        yield store.segments("t", [Stem("a", np.ones((100, 1), np.int16))], 8000)
        if fail:
            raise OSError("No space left on device")

    with pytest.raises(OSError, match="No space left"):
        write(members(fail=True))
    assert not folder.exists()
    write(members(fail=False))
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(OSError, match="No space left"):
        write(members(fail=True))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_an_interrupted_replacement_leaves_a_complete_corpus(tmp_path, monkeypatch):
    """Deleting a folder takes a while, and must not happen under the final name."""
    folder = store.corpus_folder(tmp_path, "c", 8000)

    def write(level):
        track = store.segments("t", [Stem("a", np.full((100, 1), level, np.int16))], 8000)
        store.write(folder, "c", 8000, 1, {"train": iter([track])}, fingerprint="0", options={})

    def interrupted(path, ignore_errors=False):
        if path.exists():
            next(path.rglob("*.array_record-*")).unlink()
            raise KeyboardInterrupt

    write(1)
    monkeypatch.setattr(store.shutil, "rmtree", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write(2)
    corpus = open_corpus(tmp_path, "c", 8000, "train")
    np.testing.assert_array_equal(corpus.read(Excerpt("t", "a", 0, 100)) * 32768, np.full((100, 1), 2))


DAMAGES = {
    "cut": lambda text: text[: len(text) // 2],
    "empty": lambda text: "",
    "another format": lambda text: text.replace('"format": 1', '"format": 0'),
    "without a field": lambda text: text.replace('"channels"', '"kanals"'),
    "not an object": lambda text: "[1, 2]",
    "rows of another form": lambda text: json.dumps({**json.loads(text), "index": {"train": [[1]]}}),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_metadata_names_the_remedy(damage, toy, tmp_path):
    text = (toy.folder / "metadata.json").read_text()
    (tmp_path / "metadata.json").write_text(DAMAGES[damage](text))
    with pytest.raises(ValueError, match=r"metadata.json cannot be read .*: prepare the corpus again with --overwrite"):
        store.Metadata.load(tmp_path)


def test_no_metadata_means_no_corpus(tmp_path):
    with pytest.raises(FileNotFoundError):
        store.Metadata.load(tmp_path)
