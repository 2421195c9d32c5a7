"""`qsep doctor` and `qsep prepare --verify`: every kind of damage is found and named with a remedy."""

import json
import re
import shutil

import numpy as np
import pytest

from data_pipelines import prepare
from data_pipelines.corpora.base import Stem
from data_pipelines.prepared import store
from data_pipelines.prepared.corpus import open_corpus
from qsep_jax import doctor
from qsep_jax.runs import bundle as bundles
from tests.commands import command, refused
from tests.tiny_models import tiny_bundle

RATE = 8_000


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return tiny_bundle(tmp_path_factory.mktemp("bundles") / "tiny").path


@pytest.fixture
def bundle(original, tmp_path):
    return shutil.copytree(original, tmp_path / "tiny")


def flip(path, position: int = -30) -> None:
    """Change one byte of a file."""
    content = bytearray(path.read_bytes())
    content[position] ^= 255
    path.write_bytes(content)


def lines_of(capsys, module, *options) -> tuple[int, str]:
    capsys.readouterr()
    code = command(module, *options)
    return code, capsys.readouterr().out


def test_a_sound_bundle(bundle, capsys, monkeypatch):
    code, out = lines_of(capsys, doctor, bundle)
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == ["ok"] * 4
    assert "4 stems, 8 conditions" in out
    (bundle / "SHA256SUMS").unlink()
    code, out = lines_of(capsys, doctor, bundle)
    assert code == 0
    assert "SHA256SUMS (there are no digests, since the bundle was written by an earlier version)" in out
    monkeypatch.setattr(bundles, "BUNDLED", bundle.parent)
    assert lines_of(capsys, doctor, "tiny")[0] == 0


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: flip(path / "variables.safetensors"), r"variables.safetensors: .* copy the bundle again"),
        (lambda path: flip(path / "conditions.npz", 300), r"conditions.npz: .*: copy the bundle again"),
        (lambda path: (path / "variables.safetensors").unlink(), "variables.safetensors is missing: copy the bundle"),
        (lambda path: (path / "conditions.npz").unlink(), "conditions.npz is missing: copy the bundle again"),
        (lambda path: (path / "config.json").write_text("{"), "config.json: .* is damaged: it is not JSON"),
        (lambda path: (path / "config.json").write_text("[" * 10**5), "config.json: .* is damaged: it is not JSON"),
        (lambda path: (path / "config.json").write_text(" " * 10**7), "takes 10,000,000 bytes, too much"),
        (lambda path: (path / "SHA256SUMS").write_text("x\n"), "SHA256SUMS is damaged: copy the bundle again"),
        (lambda path: (path / "SHA256SUMS").write_text(f"{'0' * 64}  ../x\n"), "SHA256SUMS is damaged"),
    ],
)
def test_a_damaged_bundle(bundle, capsys, damage, message):
    damage(bundle)
    code, out = lines_of(capsys, doctor, bundle)
    assert code == 2
    assert any(re.search(message, line) for line in out.splitlines() if line.startswith("DAMAGED")), out


def test_the_copy_of_a_config_file_is_checked(bundle, capsys):
    config = json.loads((bundle / "config.json").read_text())
    config |= {"sources": {"strange": "0" * 64}, "system": {**config["system"], "name": "strange:Strange"}}
    (bundle / "config.json").write_text(json.dumps(config))
    (bundle / "sources").mkdir()
    (bundle / "sources" / "strange.py").write_text("raise SystemExit('code of the bundle was run')")
    code, out = lines_of(capsys, doctor, bundle)
    assert code == 2
    assert "ok       " + str(bundle / "config.json") + " (its weights cannot be checked: the class Strange" in out
    assert "DAMAGED  " + str(bundle / "sources" / "strange.py") in out


def write_corpus(root, name="toy"):
    rng = np.random.default_rng(0)
    stems = [Stem(stem, rng.integers(-99, 99, (30_000, 1)).astype(np.int16)) for stem in ("bass", "drums")]
    folder = store.corpus_folder(root, name, RATE)
    tracks = {split: iter([store.segments(f"{split} song", stems, RATE)]) for split in ("train", "test")}
    store.write(folder, name, RATE, 1, tracks, fingerprint="0123", options={"kind": "toy"})
    return folder


def without_digests(folder) -> None:
    content = json.loads((folder / "metadata.json").read_text())
    del content["digests"]
    (folder / "metadata.json").write_text(json.dumps(content))


