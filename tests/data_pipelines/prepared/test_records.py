"""Records: what is read without TensorFlow equals what TFDS decodes."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter

from data_pipelines.corpora.base import Stem
from data_pipelines.prepared import records, store
from data_pipelines.schema import RECORD_FIELDS


@pytest.fixture(scope="module")
def raw(toy) -> list[bytes]:
    """Every record of the training split as it lies in the files."""
    found = []
    for path in store.shards(toy.folder, "toy", "train"):
        reader = ArrayRecordReader(path)
        found += [reader.read([position])[0] for position in range(reader.num_records())]
        reader.close()
    return found


@pytest.fixture(scope="module")
def opened(toy) -> records.Records:
    return records.Records(store.shards(toy.folder, "toy", "train"))


def test_equal_to_the_reader_of_array_record(raw, opened):
    assert len(opened) == len(raw)
    assert [opened[number] for number in range(len(raw))] == raw


def test_any_samples_of_any_record(raw, opened):
    """Asked for twice: where the audio lies is found the first time and remembered."""
    rng = np.random.default_rng(0)
    for number in [*rng.permutation(len(raw)), *rng.permutation(len(raw))]:
        whole = records.audio(raw[number], 2)
        start, stop = sorted(rng.integers(len(whole) + 1, size=2))
        np.testing.assert_array_equal(opened.audio(number, 2, start, stop), whole[start:stop])
        np.testing.assert_array_equal(opened.audio(number, 2, 0, len(whole)), whole)


def write_file(path: Path, found: list[bytes], options: str = "group_size:1,uncompressed") -> str:
    writer = ArrayRecordWriter(str(path), options)
    for record in found:
        writer.write(record)
    writer.close()
    return str(path)


def test_records_wherever_they_fall_in_a_block(tmp_path):
    """Every 64 KiB there is a header, be it within the audio, the head of a record or that of its chunk."""
    rng = np.random.default_rng(0)
    found = [rng.bytes(int(length)) for length in [*rng.integers(1, 90, 3000), *rng.integers(60_000, 70_000, 60)]]
    paths = [write_file(tmp_path / "0", found[:1000]), write_file(tmp_path / "1", found[1000:])]
    opened = records.Records(paths)
    assert len(opened) == len(found)
    for number in rng.permutation(len(found)):
        assert opened[number] == found[number]


@pytest.mark.parametrize("count", [0, 40, 41, 42, 43, 44, 45, 2000])
def test_audio_behind_many_notes(count, toy, tmp_path):
    """Only the head of a record is searched for its audio, unless that is further back."""
    notes = np.tile(np.array([[0.1, 1.0, 60.0]], np.float32), (count, 1))
    stem = Stem("a", toy.audio["train", "t1", "other"][:500], notes=notes)
    folder = store.corpus_folder(tmp_path, "noted", 8000)
    store.write(
        folder, "noted", 8000, 2, {"train": iter([store.segments("t", [stem], 8000)])}, fingerprint="0", options={}
    )
    opened = records.Records(store.shards(folder, "noted", "train"))
    np.testing.assert_array_equal(opened.audio(0, 2, 3, 400), stem.audio[3:400])
    np.testing.assert_array_equal(np.frombuffer(records.fields(opened[0])["notes"], np.float32).reshape(-1, 3), notes)


@pytest.mark.parametrize(("start", "stop", "channels"), [(0, 12_001, 2), (-1, 5, 2), (7, 6, 2), (0, 1, 7)])
def test_samples_that_are_not_there(start, stop, channels, opened):
    with pytest.raises(ValueError, match=r"has no samples .*: the corpus is damaged, prepare it again"):
        opened.audio(0, channels, start, stop)


@pytest.mark.parametrize("number", [10_000])
def test_records_that_are_not_there(number, opened):
    with pytest.raises(IndexError):
        opened[number]


def test_no_files():
    assert len(records.Records([])) == 0


@pytest.mark.parametrize("options", ["group_size:1", "group_size:4,uncompressed"])
def test_files_in_another_form(options, tmp_path):
    path = write_file(tmp_path / "file", [b"record" * 100] * 8, options)
    with pytest.raises(ValueError, match=r"compressed or grouped, .*: the corpus is damaged, prepare it again"):
        records.Records([path])


@pytest.mark.parametrize("kept", [0.0, 0.5, 0.99])
def test_a_truncated_file(kept, toy, tmp_path):
    content = Path(store.shards(toy.folder, "toy", "train")[0]).read_bytes()
    path = tmp_path / "file"
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(ValueError, match=r"the corpus is damaged, prepare it again"):
        records.Records([str(path)])


def test_equal_to_the_decoder_of_tfds(toy, raw):
    decoded = tfds.builder_from_directory(str(toy.folder)).as_data_source("train")
    assert len(decoded) == len(raw) > 50
    for record, expected in zip(raw, decoded, strict=True):
        assert set(expected) == set(RECORD_FIELDS)
        audio = records.audio(record, 2)
        assert audio.dtype == np.int16
        np.testing.assert_array_equal(audio, expected["audio"])
        fields = records.fields(record)
        assert set(fields) == set(RECORD_FIELDS)
        assert fields["audio"] == expected["audio"].tobytes()
        for name in ("track", "stem", "parent"):
            assert fields[name] == expected[name]
        for name in ("segment", "sample_rate"):
            assert records.integer(fields[name]) == expected[name]
        np.testing.assert_array_equal(np.frombuffer(fields["notes"], np.float32).reshape(-1, 3), expected["notes"])


def test_audio_is_a_view_that_cannot_be_written(raw):
    audio = records.audio(raw[0], 2)
    assert not audio.flags.owndata
    with pytest.raises(ValueError, match="read-only"):
        audio[0] = 1


@pytest.mark.parametrize("value", [0, 1, 127, 128, 300, 2**31, 2**62])
def test_integer(value):
    packed, rest = b"", value
    while rest >= 128:
        packed, rest = packed + bytes([rest & 127 | 128]), rest >> 7
    assert records.integer(packed + bytes([rest])) == value


def test_an_empty_field_is_zero():
    assert records.integer(b"") == 0


def test_a_record_without_audio(raw):
    with pytest.raises(ValueError, match=r"holds no audio: the corpus is damaged, prepare it again"):
        records.audio(raw[0].replace(b"\x05audio", b"\x05sound"), 2)


@pytest.mark.parametrize("kept", [0.3, 0.9])
def test_a_record_cut_short(raw, kept):
    record = max(raw, key=len)
    start = record.find(b"\x05audio")
    with pytest.raises(ValueError, match=r"cut short: the corpus is damaged, prepare it again"):
        records.audio(record[: start + int(kept * 48_000)], 2)


def test_audio_that_is_not_whole_frames(raw):
    with pytest.raises(ValueError, match="cut short"):
        records.audio(raw[0], 7)


def test_bytes_that_are_no_example(raw):
    with pytest.raises(ValueError, match=r"not a tf.train.Example: the corpus is damaged, prepare it again"):
        records.fields(b"\x08\x01" + raw[0])
