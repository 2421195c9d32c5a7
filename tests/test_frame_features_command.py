"""`frame_features`: the features of each frame, the networks that can compute them, and errors."""

import dataclasses

import jax
import numpy as np
import pytest
import safetensors.numpy
from flax.traverse_util import flatten_dict

from data_pipelines.corpora.base import Stem
from data_pipelines.prepared import store
from data_pipelines.prepared.corpus import open_corpus
from data_pipelines.streams import Data
from data_pipelines.video import features as cache
from qsep_jax import frame_features
from qsep_jax.models.resnet import ResNetSize
from qsep_jax.runs.experiment import Experiment
from qsep_jax.runs.experiment_json import to_json
from qsep_jax.systems.base import System
from qsep_jax.systems.frame_classifier import FrameClassifier
from qsep_jax.systems.lee2019 import Lee2019
from tests.commands import command, refused

RATE, SIZE = 1000, ResNetSize((1, 1), 4)
CLASSIFIER = FrameClassifier(size=32, samples=64, resnet=SIZE)
LENGTHS = {"cello": 2100, "flute": 3000}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A corpus with rendered players: a track in each of two splits, with stems of 2.1 and 3 s."""
    root = tmp_path_factory.mktemp("corpora")

    def tracks(split):
        notes = np.array([[0.2, 1.0, 60.0], [1.2, 1.9, 67.0]], np.float32)
        stems = [Stem(name, np.ones((samples, 1), np.int16), notes=notes) for name, samples in LENGTHS.items()]
        yield store.segments(f"{split}0", stems, RATE)

    folder = store.corpus_folder(root, "toy", RATE)
    by_split = {split: tracks(split) for split in ("train", "test")}
    store.write(folder, "toy", RATE, 1, by_split, fingerprint="0", options={"kind": "chamber"})
    return root


def bundle(system: System, folder):
    """Write a bundle of a system with random variables, and return the variables."""
    folder.mkdir(parents=True)
    variables = jax.device_get(jax.jit(lambda: system.init(jax.random.key(0), {}))())
    (folder / "config.json").write_text(to_json(Experiment(system, Data())))
    safetensors.numpy.save_file(flatten_dict(variables, sep="/"), folder / "variables.safetensors")
    return variables


def test_the_features_of_a_classifier(root, tmp_path):
    variables = bundle(CLASSIFIER, tmp_path / "classifier")
    options = ("--root", root, "--corpus", "toy", "--name", "frozen", "--rate", 4, "--sample-rate", RATE)
    assert command(frame_features, "--model", tmp_path / "classifier", *options) == 0
    stored = cache.read(store.corpus_folder(root, "toy", RATE), "frozen")
    assert (stored.rate, stored.rows.shape[1]) == (4.0, SIZE.features)
    assert stored.mark.startswith("classifier ")
    assert stored.mark.endswith(", 32 pixels")
    counts = {key: count for key, (_, count) in stored.index.items()}
    expected = {"cello": 9, "flute": 12}  # at 0, 0.25, … s, up to the end of the stem
    assert counts == {(s, f"{s}0", stem): expected[stem] for s in ("train", "test") for stem in LENGTHS}
    corpus, times = open_corpus(root, "toy", RATE, "test"), np.arange(9) / 4
    frames = corpus.frames("test0", "cello", times, 32)
    collections = {name: variables[name]["resnet"] for name in ("params", "batch_stats")}
    features = jax.jit(lambda x: CLASSIFIER.network.apply(collections, x, False))(frames / np.float32(255))
    np.testing.assert_allclose(corpus.features("test0", "cello", times, "frozen"), features, rtol=1e-4, atol=1e-6)
    assert np.abs(features[0] - features[3]).max() > 1e-4  # the player moves


@pytest.mark.torch
def test_the_features_of_a_file_of_weights(root, tmp_path, monkeypatch):
    from tests.models.torch_resnet import TorchResNet, randomised, to_torch, weights_of

    monkeypatch.setattr(frame_features, "ResNetSize", lambda: SIZE)  # ResNet-50 is slow
    network = randomised(TorchResNet((1, 1), 4, True, classes=3))
    safetensors.numpy.save_file(weights_of(network), tmp_path / "resnet.safetensors")
    options = ("--root", root, "--corpus", "toy", "--name", "imagenet", "--size", 24, "--sample-rate", RATE)
    assert command(frame_features, "--model", tmp_path / "resnet.safetensors", *options) == 0
    corpus = open_corpus(root, "toy", RATE, "train")
    frames = corpus.frames("train0", "flute", [1.0], 24) / np.float32(255)
    expected = network(to_torch(frames)).detach().numpy()
    np.testing.assert_allclose(corpus.features("train0", "flute", [1.0], "imagenet"), expected, rtol=1e-4)
    assert "24 pixels" in cache.read(corpus.folder, "imagenet").mark


def test_the_mark_depends_on_weights_and_size(tmp_path):
    variables = bundle(CLASSIFIER, tmp_path / "classifier")
    encoder = frame_features.load_frame_encoder(str(tmp_path / "classifier"))
    other = jax.tree.map(lambda leaf: leaf + 1e-3, {name: tree["resnet"] for name, tree in variables.items()})
    changes = ({"variables": other}, {"size": 64}, {})
    marks = [dataclasses.replace(encoder, **change).mark for change in changes]
    assert len(set(marks)) == 3
    assert marks[2] == encoder.mark


def test_unusable_models_and_corpora_are_refused(root, tmp_path, capsys):
    bundle(CLASSIFIER, tmp_path / "classifier")
    bundle(Lee2019(frames=8, window_length=32, hop_length=16, channels=(2,), query_channels=(2,)), tmp_path / "lee")
    model, rest = ("--model", tmp_path / "classifier"), ("--root", root, "--name", "frozen", "--sample-rate", RATE)
    toy = (*rest, "--corpus", "toy")
    refused(
        capsys,
        "lee is a run of Lee2019: give one of FrameClassifier",
        frame_features,
        "--model",
        tmp_path / "lee",
        *toy,
    )
    refused(capsys, "the corpus 'none' is not prepared", frame_features, *model, *rest, "--corpus", "none")
    refused(capsys, "is no run folder and no bundle", frame_features, "--model", tmp_path / "nothing", *toy)
    refused(capsys, "there is no file", frame_features, "--model", tmp_path / "nothing.pth", *toy)
    refused(capsys, "--rate must be positive, not 0", frame_features, *model, *toy, "--rate", 0)
    safetensors.numpy.save_file({"conv1.weight": np.zeros((64, 1, 7, 7))}, tmp_path / "grey.safetensors")
    message = "'conv1.weight' has shape [64, 1, 7, 7], expected [64, 3, 7, 7]"
    refused(capsys, message, frame_features, "--model", tmp_path / "grey.safetensors", *toy)
