"""Excerpts and tracks with models that estimate all stems at once, conditioned on what the corpus knows of them."""

import json

import numpy as np
import pytest

from data_pipelines.prepared.corpus import Excerpt, open_corpus
from qsep_jax import evaluate, export
from qsep_jax import separate as separate_files
from qsep_jax.inference import cues
from qsep_jax.inference.separation import separate
from qsep_jax.metrics.ratios import si_sdr
from qsep_jax.metrics.tracks import TrackScores
from qsep_jax.runs.bundle import Bundle
from qsep_jax.systems.frame_classifier import FrameClassifier
from tests.commands import command, refused, train_debug
from tests.pieces import ON_LABELS, ON_VIDEO, PLAYERS, RATE, STEMS, UNCONDITIONED, write_bundle, write_pieces

SYSTEMS = {"none": UNCONDITIONED, "labelled": ON_LABELS, "seeing": ON_VIDEO}
PIECES = {
    "a": (9_000, ("cello", "violin")),
    "b": (8_000, ("cello", "violin")),
    "cc": (7_000, ("bassoon", "cello", "flute")),
}
PIECES |= {"ddd": (6_000, ("bassoon", "flute"))}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_pieces(tmp_path_factory.mktemp("data"), PIECES)


@pytest.fixture(scope="module")
def bundles(root, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return {name: write_bundle(system, folder / name, root) for name, system in SYSTEMS.items()}


@pytest.fixture(scope="module")
def corpus(root):
    return open_corpus(root, "pieces", RATE, "test", {stem: (stem,) for stem in STEMS}, 1)


@pytest.mark.parametrize("name", SYSTEMS)
def test_excerpts(bundles, corpus, tmp_path, name):
    assert command(evaluate, "excerpts", "--workdir", bundles[name], "--out", tmp_path, "--mixtures", 4) == 0
    _, model = Bundle(bundles[name]).load()
    for item in json.loads((tmp_path / "list.json").read_text()):
        sources = [Excerpt(**source) for source in item["sources"]]
        audio = {source.stem: corpus.read(source) for source in sources}
        mixture = sum(audio.values())
        estimates = separate(model, mixture, cues.from_corpus(model, corpus, sources))
        expected = si_sdr(audio[item["stem"]].ravel(), estimates[STEMS.index(item["stem"])].ravel())
        assert item["si_sdr"]["model"] == pytest.approx(float(expected), abs=1e-3)
    rows = json.loads((tmp_path / "results.json").read_text())
    assert {row["count"] for row in rows if row["stem"] == "all"} == {9}


@pytest.mark.parametrize("name", SYSTEMS)
def test_complete_tracks(bundles, corpus, tmp_path, name):
    options = ("--protocol", "whole_track", "--oracle", "mixture", "--out", tmp_path)
    assert command(evaluate, "tracks", "--workdir", bundles[name], *options) == 0
    _, model = Bundle(bundles[name]).load()
    for track, (length, stems) in PIECES.items():
        audio = {stem: corpus.read(Excerpt(track, stem, 0, length)) for stem in stems}
        condition = cues.from_corpus(model, corpus, cues.stem_excerpts(corpus, track))
        estimates = separate(model, sum(audio.values()), condition)
        scores = TrackScores.from_file(tmp_path / "tracks" / "model" / f"{track}.json")
        assert tuple(scores.stems) == stems
        for stem in stems:
            expected = si_sdr(audio[stem].ravel(), estimates[STEMS.index(stem)].ravel())
            assert scores.stems[stem]["SI-SDR"] == pytest.approx(float(expected), abs=1e-3)


def test_cached_features_replace_frames(bundles, tmp_path, monkeypatch):
    """If the recipe of the run names cached features, no frame is read."""
    folder, names = tmp_path / "cached", []
    write_bundle(ON_VIDEO, folder, Bundle(bundles["none"]).experiment().data.root)
    config = json.loads((folder / "config.json").read_text())
    config["data"]["streams"]["separation"]["recipe"] |= {"frames": 2, "features": "frozen"}
    (folder / "config.json").write_text(json.dumps(config))

    def features(self, track, stem, times, name):
        names.append(name)
        return np.ones((2, PLAYERS.resnet.features), np.float32)

    monkeypatch.setattr("data_pipelines.prepared.corpus.Corpus.features", features)
    monkeypatch.setattr("data_pipelines.prepared.corpus.Corpus.frames", None)
    one_track = ("--tracks", 1)
    for options in (("excerpts",), ("tracks", "--protocol", "whole_track", *one_track), ("segments", *one_track)):
        names.clear()
        assert command(evaluate, *options, "--workdir", folder, "--out", tmp_path / "out" / options[0]) == 0
        assert set(names) == {"frozen"}


@pytest.mark.slow
def test_a_run_without_queries_has_no_class_means(tmp_path):
    """Neither the run nor its bundle has class means; scalar variables keep their shape in the bundle."""
    run = train_debug("slizovskaia2021.py:exp2", tmp_path)
    assert not (run / "conditions.npz").exists()
    assert command(export, "--workdir", run, "--out", tmp_path / "bundle") == 0
    assert {path.name for path in (tmp_path / "bundle").iterdir()} == {
        "config.json",
        "variables.safetensors",
        "SHA256SUMS",
        "README.md",
    }
    assert "| conditioned on | nothing |" in (tmp_path / "bundle" / "README.md").read_text()
    variables = Bundle(tmp_path / "bundle").load()[1].variables
    assert variables["curriculum"]["mixtures"]["most"].shape == ()


def test_a_system_that_does_not_separate_is_refused(root, tmp_path, capsys):
    bundle = write_bundle(FrameClassifier(STEMS, RATE, size=16, resnet=PLAYERS.resnet), tmp_path / "eyes", root)
    refused(capsys, "does not separate, so it cannot be evaluated", evaluate, "excerpts", "--workdir", bundle)
    audio = tmp_path / "x.wav"
    audio.touch()
    refused(capsys, "(FrameClassifier) does not separate", separate_files, "--model", bundle, audio)
