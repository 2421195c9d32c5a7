"""A prepared corpus on disk, written by TFDS as array_record files. It appears only when it is complete.

    ROOT/NAME/RATE/                     one copy of a corpus at one sample rate
      metadata.json                     fingerprint, sample rate, channels, segment length, the index of the stems, and
                                        the SHA-256 digest of each file of records
      NAME-train.array_record-00000-…   records with the fields `schema.RECORD_FIELDS`, in the order of the index; also
                                        `schema.FRAME_FIELDS` where the corpus has video
      features.json, dataset_info.json  files of TFDS, so that `tfds.builder_from_directory` can read the folder

A record holds `SEGMENT_SECONDS` of one stem. A reader must read complete records, so they are short: measured on two
cores, reading a 3-s crop from a random position takes 280 to 370 µs from 10-s records, 150 from 3-s records and 100
from 1.5-s records (22.05 kHz, mono). Still shorter records are not faster. The records are stored uncompressed: TFDS
would compress them, but music hardly shrinks, and reading compressed records takes three times as long.
"""

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from data_pipelines.corpora.base import CorpusBuilder, Stem
from data_pipelines.files import first_line, read_json, sha256, write_json
from data_pipelines.prepared import records
from data_pipelines.schema import AUDIO_DTYPE
from data_pipelines.video import frames

SEGMENT_SECONDS = 1.5
# Increase this number when the stored format changes.
FORMAT = 1
RECORDS_PER_SHARD = 10_000
_REMEDY = "prepare the corpus again with --overwrite"

# The fields `schema.RECORD_FIELDS` of one segment, with video also `schema.FRAME_FIELDS`.
Record = dict[str, Any]


def corpus_folder(root: Path | str, name: str, sample_rate: int) -> Path:
    """The folder of the corpus `name`, prepared at `sample_rate` (Hz)."""
    return Path(root) / name / str(sample_rate)


def fingerprint(corpus: CorpusBuilder, sample_rate: int) -> str:
    """A digest of everything that the stored corpus depends on: options, inputs, sample rate and code version.

    An option that was added to a corpus later, a field with `metadata={"added": True}`, changes the digest only where
    it differs from its default, so that corpora which were prepared earlier stay valid.

    Raises:
      ValueError: if an input is missing.
    """
    options = {
        field.name: str(getattr(corpus, field.name))
        for field in dataclasses.fields(corpus)  # pyright: ignore
        if not (field.metadata.get("added") and getattr(corpus, field.name) == field.default)
    }
    content = [FORMAT, corpus.kind, corpus.version, sample_rate, SEGMENT_SECONDS, options, corpus.inputs()]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


@dataclasses.dataclass(frozen=True)
class Row:
    """The index entry of a stored stem of a track.

    Attributes:
      track, stem: Names of the track and the stem.
      parent: Name of the stem that this one is a part or a pitch-shifted variant of, or empty.
      first: Number of its first record in the split. It has `⌈samples / segment_samples⌉` consecutive records.
      samples: Its length in samples.
    """

    track: str
    stem: str
    parent: str
    first: int
    samples: int


@dataclasses.dataclass(frozen=True)
class Metadata:
    """The content of `metadata.json`.

    Attributes:
      name: Name of the corpus.
      fingerprint: Digest of what the corpus was prepared from, as `fingerprint` returns it.
      sample_rate: Sample rate in Hz.
      channels: Audio channels that are stored.
      segment_samples: Samples in each record except for the last one of a stem.
      options: The options of the corpus, as text, and its `kind`.
      index: The stored stems of each split, in the order of their records.
      digests: SHA-256 of each file of records, by its name; empty in corpora that were prepared before there were any.
    """

    name: str
    fingerprint: str
    sample_rate: int
    channels: int
    segment_samples: int
    options: dict[str, str]
    index: dict[str, list[Row]]
    digests: dict[str, str] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        counts = (self.sample_rate, self.channels, self.segment_samples)
        if any(type(count) is not int or count < 1 for count in counts):
            raise ValueError(f"sample rate, channels and segment length {counts} are not positive")
        for row in (row for rows in self.index.values() for row in rows):
            if not all(isinstance(name, str) for name in (row.track, row.stem, row.parent)):
                raise ValueError("a name in the index is no text")
            if any(type(count) is not int or count < 0 for count in (row.first, row.samples)):
                raise ValueError(f"the index of '{row.stem}' in '{row.track}' is no valid position and length")

    @staticmethod
    def load(folder: Path) -> "Metadata":
        """Read the metadata of a prepared corpus.

        Raises:
          FileNotFoundError: if the folder holds no complete corpus.
          ValueError: if the metadata were written in another format or are damaged.
        """
        path = folder / "metadata.json"
        if not path.is_file():
            raise FileNotFoundError(path)
        content = read_json(path, _REMEDY)
        try:
            if content.pop("format") != FORMAT:
                raise ValueError("another format")
            index = {split: [Row(*row) for row in rows] for split, rows in content.pop("index").items()}
            return Metadata(**content, index=index)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"{path} cannot be read ({first_line(error)}): {_REMEDY}") from None

    def dump(self) -> dict[str, Any]:
        """The metadata as JSON data, which `load` reads."""
        content = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        content["index"] = {
            split: [list(dataclasses.astuple(row)) for row in rows] for split, rows in self.index.items()
        }
        if not self.digests:
            del content["digests"]
        return {"format": FORMAT, **content}


def shards(folder: Path, name: str, split: str) -> list[str]:
    """Paths of the array_record files of a split, in order."""
    return [str(path) for path in sorted(folder.glob(f"{name}-{split}.array_record-*"))]


