"""A built corpus on disk: written by TFDS as array_record, whole or not there at all.

    ROOT/NAME/RATE/                     one copy of a corpus at one sample rate
      metadata.json                     fingerprint, rate, channels, segment length and the index of the stems
      NAME-train.array_record-00000-…   records of `schema.RECORD_FIELDS`, in the order of the index, and of
                                        `schema.FRAME_FIELDS` where the corpus has video
      features.json, dataset_info.json  TFDS's own: `tfds.builder_from_directory` reads the folder

A record holds `SEGMENT_SECONDS` of one stem. Reading costs whole records, so they are short: measured on two cores, a
3-s crop from a random place costs 280 to 370 µs from 10-s records, 150 from 3-s and 100 from 1.5-s ones (22.05 kHz,
mono), and shorter ones gain nothing. They are stored uncompressed: TFDS compresses, music hardly shrinks, and reading
it back takes three times as long.
"""

import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from data_pipelines.corpora.base import CorpusBuilder, Stem
from data_pipelines.prepared import records
from data_pipelines.schema import AUDIO_DTYPE
from data_pipelines.video import frames

SEGMENT_SECONDS = 1.5
# Raised when the stored form changes.
FORMAT = 1
RECORDS_PER_SHARD = 10_000

# `schema.RECORD_FIELDS` of one segment, and with video `schema.FRAME_FIELDS`.
Record = dict[str, Any]


def folder_of(root: Path | str, name: str, sample_rate: int) -> Path:
    return Path(root) / name / str(sample_rate)


def fingerprint(corpus: CorpusBuilder, sample_rate: int) -> str:
    """A digest of everything that the stored corpus depends on: options, inputs, rate, code version.

    An option that a corpus got later, a field with `metadata={"added": True}`, counts only where it differs from its
    default: corpora prepared before it was there stay valid.
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
    """A stored stem of a track: its records are `first … first + ⌈samples / segment⌉` of the split."""

    track: str
    stem: str
    parent: str
    first: int
    samples: int


@dataclasses.dataclass(frozen=True)
class Metadata:
    """What `metadata.json` says of a corpus."""

    name: str
    fingerprint: str
    sample_rate: int
    channels: int
    segment_samples: int
    options: dict[str, str]
    index: dict[str, list[Row]]

    @staticmethod
    def load(folder: Path) -> "Metadata":
        """Read the metadata of a built corpus.

        Raises:
          FileNotFoundError: if no whole corpus is there.
          ValueError: if it was written in another format or is damaged.
        """
        path = folder / "metadata.json"
        if not path.is_file():
            raise FileNotFoundError(path)
        try:
            content = json.loads(path.read_text())
            if content.pop("format") != FORMAT:
                raise ValueError("another format")
            index = {split: [Row(*row) for row in rows] for split, rows in content.pop("index").items()}
            return Metadata(**content, index=index)
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(f"{path} cannot be read ({error}): prepare the corpus again with --overwrite") from None

    def dump(self) -> dict[str, Any]:
        content = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        content["index"] = {
            split: [list(dataclasses.astuple(row)) for row in rows] for split, rows in self.index.items()
        }
        return {"format": FORMAT, **content}


def shards(folder: Path, name: str, split: str) -> list[str]:
    return [str(path) for path in sorted(folder.glob(f"{name}-{split}.array_record-*"))]


def segments(track: str, stems: list[Stem], sample_rate: int, *, with_frames: bool = False) -> list[Record]:
    """The records of a track, stem by stem, in order of time; `with_frames` those of a corpus that has video."""
    size, found = round(SEGMENT_SECONDS * sample_rate), []
    for stem in stems:
        for number, start in enumerate(range(0, len(stem.audio), size)):
            begin, end = start / sample_rate, (start + size) / sample_rate
            sounding = stem.notes[(stem.notes[:, 0] < end) & (stem.notes[:, 1] > begin)]
            found.append(
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
                found[-1] |= _frames_between(stem, begin, end)
    return found


def _frames_between(stem: Stem, begin: float, end: float) -> Record:
    """`schema.FRAME_FIELDS` of a segment."""
    first, last = (frames.first_from(seconds, stem.frame_rate) for seconds in (begin, end))
    return {"frames": frames.pack(stem.frames[first:last]), "frame_rate": stem.frame_rate if stem.frames else 0.0}


def write(
    folder: Path,
    name: str,
    sample_rate: int,
    channels: int,
    tracks: dict[str, Iterator[list[Record]]],
    *,
    mark: str,
    options: dict[str, str],
    with_frames: bool = False,
) -> Metadata:
    """Write the tracks of each split, lists of records, and put the finished corpus at `folder` in one rename.

    Everything before the rename happens in a folder beside it, whose name begins with a dot.
    """
    scratch = folder.with_name(f".{folder.name}-{mark}-writing")
    shutil.rmtree(scratch, ignore_errors=True)
    built = scratch / "tfds"
    _write_with_tfds(built, name, channels, tracks, with_frames)
    final = scratch / "final"
    final.mkdir()
    index: dict[str, list[Row]] = {}
    for split in tracks:
        index[split] = []
        paths = shards(built, name, split)
        first = 0
        for path in paths:
            first = _store_uncompressed(path, str(final / Path(path).name), channels, first, index[split])
    for path in (built / "features.json", built / "dataset_info.json"):
        shutil.copy(path, final)
    size = round(SEGMENT_SECONDS * sample_rate)
    metadata = Metadata(name, mark, sample_rate, channels, size, options, index)
    (final / "metadata.json").write_text(json.dumps(metadata.dump()))
    if folder.exists():
        os.replace(folder, scratch / "old")  # deleting takes a while, and half a corpus must not lie there meanwhile
    os.replace(final, folder)
    shutil.rmtree(scratch)
    return metadata


def _write_with_tfds(
    folder: Path, name: str, channels: int, tracks: dict[str, Iterator[list[Record]]], with_frames: bool
) -> None:
    """Have TFDS write the splits, track by track: its builders would gather a whole split in memory."""
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.dataset_info import DatasetIdentity

    # `features.Audio` needs TensorFlow; a tensor stored as bytes is the quickest form to read.
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
    """Copy one shard record by record and add its stems to `rows`; the number of the next shard's first record."""
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
