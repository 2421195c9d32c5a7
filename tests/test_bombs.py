"""Small files that would take all memory or time: each is refused in one line."""

import io
import time

import numpy as np
import pytest
from PIL import Image

from data_pipelines.annotations import note_files
from data_pipelines.corpora.medleydb import read_stems_of
from data_pipelines.npz import read_npz
from data_pipelines.video import frames
from qsep_jax.runs.experiment_json import from_json, read_config


@pytest.fixture(autouse=True)
def _quick():
    start = time.monotonic()
    yield
    assert time.monotonic() - start < 10


def aliases() -> str:
    lines = ["stems:", "  a0: &a0 {filename: x, instrument: [y, y]}"]
    return "\n".join([*lines, *(f"  a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30))])


@pytest.mark.parametrize("text", [aliases(), "stems: " + "[" * 10**5, "stems: " + "{a: " * 1000, "a: !!bool maybe"])
def test_yaml(tmp_path, text):
    path = tmp_path / "song.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"song.yaml is not YAML: ") as refusal:
        read_stems_of(path)
    assert "\n" not in str(refusal.value)


def test_json(tmp_path):
    with pytest.raises(ValueError, match=r"^x is damaged: it is not JSON of an experiment$"):
        from_json("[" * 10**6, "x")
    (tmp_path / "config.json").write_bytes(b" " * 10**7)
    with pytest.raises(ValueError, match="takes 10,000,000 bytes, too much for an experiment"):
        read_config(tmp_path / "config.json")


def test_pictures():
    picture = io.BytesIO()
    Image.new("L", (16, 16)).save(picture, "JPEG")
    content = bytearray(picture.getvalue())
    place = content.index(b"\xff\xc0") + 5
    for width in (12_000, 65_000):  # below and above the limits of Pillow
        content[place : place + 4] = width.to_bytes(2, "big") * 2
        for read in (
            lambda where: frames.decode(bytes(content), 8, where),
            lambda where: frames.check(bytes(content), where),
        ):
            with pytest.raises(ValueError, match=r"^a frame cannot be read as a JPEG"):
                read("a frame")


@pytest.mark.parametrize(
    "save",
    [
        lambda path: np.savez_compressed(path, a=np.zeros(10**7)),
        lambda path: np.savez(path, a=np.array([{}], object)),
    ],
)
def test_npz(tmp_path, save):
    save(tmp_path / "a.npz")
    with pytest.raises(ValueError, match=r"it is compressed|it holds an array of dtype object"):
        read_npz(tmp_path / "a.npz")


def test_an_array_that_claims_more_than_it_has(tmp_path):
    np.savez(tmp_path / "a.npz", a=np.zeros(1234))
    content = (tmp_path / "a.npz").read_bytes()
    (tmp_path / "a.npz").write_bytes(content.replace(b"(1234,), ", b"(10**11,)"))
    with pytest.raises(ValueError, match=r".+"):
        read_npz(tmp_path / "a.npz")


def test_notes(tmp_path):
    path = tmp_path / "notes.csv"
    path.write_text("onset_s,offset_s,midi_pitch\n0,1e8,60\n")
    with pytest.raises(ValueError, match=r"notes.csv: line 2 must have 0 ≤ onset < offset ≤ 86400 s"):
        note_files.read_notes(path)
    with pytest.raises(ValueError, match=r"the score"):
        note_files.voice_of(np.array([[0, 1e8, 60]]))