def test_sound_corpora(tmp_path, capsys):
    folder, _ = write_corpus(tmp_path), write_corpus(tmp_path, "other")
    for path, parts in ((folder, 5), (folder.parent, 5), (tmp_path, 10)):
        code, out = lines_of(capsys, doctor, path)
        assert (code, len(out.splitlines())) == (0, parts), out
    for names, parts in (((), 10), (("toy",), 5), (("--name", "other"), 5), (("--sample-rate", RATE), 10)):
        code, out = lines_of(capsys, prepare, "--verify", *names, "--out", tmp_path)
        assert (code, len(out.splitlines())) == (0, parts), out
    refused(capsys, "there is no prepared corpus none in", prepare, "--verify", "none", "--out", tmp_path)
    refused(capsys, "there is no prepared corpus in", prepare, "--verify", "--out", tmp_path / "nowhere")
    without_digests(folder)
    code, out = lines_of(capsys, doctor, folder)
    assert code == 0
    assert "(no digest, since the corpus was prepared by an earlier version)" in out
    assert "(6 records, each of which was read)" in out
    assert open_corpus(tmp_path, "toy", RATE, "train").stems == ("bass", "drums")


@pytest.mark.parametrize("has_digests", [True, False])
@pytest.mark.parametrize("damage", ["flipped", "truncated", "missing", "index"])
def test_a_damaged_corpus(tmp_path, capsys, damage, has_digests):
    folder = write_corpus(tmp_path)
    if not has_digests:
        without_digests(folder)
    (shard,) = folder.glob("*-train.array_record-*")
    if damage == "flipped":
        flip(shard, shard.read_bytes().index(b"train song"))
    elif damage == "truncated":
        shard.write_bytes(shard.read_bytes()[:-1000])
    elif damage == "missing":
        shard.unlink()
    else:
        content = json.loads((folder / "metadata.json").read_text())
        content["index"]["train"][1][3] = 7
        (folder / "metadata.json").write_text(json.dumps(content))
    remedy = f"run qsep prepare toy --source DIR --out {tmp_path} --sample-rate {RATE} --overwrite"
    for module, options in ((doctor, (folder,)), (prepare, ("--verify", "--out", tmp_path))):
        code, out = lines_of(capsys, module, *options)
        faults = [line for line in out.splitlines() if line.startswith("DAMAGED")]
        assert code == 2
        assert faults
        assert all(remedy in line for line in faults)


@pytest.mark.parametrize(
    ("content", "message"),
    [("{", "cannot be read as JSON"), ("[" * 10**5, "cannot be read as JSON"), ('{"format": 1}', "cannot be read")],
)
def test_damaged_metadata(tmp_path, capsys, content, message):
    folder = write_corpus(tmp_path)
    (folder / "metadata.json").write_text(content)
    code, out = lines_of(capsys, doctor, folder)
    assert code == 2
    assert re.search(f"DAMAGED .*{message}.*prepare the corpus again with --overwrite", out)
    (folder / "metadata.json").unlink()
    code, out = lines_of(capsys, doctor, tmp_path)
    assert code == 2
    assert "it has no metadata.json: run qsep prepare toy" in out


def test_a_run(run, tmp_path, capsys):
    copy = shutil.copytree(run, tmp_path / "run")
    code, out = lines_of(capsys, doctor, copy)
    assert code == 0, out
    for part in ("config.json", "environment.json", "metrics.jsonl", "step 4", "optimizers", "conditions.npz"):
        assert any(line.startswith("ok") and part in line for line in out.splitlines()), part
    (copy / "conditions.npz").write_bytes(b"")
    (copy / "environment.json").write_text("[")
    with (copy / "metrics.jsonl").open("a") as file:
        file.write("{\n{}\n")
    for path in (copy / "checkpoints" / "step_4").rglob("*"):
        if path.is_file() and path.stat().st_size > 500:
            path.write_bytes(path.read_bytes()[:100])
    code, out = lines_of(capsys, doctor, copy)
    faults = [line for line in out.splitlines() if line.startswith("DAMAGED")]
    assert code == 2
    for part in ("environment.json", "metrics.jsonl", "step 4", "conditions.npz"):
        assert any(part in line for line in faults), out


def test_mistakes_are_one_line(tmp_path, capsys):
    refused(capsys, "what is to be checked? Give a run, a bundle or a corpus", doctor)
    refused(capsys, "no such file or folder; bundled models are", doctor, tmp_path / "nowhere")
    refused(capsys, "is no run folder, no bundle and no folder of prepared corpora", doctor, tmp_path)