def segments(track: str, stems: list[Stem], sample_rate: int, *, with_frames: bool = False) -> list[Record]:
    """The records of a track, stem by stem and in order of time.

    Args:
      with_frames: whether the records have the fields for video frames.
    """
    size, rows = round(SEGMENT_SECONDS * sample_rate), []
    for stem in stems:
        for number, start in enumerate(range(0, len(stem.audio), size)):
            begin, end = start / sample_rate, (start + size) / sample_rate
            sounding = stem.notes[(stem.notes[:, 0] < end) & (stem.notes[:, 1] > begin)]
            rows.append(
                {
                    "audio": stem.audio[start : start + size],
                    "track": track,
                    "stem": stem.name,
                    "parent": stem.parent,
                    "segment": number,
                    "sample_rate": sample_rate,
                    "notes": sounding.astype(np.float32),
                }
            )
            if with_frames:
                rows[-1] |= _frames_between(stem, begin, end)
    return rows


def _frames_between(stem: Stem, begin: float, end: float) -> Record:
    """The fields `schema.FRAME_FIELDS` of a segment from `begin` to `end` (s)."""
    first, last = (frames.first_frame_at(seconds, stem.frame_rate) for seconds in (begin, end))
    return {"frames": frames.pack(stem.frames[first:last]), "frame_rate": stem.frame_rate if stem.frames else 0.0}


def write(
    folder: Path,
    name: str,
    sample_rate: int,
    channels: int,
    tracks: dict[str, Iterator[list[Record]]],
    *,
    fingerprint: str,
    options: dict[str, str],
    with_frames: bool = False,
) -> Metadata:
    """Write a corpus and move it to `folder` in one rename, in place of an older one.

    Until the rename, the files are in a hidden folder beside it.

    Args:
      channels: audio channels of all stems.
      tracks: the tracks of each split, each a list of records as `segments` returns it.
      fingerprint: digest of what the corpus is made from.
      options: options of the corpus, stored in its metadata.
      with_frames: whether the records have the fields for video frames.
    """
    scratch = folder.with_name(f".{folder.name}-{fingerprint}-writing")
    shutil.rmtree(scratch, ignore_errors=True)
    built = scratch / "tfds"
    _write_with_tfds(built, name, channels, tracks, with_frames)
    final = scratch / "final"
    final.mkdir()
    index: dict[str, list[Row]] = {}
    for split in tracks:
        index[split] = []
        first = 0
        for path in shards(built, name, split):
            first = _store_uncompressed(path, str(final / Path(path).name), channels, first, index[split])
    for path in (built / "features.json", built / "dataset_info.json"):
        shutil.copy(path, final)
    size = round(SEGMENT_SECONDS * sample_rate)
    digests = {path.name: sha256(path) for path in sorted(final.glob("*.array_record-*"))}
    metadata = Metadata(name, fingerprint, sample_rate, channels, size, options, index, digests)
    write_json(final / "metadata.json", metadata.dump(), indent=None)
    if folder.exists():
        folder.replace(scratch / "old")  # deleting in place would take a while and show an incomplete corpus meanwhile
    final.replace(folder)
    shutil.rmtree(scratch)
    return metadata


def _write_with_tfds(
    folder: Path, name: str, channels: int, tracks: dict[str, Iterator[list[Record]]], with_frames: bool
) -> None:
    """Write the splits with TFDS's sequential writer, track by track.

    The builders of TFDS would hold a complete split in memory.
    """
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.dataset_info import DatasetIdentity

    # `features.Audio` needs TensorFlow. A tensor that is stored as bytes is the fastest format to read.
    audio = tfds.features.Tensor(shape=(None, channels), dtype=AUDIO_DTYPE, encoding=tfds.features.Encoding.BYTES)
    text, number = tfds.features.Text(), tfds.features.Scalar(np.int64)
    features = {"audio": audio, "track": text, "stem": text, "parent": text, "segment": number}
    features |= {"sample_rate": number, "notes": tfds.features.Tensor(shape=(None, 3), dtype=np.float32)}
    if with_frames:
        packed = tfds.features.Tensor(shape=(None,), dtype=np.uint8, encoding=tfds.features.Encoding.BYTES)
        features |= {"frames": packed, "frame_rate": tfds.features.Scalar(np.float32)}
    folder.mkdir(parents=True)
    identity = DatasetIdentity(name, tfds.core.Version("1.0.0"), str(folder), module_name="")
    info = tfds.core.DatasetInfo(builder=identity, features=tfds.features.FeaturesDict(features))
    writer = tfds.core.SequentialWriter(info, RECORDS_PER_SHARD, file_format="array_record")
    writer.initialize_splits(list(tracks))
    for split, members in tracks.items():
        for track in members:
            writer.add_examples({split: track})
    writer.close_all()


def _store_uncompressed(source: str, target: str, channels: int, first: int, rows: list[Row]) -> int:
    """Copy one shard without compression, record by record, and add its stems to `rows`.

    Args:
      first: number of the shard's first record in the split.

    Returns:
      The number of the next shard's first record.
    """
    from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter

    reader = ArrayRecordReader(source)
    writer = ArrayRecordWriter(target, "group_size:1,uncompressed")
    for position in range(reader.num_records()):
        (record,) = reader.read([position])
        writer.write(record)
        fields = records.fields(record)
        track, stem, parent = (fields[key].decode() for key in ("track", "stem", "parent"))
        samples = len(fields["audio"]) // (2 * channels)
        if records.integer(fields["segment"]) == 0:
            rows.append(Row(track, stem, parent, first + position, samples))
        else:
            rows[-1] = dataclasses.replace(rows[-1], samples=rows[-1].samples + samples)
    total = reader.num_records()
    writer.close()
    reader.close()
    return first + total
