"""Records that are read without TensorFlow equal those that TFDS decodes."""

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
    """The bytes of every record of the training split."""
    contents = []
    for path in store.shards(toy.folder, "toy", "train"):
        reader = ArrayRecordReader(path)
        contents += [reader.read([position])[0] for position in range(reader.num_records())]
        reader.close()
    return contents


@pytest.fixture(scope="module")
def reader(toy) -> records.Records:
    return records.Records(store.shards(toy.folder, "toy", "train"))


def audio_of(record: bytes) -> np.ndarray:
    """The audio of a stereo record, int16 `[T, 2]`."""
    return np.frombuffer(records.fields(record)["audio"], np.int16).reshape(-1, 2)


def test_equal_to_the_reader_of_array_record(raw, reader):
    assert len(reader) == len(raw)
    assert [reader[number] for number in range(len(raw))] == raw


def test_any_samples_of_any_record(raw, reader):
    """Each record is read twice, because the position of its audio is stored at the first time."""
    rng = np.random.default_rng(0)
    for number in [*rng.permutation(len(raw)), *rng.permutation(len(raw))]:
        expected = audio_of(raw[number])
        start, stop = sorted(rng.integers(len(expected) + 1, size=2))
        np.testing.assert_array_equal(reader.audio(number, 2, start, stop), expected[start:stop])
        np.testing.assert_array_equal(reader.audio(number, 2, 0, len(expected)), expected)


def write_file(path: Path, contents: list[bytes], options: str = "group_size:1,uncompressed") -> str:
    writer = ArrayRecordWriter(str(path), options)
    for record in contents:
        writer.write(record)
    writer.close()
    return str(path)


def test_records_at_any_position_in_a_block(tmp_path):
    """Headers every 64 KiB may interrupt the audio, the head of a record or the header of its chunk."""
    rng = np.random.default_rng(0)
    contents = [rng.bytes(int(length)) for length in [*rng.integers(1, 90, 3000), *rng.integers(60_000, 70_000, 60)]]
    paths = [write_file(tmp_path / "0", contents[:1000]), write_file(tmp_path / "1", contents[1000:])]
    reader = records.Records(paths)
    assert len(reader) == len(contents)
    for number in rng.permutation(len(contents)):
        assert reader[number] == contents[number]


@pytest.mark.parametrize("count", [0, 40, 41, 42, 43, 44, 45, 2000])
def test_audio_after_many_notes(count, toy, tmp_path):
    """The audio may begin after the head of the record that is searched first."""
    notes = np.tile(np.array([[0.1, 1.0, 60.0]], np.float32), (count, 1))
    stem = Stem("a", toy.audio["train", "t1", "other"][:500], notes=notes)
    folder = store.corpus_folder(tmp_path, "noted", 8000)
    store.write(
        folder, "noted", 8000, 2, {"train": iter([store.segments("t", [stem], 8000)])}, fingerprint="0", options={}
    )
    reader = records.Records(store.shards(folder, "noted", "train"))
    np.testing.assert_array_equal(reader.audio(0, 2, 3, 400), stem.audio[3:400])
    np.testing.assert_array_equal(np.frombuffer(records.fields(reader[0])["notes"], np.float32).reshape(-1, 3), notes)


@pytest.mark.parametrize(("start", "stop", "channels"), [(0, 12_001, 2), (-1, 5, 2), (7, 6, 2), (0, 1, 7)])
def test_samples_outside_of_the_record(start, stop, channels, reader):
    with pytest.raises(ValueError, match=r"has no samples .*: the corpus is damaged, prepare it again"):
        reader.audio(0, channels, start, stop)


@pytest.mark.parametrize("number", [10_000])
def test_numbers_outside_of_the_records(number, reader):
    with pytest.raises(IndexError):
        reader[number]


def test_no_files():
    assert len(records.Records([])) == 0


