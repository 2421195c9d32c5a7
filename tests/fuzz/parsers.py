"""The parsers that are tested with damaged files. A new parser is one more entry of `PARSERS`."""

import gzip
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import av
import jax
import jax.numpy as jnp
import numpy as np

from data_pipelines.annotations import activation_files
from data_pipelines.annotations.note_files import read_notes, write_midi
from data_pipelines.audio.reading import AudioFile
from data_pipelines.corpora.base import Stem
from data_pipelines.corpora.medleydb import read_stems_of
from data_pipelines.corpora.soundfont import with_tuned_samples
from data_pipelines.prepared import store
from data_pipelines.prepared.records import Records, fields
from data_pipelines.video import files, frames
from qsep_jax.command_line.manifest import check_manifest
from qsep_jax.inference.bank import Bank
from qsep_jax.models import torch_weights
from qsep_jax.runs import delta
from qsep_jax.runs.bundle import Bundle
from qsep_jax.runs.digests import SUMS, read_sums
from qsep_jax.runs.experiment_json import read_config
from tests.audio_containers import FFMPEG, SIGNAL, SNDFILE, write
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


_STEMS = ("bass", "drums")


def _marks(name: str, text: str) -> Parser:
    return Parser(
        name,
        lambda folder: (folder / name).write_text(text),
        lambda path: activation_files.read(path, _STEMS, 30.0),
    )


def _make_midi(folder: Path) -> None:
    notes = np.array([[0.5 * number, 0.5 * number + 0.4, 60 + number] for number in range(9)], np.float32)
    write_midi(folder / "tune.mid", notes)


def _make_boxes(folder: Path) -> None:
    boxes = {player: [number, 2, 30, 40] for number, player in enumerate(("violin", "cello"))}
    (folder / "boxes.json").write_text(json.dumps({"duo": boxes, "trio": boxes}))


def _make_manifest(folder: Path) -> None:
    entry = {"input": "a.wav", "options": {"label": ["bass"]}, "outputs": {"bass": "a/bass.wav"}}
    (folder / "manifest.json").write_text(json.dumps([entry, entry]))


def _make_soundfont(folder: Path) -> None:
    chunks = {
        b"inst": struct.pack("<20sH20sH", b"a", 0, b"EOI", 1),
        b"ibag": struct.pack("<4H", 0, 0, 3, 0),
        b"igen": struct.pack("<" + "Hh" * 3, 58, 69, 52, -7, 53, 0),
        b"shdr": (struct.pack("<20s5IBbHH", b"a", 0, 99, 9, 90, 44_100, 60, 0, 0, 1) + bytes(46)),
    }
    body = b"pdta" + b"".join(name + struct.pack("<I", len(data)) + data for name, data in chunks.items())
    body = b"sfbk" + b"LIST" + struct.pack("<I", len(body)) + body
    (folder / "a.sf2").write_bytes(b"RIFF" + struct.pack("<I", len(body)) + body)


def _make_video(folder: Path) -> None:
    rng = np.random.default_rng(0)
    with av.open(str(folder / "duo.mp4"), "w") as output:
        stream = output.add_stream("mpeg4", rate=5)
        stream.width, stream.height = 32, 24
        for _ in range(8):
            picture = rng.integers(0, 255, (24, 32, 3)).astype(np.uint8)
            output.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
        output.mux(stream.encode(None))


def _parse_video(path: Path) -> None:
    files.duration(path)
    for _ in files.frames(path, (0.0, 0.5, 1.0)):
        pass


def _audio(name: str) -> Parser:
    return Parser(name, lambda folder: write(folder, name, SIGNAL[:3_000]), lambda path: list(AudioFile(path).blocks()))


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
    "activations": _marks("marks.csv", "stem,start,end\nbass,0,4.5\nbass,7,9\ndrums,,\n"),
    "labels": _marks("marks.txt", "0.0\t4.5\tbass\n7.0\t9.0\tbass\n1.0\t2.0\tno drums\n"),
    "midi": Parser("tune.mid", _make_midi, read_notes),
    "boxes": Parser("boxes.json", _make_boxes, files.read_boxes),
    "manifest": Parser("manifest.json", _make_manifest, lambda path: check_manifest(path.parent)),
    "soundfont": Parser("a.sf2", _make_soundfont, with_tuned_samples),
    "video": Parser("duo.mp4", _make_video, _parse_video),
    **{name: _audio(name) for name in (*SNDFILE, *FFMPEG)},
}
