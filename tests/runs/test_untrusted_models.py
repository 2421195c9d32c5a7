"""Bundles, deltas and conditions of somebody else that do not fit: one line that names the file, never a traceback."""

import json
import shutil

import numpy as np
import pytest
import safetensors.numpy

from qsep_jax import export, train
from qsep_jax.runs import delta
from qsep_jax.runs.bundle import Bundle, write_bundle
from qsep_jax.runs.digests import write_sums
from qsep_jax.runs.folder import RunFolder
from tests.commands import command, config_of, refused
from tests.tiny_models import tiny_bundle, tiny_delta, tiny_model


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return tiny_bundle(tmp_path_factory.mktemp("bundles") / "tiny")


@pytest.fixture
def bundle(original, tmp_path):
    return Bundle(shutil.copytree(original.path, tmp_path / "tiny"))


def change_weights(bundle: Bundle, change) -> None:
    weights = safetensors.numpy.load_file(bundle.variables)
    first = min(name for name, array in weights.items() if array.ndim == 4)
    change(weights, first)
    safetensors.numpy.save_file(
        {name: np.ascontiguousarray(array) for name, array in weights.items()}, bundle.variables
    )
    write_sums(bundle.path, ["variables.safetensors", "conditions.npz"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w, first: w.pop(first), "is of another form: 'params/.*' is in only one of file and model"),
        (lambda w, first: w.update(more=np.zeros(3)), "is of another form: 'more' is in only one of file and model"),
        (lambda w, first: w.update({f"{first}/x": w[first]}), "is of another form"),
        (lambda w, first: w.update({first: w[first][..., :1]}), r"has shape \(.*\), this model expects \("),
        (
            lambda w, first: w.update({first: w[first].astype(np.float16)}),
            "has dtype float16, this model expects float32",
        ),
        (lambda w, first: w.update({first: np.nan * w[first]}), "holds values that are not finite"),
    ],
)
def test_weights_that_do_not_fit_the_config(bundle, change, message):
    change_weights(bundle, change)
    with pytest.raises(ValueError, match=rf"variables.safetensors.*{message}") as refusal:
        bundle.load()
    assert "\n" not in str(refusal.value)


def test_weights_are_those_that_were_written(bundle):
    weights = safetensors.numpy.load_file(bundle.variables)
    weights[min(weights)] += 1.0
    safetensors.numpy.save_file(weights, bundle.variables)
    with pytest.raises(
        ValueError, match=r"is damaged: its SHA-256 is not the one in SHA256SUMS: copy the bundle again"
    ):
        bundle.load()
    (bundle.path / "SHA256SUMS").unlink()  # as in bundles of earlier versions
    _, model = bundle.load()
    bundle.bank(model)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hop_length": 0}, "system.hop_length must be at least 1, not 0"),
        ({"channels": [8, 0]}, "system.channels must be at least 1, not 0"),
        ({"latent_size": 10**9}, "parameters, .* more than the"),
        ({"latent_size": 17}, "has shape .* this model expects"),
        ({"stems": ["../../x"]}, "is '../../x'"),
    ],
)
def test_a_config_of_another_form(bundle, changes, message):
    content = json.loads(bundle.config.read_text())
    content["system"] |= changes
    bundle.config.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message) as refusal:
        bundle.load()
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("place", "name", "message"),
    [
        (("data", "streams"), "../x", "the name of a stream is '../x'"),
        (("data", "streams", "cvae", "view"), "a/b", "the view of a stream is 'a/b'"),
    ],
)
def test_names_of_a_config_are_plain(bundle, place, name, message):
    content = json.loads(bundle.config.read_text())
    below = content
    for key in place:
        below = below[key]
    below[name] = next(iter(below.values()))
    bundle.config.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message):
        bundle.experiment()


def test_a_delta_is_applied(bundle, tmp_path):
    path = tiny_delta(tmp_path / "delta.safetensors", bundle)
    _, model = bundle.load()
    adapted, read = delta.apply(model, bundle, path)
    assert read.stems == ("bass", "drums")
    assert set(adapted.variables["params"]) == {*model.variables["params"], "condition"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"condition": np.zeros((3, 8), np.float32)}, r"'condition' is float32 \[3, 8\], the model has float32 \[2, "),
        ({"condition": np.zeros((2, 8))}, "'condition' is float64"),
        ({"condition": np.full((2, 32), np.nan, np.float32)}, "'condition' is|not finite"),
        ({"strange__w": np.zeros(3)}, "changes 'strange/w', which is no parameter of the model's networks"),
        ({"query_net__strange": np.zeros(3)}, "changes 'query_net/strange', which is no parameter"),
        ({"stems": ["../bass", "drums"]}, "the name of a stem is '../bass'"),
        ({"stems": ["a", "a"]}, "its stems are no list of different names"),
        ({"stems": [["a"]]}, r"the name of a stem is \['a'\]"),
        ({"stems": "ab"}, "its stems are no list of different names"),
        ({"base": 3}, "is damaged or is no delta"),
        ({"base": {"weights": "0"}}, "belongs to a model with the weights 0"),
    ],
)
def test_a_delta_that_does_not_fit(bundle, tmp_path, changes, message):
    path = tiny_delta(tmp_path / "delta.safetensors", bundle, **changes)
    _, model = bundle.load()
    with pytest.raises(ValueError, match=rf"delta.safetensors.*({message})") as refusal:
        delta.apply(model, bundle, path)
    assert "\n" not in str(refusal.value)


def test_conditions_that_cannot_be_read_are_not_exported(tmp_path, run, capsys):
    copy = shutil.copytree(run, tmp_path / "run")
    (copy / "conditions.npz").write_bytes((copy / "conditions.npz").read_bytes()[:-100])
    remedy = "start the same `qsep train` again, which writes the file anew"
    refused(capsys, remedy, export, "--workdir", copy, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_training_writes_conditions_that_cannot_be_read_anew(tmp_path, run, capsys, monkeypatch):
    monkeypatch.setattr("qsep_jax.train.prepare_missing", lambda experiment: None)
    copy, intact = shutil.copytree(run, tmp_path / "run"), (run / "conditions.npz").read_bytes()
    (copy / "conditions.npz").write_bytes(intact[:-100])
    options = ("--config", config_of("lee2019.py"), "--workdir", copy, "--data.root", run.parent / "data")
    with pytest.warns(UserWarning, match=r"conditions.npz cannot be read \(.*\): it is written anew"):
        assert command(train, *options, "--train.batch-size", 8) == 0
    saved = RunFolder(copy)
    assert len(saved.bank(saved.load()[1]).tracks) == 4


def test_conditions_that_are_not_those_of_the_bundle(original, tmp_path):
    experiment, model = tiny_model()
    bundle = write_bundle(tmp_path / "out", experiment, model.variables, original.conditions, "")
    content = bytearray(bundle.conditions.read_bytes())
    content[-200] ^= 1
    bundle.conditions.write_bytes(content)
    with pytest.raises(ValueError, match=r"conditions.npz is damaged: its SHA-256"):
        bundle.bank(model)
