"""Bundles of a run: their content, their model card, and equality of their output with that of the run."""

import json
import shutil

import jax
import numpy as np
import pytest
import safetensors.numpy

from data_pipelines.audio.reading import read_audio
from qsep_jax import evaluate, export, separate
from qsep_jax.runs import bundle
from qsep_jax.runs.bundle import Bundle, bundled_models, describe, find_model
from tests.commands import command, refused
from tests.experiments import ROOT


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory):
    out = tmp_path_factory.mktemp("bundles") / "tiny"
    assert command(export, "--workdir", run, "--out", out, "--licence", "CC0", "--note", "For tests.") == 0
    return out


def test_a_bundle_separates_like_its_run(run, exported, sounds):
    request = (sounds / "mix.wav", "--query", sounds / "query.wav", "--label", "bass")
    for model in (run, exported):
        assert command(separate, "--model", model, *request, "--out", sounds / model.name) == 0
    for name in ("query", "bass"):
        first, second = (read_audio(sounds / model.name / "mix" / f"{name}.wav")[0] for model in (run, exported))
        np.testing.assert_array_equal(first, second)
    (entry,) = json.loads((sounds / "tiny" / "manifest.json").read_text())
    assert entry["model"]["bundle"] == "tiny"


def test_content_of_a_bundle(exported):
    assert {path.name for path in exported.iterdir()} == {
        "config.json",
        "variables.safetensors",
        "conditions.npz",
        "SHA256SUMS",
        "README.md",
    }
    assert all(
        leaf.dtype == np.float32 for leaf in safetensors.numpy.load_file(exported / "variables.safetensors").values()
    )
    assert json.loads((exported / "config.json").read_text())["data"]["root"] == "data"
    card = (exported / "README.md").read_text()
    for text in ("# tiny", "For tests.", "Lee2019", "musdb18", "4 of 4, batch 8", "| licence of the weights | CC0 |"):
        assert text in card


def test_published_weights_become_a_bundle(tmp_path, capsys, sounds):
    """A file of weights in our arrangement of PyTorch's axes; the bundle separates, and lacking networks are named."""
    from tests.models.test_conditioned_unet_weights import state_of, system_of

    config, path = f"{ROOT / 'configs' / 'slizovskaia2021.py'}:exp11,debug", tmp_path / "CP0990.safetensors"
    state, variables = state_of(system_of(11))
    safetensors.numpy.save_file(state, path)
    options = ("--config", config, "--weights", "separator", path, "--licence", "CC0")
    assert command(export, *options, "--out", tmp_path / "exp11") == 0
    loaded = Bundle(tmp_path / "exp11").load()[1].variables
    jax.tree.map(np.testing.assert_array_equal, loaded, variables)
    card = (tmp_path / "exp11" / "README.md").read_text()
    assert "separator: CP0990.safetensors" in card
    assert "| licence of the weights | CC0 |" in card
    separation = (sounds / "mix.wav", "--label", "violin", "--out", tmp_path / "out")
    assert command(separate, "--model", tmp_path / "exp11", *separation) == 0
    visual, out = config.replace("exp11", "exp16"), ("--out", tmp_path / "out16")
    message = "there are no weights for probabilities, resnet: give --weights separator FILE probabilities FILE"
    refused(capsys, message, export, "--config", visual, "--weights", "separator", path, *out)
    refused(capsys, "either --workdir or --config", export, *out)
    refused(capsys, "--config and --weights belong together", export, "--config", config, *out)
    assert not (tmp_path / "out16").exists()


def test_evaluation_does_not_change_a_bundle(exported, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = sorted(exported.rglob("*"))
    root = ("--root", next(exported.parents[1].glob("run*/data")))
    assert command(evaluate, "excerpts", "--workdir", exported, *root) == 0
    assert (tmp_path / "evaluation" / "tiny" / "root_data" / "table.md").exists()
    assert sorted(exported.rglob("*")) == before


def test_a_bundled_model_is_found_by_its_name(exported, tmp_path, monkeypatch):
    shutil.copytree(exported, tmp_path / "weights" / "tiny")
    monkeypatch.setattr(bundle, "BUNDLED", tmp_path / "weights")
    assert find_model("tiny") == Bundle(tmp_path / "weights" / "tiny")
    assert find_model("") == find_model("tiny")
    assert describe(find_model(""))["bundle"] == "tiny"
    with pytest.raises(ValueError, match="no bundled model is conditioned on video: give --model RUN"):
        find_model("", "frames")
    with pytest.raises(ValueError, match="bundled models are tiny"):
        find_model("huge")


def test_bundled_models_are_small_and_have_a_card():
    for model in bundled_models().values():
        assert sum(path.stat().st_size for path in model.path.iterdir()) <= 10e6
        assert "## Scores" in model.card.read_text()
        model.load()


def test_mistakes_are_one_line(run, exported, sounds, capsys, tmp_path):
    refused(capsys, "exists already", export, "--workdir", run, "--out", exported)
    refused(capsys, "is no run folder", export, "--workdir", tmp_path, "--out", tmp_path / "out")
    damaged = tmp_path / "damaged"
    shutil.copytree(exported, damaged)
    (damaged / "variables.safetensors").write_bytes((exported / "variables.safetensors").read_bytes()[:1000])
    request = (sounds / "mix.wav", "--query", sounds / "query.wav", "--out", sounds / "out")
    refused(capsys, "variables.safetensors cannot be read", separate, "--model", damaged, *request)
    (damaged / "conditions.npz").unlink()
    shutil.copy(exported / "variables.safetensors", damaged)
    refused(capsys, "the run has no class means", separate, "--model", damaged, *request, "--label", "bass")
    assert not (sounds / "out").exists()
    assert not list(tmp_path.glob(".*"))


def test_overwrite_replaces_a_bundle_and_nothing_else(run, exported, capsys, tmp_path):
    out = tmp_path / "tiny"
    shutil.copytree(exported, out)
    (out / "old").touch()
    refused(capsys, "tiny exists already", export, "--workdir", run, "--out", out)
    refused(capsys, "tiny exists already", export, "--workdir", run, "--out", out, "--no-overwrite")
    assert command(export, "--workdir", run, "--out", out, "--note", "New.", "--overwrite") == 0
    assert {path.name for path in out.iterdir()} == {path.name for path in exported.iterdir()}
    assert "New." in Bundle(out).card.read_text()
    (tmp_path / "music").mkdir()
    (tmp_path / "music" / "song.wav").touch()
    refused(capsys, "music is no bundle", export, "--workdir", run, "--out", tmp_path / "music", "--overwrite")
    assert {path.name for path in tmp_path.iterdir()} == {"tiny", "music"}
    assert (tmp_path / "music" / "song.wav").exists()
