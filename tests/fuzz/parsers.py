"""The parsers that are tested with damaged files. A new parser is one more entry of `PARSERS`."""

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from data_pipelines.annotations.note_files import read_notes
from data_pipelines.corpora.base import Stem
from data_pipelines.corpora.medleydb import read_stems_of
from data_pipelines.prepared import store
from data_pipelines.prepared.records import Records, fields
from data_pipelines.video import frames
from qsep_jax.inference.bank import Bank
from qsep_jax.models import torch_weights
from qsep_jax.runs import delta
from qsep_jax.runs.bundle import Bundle
from qsep_jax.runs.digests import SUMS, read_sums
from qsep_jax.runs.experiment_json import read_config
from tests.models.torch_archives import archive, state_of, stream
from tests.tiny_models import tiny_bundle, tiny_delta


class Parser(NamedTuple):
    """A parser of a file.

    Attributes:
      file: Name of the file, relative to a folder.
      make: Writes a valid file of this name, and what belongs to it, into the folder.
      parse: Reads the file: it returns, or raises ValueError with one line.
    """

    file: str
    make: Callable[[Path], Any]
    parse: Callable[[Path], Any]


def _make_bundle(folder: Path) -> None:
    tiny_bundle(folder / "tiny")
    (folder / "tiny" / SUMS).unlink()  # so that damage reaches the parsers


def _make_delta(folder: Path) -> None:
    _make_bundle(folder)
    tiny_delta(folder / "delta.safetensors", Bundle(folder / "tiny"))


_models: dict[Path, Any] = {}


def _parse_delta(path: Path) -> None:
    bundle = Bundle(path.parent / "tiny")
    if bundle.path not in _models:
        _models[bundle.path] = bundle.load()[1]
    delta.apply(_models[bundle.path], bundle, path)


_LIKE = {"z": jax.ShapeDtypeStruct((1, 3), jnp.float32)}


def _make_conditions(folder: Path) -> None:
    Bank({stem: {"a song": {"z": np.ones((1, 3), np.float32)}} for stem in ("bass", "drums")}).save(folder / "c.npz")


_WEIGHTS = {"conv.weight": np.ones((3, 2, 4), np.float32), "conv.bias": np.arange(3.0), "count": np.array(7)}


def _torch(form: Callable[[], bytes], suffix: str) -> Parser:
    name = f"weights{suffix}"
    return Parser(name, lambda folder: (folder / name).write_bytes(form()), torch_weights.read)


def _make_yaml(folder: Path) -> None:
    stem = "  S{0:02d}:\n    filename: a_{0}.wav\n    instrument: [male singer, piano]\n"
    stem += "    raw: {{R01: {{instrument: x}}}}\n"
    (folder / "m.yaml").write_text("stems:\n" + "".join(stem.format(number) for number in range(1, 4)))


def _make_notes(folder: Path) -> None:
    rows = "".join(f"{number}.5,{number}.9,{60 + number},C4\n" for number in range(9))
    (folder / "notes.csv").write_text(f"onset_s,offset_s,midi_pitch,name\n{rows}")


def _make_corpus(folder: Path) -> None:
    stems = [Stem("bass", np.arange(3_000, dtype=np.int16)[:, None], notes=np.ones((2, 3), np.float32))]
    tracks = {"train": iter([store.segments("a song", stems, 1_000)])}
    store.write(folder / "c" / "toy" / "1000", "toy", 1_000, 1, tracks, fingerprint="0123", options={"kind": "toy"})
    (shard,) = (folder / "c" / "toy" / "1000").glob("*.array_record-*")
    shard.rename(folder / "records")
    (folder / "c" / "toy" / "1000" / "metadata.json").rename(folder / "metadata.json")


def _parse_records(path: Path) -> None:
    source = Records([str(path)])
    for number in range(len(source)):
        fields(source[number])
        source.audio(number, 1, 0, 10)


def _make_jpeg(folder: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 255, (24, 16, 3)).astype(np.uint8)
    (folder / "frame.jpg").write_bytes(frames.encode(picture))


def _parse_jpeg(path: Path) -> None:
    frames.check(path.read_bytes(), str(path))
    frames.decode(path.read_bytes(), 16, str(path))


PARSERS: dict[str, Parser] = {
    "config": Parser("tiny/config.json", _make_bundle, read_config),
    "variables": Parser("tiny/variables.safetensors", _make_bundle, lambda path: Bundle(path.parent).load()),
    "conditions": Parser("c.npz", _make_conditions, lambda path: Bank.load(path, _LIKE, "train again")),
    "delta": Parser("delta.safetensors", _make_delta, _parse_delta),
    "sums": Parser(
        SUMS,
        lambda folder: (folder / SUMS).write_text(f"{'0a' * 32}  variables.safetensors\n" * 2),
        lambda path: read_sums(path.parent),
    ),
    "torch": _torch(lambda: archive({"state_dict": state_of(_WEIGHTS)}, _WEIGHTS.values()), ".pth"),
    "torch-stream": _torch(lambda: stream(state_of(_WEIGHTS), _WEIGHTS.values()), ".pt"),
    "torch-gzip": _torch(lambda: gzip.compress(stream(state_of(_WEIGHTS), _WEIGHTS.values()), mtime=0), ".th"),
    "metadata": Parser("metadata.json", _make_corpus, lambda path: store.Metadata.load(path.parent)),
    "records": Parser("records", _make_corpus, _parse_records),
    "notes-csv": Parser("notes.csv", _make_notes, read_notes),
    "medleydb": Parser("m.yaml", _make_yaml, read_stems_of),
    "jpeg": Parser("frame.jpg", _make_jpeg, _parse_jpeg),
}