@pytest.mark.parametrize("options", ["group_size:1", "group_size:4,uncompressed"])
def test_files_in_another_form(options, tmp_path):
    path = write_file(tmp_path / "file", [b"record" * 100] * 8, options)
    with pytest.raises(ValueError, match=r"compressed or grouped, .*: the corpus is damaged, prepare it again"):
        records.Records([path])


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_truncated_file(share, toy, tmp_path):
    content = Path(store.shards(toy.folder, "toy", "train")[0]).read_bytes()
    path = tmp_path / "file"
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match=r"the corpus is damaged, prepare it again"):
        records.Records([str(path)])


def test_equal_to_the_decoder_of_tfds(toy, raw):
    decoded = tfds.builder_from_directory(str(toy.folder)).as_data_source("train")
    assert len(decoded) == len(raw) > 50
    for record, expected in zip(raw, decoded, strict=True):
        assert set(expected) == set(RECORD_FIELDS)
        np.testing.assert_array_equal(audio_of(record), expected["audio"])
        fields = records.fields(record)
        assert set(fields) == set(RECORD_FIELDS)
        assert fields["audio"] == expected["audio"].tobytes()
        for name in ("track", "stem", "parent"):
            assert fields[name] == expected[name]
        for name in ("segment", "sample_rate"):
            assert records.integer(fields[name]) == expected[name]
        np.testing.assert_array_equal(np.frombuffer(fields["notes"], np.float32).reshape(-1, 3), expected["notes"])


@pytest.mark.parametrize("value", [0, 1, 127, 128, 300, 2**31, 2**62])
def test_integer(value):
    packed, remaining = b"", value
    while remaining >= 128:
        packed, remaining = packed + bytes([remaining & 127 | 128]), remaining >> 7
    assert records.integer(packed + bytes([remaining])) == value


def test_an_empty_field_is_zero():
    assert records.integer(b"") == 0


def test_a_record_without_audio(raw, tmp_path):
    path = write_file(tmp_path / "file", [raw[0].replace(b"\x05audio", b"\x05sound")])
    with pytest.raises(ValueError, match=r"holds no audio: the corpus is damaged, prepare it again"):
        records.Records([path]).audio(0, 2, 0, 1)


@pytest.mark.parametrize("share", [0.3, 0.9])
def test_an_incomplete_record(raw, share, tmp_path):
    record = max(raw, key=len)
    path = write_file(tmp_path / "file", [record[: record.find(b"\x05audio") + int(share * 48_000)]])
    with pytest.raises(ValueError, match=r"cut short: the corpus is damaged, prepare it again"):
        records.Records([path]).audio(0, 2, 0, 1)


def test_bytes_that_are_not_an_example(raw):
    with pytest.raises(ValueError, match=r"is not a tf.train.Example"):
        records.fields(b"\x08\x01" + raw[0])


def damaged_copies(path: str, folder: Path) -> list[Path]:
    """Copies of a file that are cut short, or have a wrong byte, at random places."""
    content, rng, copies = Path(path).read_bytes(), np.random.default_rng(0), []
    for number, place in enumerate(rng.integers(len(content), size=60)):
        changed = bytearray(content[: place if number % 3 == 0 else None])
        if number % 3:
            # A third of the changes are in the header of a record.
            changed[place if number % 3 == 1 else place % 200 + 65536 * (place // 65536)] ^= rng.integers(1, 256)
        copies.append(folder / f"{number}.array_record")
        copies[-1].write_bytes(changed)
    return copies


def test_every_damage_is_refused_by_name_or_changes_only_values(toy, tmp_path):
    (path, *_) = store.shards(toy.folder, "toy", "train")
    whole = records.Records([path])

    def error_of(copy: Path) -> str:
        try:
            damaged = records.Records([str(copy)])
            assert len(damaged) == len(whole)
            for number in range(len(damaged)):
                damaged.fields(number)
                damaged.audio(number, 2, 0, len(whole.fields(number)["audio"]) // 4)
        except ValueError as error:
            return str(error)
        return ""

    errors = {str(copy): error_of(copy) for copy in damaged_copies(path, tmp_path)}
    refusals = {copy: error for copy, error in errors.items() if error}
    assert len(refusals) >= 20
    for copy, error in refusals.items():
        assert error.startswith(copy)
        assert error.endswith(records._DAMAGED)
        assert "\n" not in error
