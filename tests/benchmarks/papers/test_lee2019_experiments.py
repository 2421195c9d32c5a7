"""Tests of the experiments of Lee et al. 2019: correct results on known signals, and no track is separated twice."""

import dataclasses
import importlib.util
import json
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks.papers.lee2019 import (
    context,
    excerpt_groups,
    interpolation,
    iteration,
    latents,
    retrieval,
    table,
    targeting,
)
from data_pipelines.corpora.base import Stem
from data_pipelines.prepared import store
from data_pipelines.prepared.corpus import open_corpus
from data_pipelines.recipes.mixing import rms
from data_pipelines.schema import FOUR_STEMS
from qsep_jax.evaluation.estimates import model_estimators
from qsep_jax.inference.bank import Bank
from qsep_jax.inference.conditions import encode, encode_chunks
from qsep_jax.inference.separation import separate
from qsep_jax.metrics.protocols import Protocol
from qsep_jax.metrics.tracks import TrackScores
from qsep_jax.runs.bundle import Bundle, identity
from tests.commands import command, refused

RATE = 22_050
EXPERIMENTS = (targeting, interpolation, retrieval, iteration, table, latents)
ORIGIN = {"experiment", "run", "step", "corpus", "split", "protocol"}
PARENTS = {"kick": "drums", "hihat": "drums", "piano": "other", "guitar": "other"}


def write_band(root, songs, seconds=3.0):
    """Write a test split of `songs` with a chord for each stem; the first song's last stem begins with silence."""
    time = np.arange(round(seconds * RATE))[:, None] / RATE

    def tracks():
        for song, (name, stems) in enumerate(songs.items()):
            loaded = []
            for index, stem in enumerate(stems):
                pitch = 150 * 1.5**index * (1 + 0.01 * song)
                wave = sum(np.sin(2 * np.pi * pitch * partial * time) for partial in (1, 2, 3))
                if song == 0 and stem == stems[-1] and seconds > 1:
                    wave *= time >= 1.0
                loaded.append(Stem(stem, np.int16(1000 * (1 + index) * wave), PARENTS.get(stem, "")))
            yield store.segments(name, loaded, RATE)

    folder = store.corpus_folder(root, "band", RATE)
    store.write(folder, "band", RATE, 1, {"test": tracks()}, fingerprint="0", options={})
    return root


ALL = ("bass", "kick", "hihat", "piano", "guitar")


@pytest.fixture(scope="module")
def band(tmp_path_factory):
    return write_band(tmp_path_factory.mktemp("band"), {"a": ALL, "b": ALL, "c": ("bass", "kick", "hihat", "piano")})


@pytest.fixture(scope="module")
def songs(tmp_path_factory):
    """Options for a corpus of two songs of one second with the four stems."""
    root = write_band(tmp_path_factory.mktemp("songs"), dict.fromkeys(("one", "two"), FOUR_STEMS), 1.0)
    return ("--root", root, "--corpus", "band")


def rows_of(folder):
    rows = json.loads((folder / "results.json").read_text())
    assert all(set(row) >= ORIGIN for row in rows)
    assert (folder / "table.md").read_text().count("|") > 20
    return rows


def test_excerpts_are_audible_and_do_not_overlap(band):
    corpus = open_corpus(band, "band", RATE, "test", {stem: (stem,) for stem in ALL}, 1)
    rng = np.random.default_rng(0)
    groups = excerpt_groups.simultaneous(corpus, ("piano", "guitar"), 1.0, 99, rng)
    assert sorted((one.track, one.start // RATE) for one, _ in groups) == [
        ("a", 1),
        ("a", 2),
        ("b", 0),
        ("b", 1),
        ("b", 2),
    ]
    assert all((one.track, one.start) == (other.track, other.start) for one, other in groups)
    assert {one.track for one, _ in groups[:2]} == {"a", "b"}  # in turn
    assert len(excerpt_groups.simultaneous(corpus, ("piano",), 1.0, 3, rng)) == 3
    for group in groups:
        assert excerpt_groups.query_for(corpus, group, 1.0, rng).track != group[0].track
    (of_a,) = excerpt_groups.simultaneous(corpus, ("guitar",), 1.0, 1, rng, {"b"})
    (of_b,) = excerpt_groups.simultaneous(corpus, ("guitar",), 1.0, 1, rng, {"a"})
    with pytest.raises(ValueError, match="no other test song has 1 s of guitar"):
        excerpt_groups.query_for(corpus, of_a + of_b, 1.0, rng)


def test_sources_of_different_songs_have_equal_levels(tmp_path):
    """If no song has all sources, they come from different songs; the query of the first one comes from a third."""
    songs = {"a": ("piano",), "b": ("guitar",), "c": ("piano",), "d": ("guitar",)}
    root = write_band(tmp_path, {name: ("bass", *stems) for name, stems in songs.items()})
    corpus = open_corpus(root, "band", RATE, "test", {"piano": ("piano",), "guitar": ("guitar",)}, 1)
    options = targeting.Targeting(mixtures=4, seconds=1.0)
    items = targeting.draw_items(options, corpus, ("piano", "guitar"), np.random.default_rng(0))
    assert len(items) == 4
    for item in items:
        assert [songs[source.track] for source in item.sources] == [("piano",), ("guitar",)]
        assert item.query.track == ({"a", "c"} - {item.sources[0].track}).pop()
        sources, _ = item.waveforms(corpus)
        assert rms(sources[0]) == pytest.approx(rms(sources[1]), rel=1e-4)


def test_improvements_of_known_estimates():
    sources = np.random.default_rng(0).normal(size=(3, 4000)).astype(np.float32)
    mixture = sources.sum(axis=0)
    estimates = {"query": sources[0] + 0.1 * sources[1], "class mean": mixture, "ideal ratio mask": 0.5 * mixture}
    improvements = targeting.improvements(sources, estimates)
    before = 10 * np.log10(np.square(sources[0]).sum() / np.square(mixture - sources[0]).sum())
    after = 20 + 10 * np.log10(np.square(sources[0]).sum() / np.square(sources[1]).sum())
    assert improvements["mixture", "SDR"] == pytest.approx(before, abs=1e-3)
    assert improvements["query", "SDR"] == pytest.approx(after - before, abs=1e-3)
    assert improvements["class mean", "SI-SDR"] == pytest.approx(0, abs=1e-4)
    assert improvements["ideal ratio mask", "SI-SDR"] == pytest.approx(0, abs=1e-3)
    assert improvements["ideal ratio mask", "SDR"] > 1  # half of the mixture is nearer to the target than the mixture
    assert improvements["query − class mean", "SDR"] == pytest.approx(improvements["query", "SDR"], abs=1e-4)


def test_the_conditions_of_estimates(run, band):
    """The conditions are a query, the mean of the parent class, and the nearest training track."""
    loaded = context.load_context(context.CommonOptions(str(run), str(band), "band"), "targeting", "")
    model, bank = loaded.model, loaded.bank
    corpus = loaded.corpus({stem: (stem,) for stem in ("hihat", "kick", "bass")})
    (item,) = targeting.draw_items(
        targeting.Targeting(mixtures=1, seconds=0.2), corpus, corpus.stems, np.random.default_rng(0)
    )
    sources, estimates = targeting.estimate_target(loaded, item, corpus)
    mixture = sources.sum(axis=0)[:, None]
    for name, condition in {"query": encode(model, corpus.read(item.query)), "class mean": bank.mean("drums")}.items():
        np.testing.assert_allclose(estimates[name], separate(model, mixture, condition)[0, :, 0], atol=1e-5)
    stems = {"drums": sources[0][:, None], "bass": 0 * mixture}
    estimates = model_estimators(model, bank, ("gt_segments",))["model_gt_segments"]("a track", stems)
    by_segment = encode_chunks(model, stems["drums"], encode(model, stems["drums"]))
    for stem, condition in {"drums": by_segment, "bass": bank.mean("bass")}.items():
        np.testing.assert_allclose(estimates[stem], separate(model, stems["drums"], condition)[0], atol=1e-5)
    estimates = model_estimators(model, bank, ("nearest",))["model_nearest"]("a track", stems)
    nearest = bank.tracks["drums"][bank.nearest("drums", encode(model, stems["drums"]))]
    for stem, condition in {"drums": nearest, "bass": bank.mean("bass")}.items():
        np.testing.assert_allclose(estimates[stem], separate(model, stems["drums"], condition)[0], atol=1e-5)


def test_targeting(run, band, tmp_path):
    options = ("--workdir", run, "--root", band, "--corpus", "band", "--mixtures", 3, "--seconds", 0.5)
    assert command(targeting, *options, "--out", tmp_path) == 0
    rows = rows_of(tmp_path)
    assert [row["sources"] for row in rows[::8]] == [["hihat", "kick", "bass"], ["piano", "guitar"]]
    results = {(row["sources"][0], row["estimate"]): row for row in rows if row["metric"] == "SI-SDR improvement"}
    for target in ("hihat", "piano"):
        assert results[target, "ideal ratio mask"]["mean"] > max(0, results[target, "query"]["mean"])
        difference = results[target, "query"]["mean"] - results[target, "class mean"]["mean"]
        assert results[target, "query − class mean"]["mean"] == pytest.approx(difference, abs=1e-3)
        assert results[target, "query"]["count"] == 3
    assert results["piano", "query"]["songs"] == 2
    assert (tmp_path / "spectrograms.png").stat().st_size > 20_000


def test_a_corpus_without_sub_stems_has_no_target(run, capsys):
    message = "the corpus 'musdb18' has no 'hihat' in its test split; it has bass, drums, other, vocals. The experiment"
    refused(capsys, message, targeting, "--workdir", run)


def test_decomposition_of_known_sums():
    rng = np.random.default_rng(0)
    first, second = sources = rng.normal(size=(2, 30_000)) * [[0.3], [0.1]]
    assert interpolation.decompose(first, sources).share == pytest.approx(1)
    assert interpolation.decompose(second, sources).share == pytest.approx(0)
    composition = interpolation.decompose(0.5 * first + 2 * second, sources)
    energies = 0.25 * np.square(first).sum(), 4 * np.square(second).sum()
    assert composition.share == pytest.approx(energies[0] / sum(energies))
    assert composition.levels == pytest.approx((-6.02, 6.02), abs=0.01)
    assert composition.residual == pytest.approx(0, abs=1e-9)
    noise = rng.normal(size=30_000)
    assert interpolation.decompose(first + noise, sources).residual == pytest.approx(1 / 1.09, abs=0.02)
    assert interpolation.decompose(0 * first, sources) == interpolation.Composition(0.5, (-80.0, -80.0), 0.0)


def test_interpolation_ends_at_the_class_means(run):
    loaded = context.load_context(context.CommonOptions(str(run)), "interpolation", "")
    sources = np.random.default_rng(0).normal(0, 0.1, (2, 1500)).astype(np.float32)
    estimates = interpolation.interpolated_estimates(loaded, ("vocals", "bass"), sources)
    assert len(estimates) == 5
    for index, stem in ((0, "vocals"), (-1, "bass")):
        expected = separate(loaded.model, sources.sum(axis=0)[:, None], loaded.bank.mean(stem))[0, :, 0]
        np.testing.assert_allclose(estimates[index], expected, atol=1e-5)
    assert np.abs(estimates[2] - estimates[0]).max() > 1e-4
    other = dataclasses.replace(loaded.bank, tracks={**loaded.bank.tracks, "vocals": loaded.bank.tracks["bass"]})
    digests = [identity(Bundle(run), loaded.model, bank)["weights"] for bank in (other, loaded.bank)]
    assert digests[0] != loaded.facts["weights"] == digests[1]


def test_interpolation(run, tmp_path):
    options = ("--workdir", run, "--excerpts", 2, "--seconds", 0.25, "--out", tmp_path)
    assert command(interpolation, *options) == 0
    rows = rows_of(tmp_path)
    assert [(row["first"], row["alpha"]) for row in rows] == [
        (first, alpha) for first in ("vocals", "drums") for alpha in (0, 0.25, 0.5, 0.75, 1)
    ]
    assert all(0 < row["mean"] < 1 and row["count"] == 2 for row in rows)
    assert (tmp_path / "spectrograms.png").stat().st_size > 20_000


def test_rank_correlation():
    assert retrieval.rank_correlation(np.arange(9.0), np.exp(np.arange(9.0)))[0] == pytest.approx(1)
    # Ranks 1 2 3 4.5 4.5 etc., by hand: ρ = 8 / √(10 · 9.5).
    rho, p = retrieval.rank_correlation(np.array([1.0, 2, 3, 4, 5]), np.array([5.0, 6, 7, 8, 7]))
    assert rho == pytest.approx(8 / 95**0.5)
    assert p == pytest.approx(0.0886, abs=1e-4)
    assert retrieval.rank_correlation(np.ones(5), np.arange(5.0)) == (None, None)


def test_points_of_known_latents(monkeypatch):
    """ΔCD is positive where the retrieved track is nearer to the true latent than the mean is (Eq. 10)."""
    bank = Bank({"vocals": {"x": np.array([[1.0, 0.0]]), "y": np.array([[0.0, 1.0]])}})
    monkeypatch.setattr(retrieval, "encode", lambda model, audio, name: audio[:1])
    latents_of = {"at x": [[2.0, 0.0]], "near y": [[0.6, 0.8]], "silent": [[0.0, 0.0]]}
    corpus = SimpleNamespace(length=lambda *_: 1, read=lambda excerpt: np.array(latents_of[excerpt.track]))
    gains = {"at x": 1.5, "near y": -0.5, "silent": 9.0}
    one, other = retrieval.points_of(SimpleNamespace(), bank, corpus, "vocals", gains)
    assert (one.track, one.retrieved, one.delta_sdr) == ("at x", "x", 1.5)
    assert one.delta_cd == pytest.approx(1 - 0.5**0.5)
    assert (other.retrieved, other.delta_cd) == ("y", pytest.approx(0.8 - 1.4 * 0.5**0.5))


@pytest.mark.slow
def test_complete_tracks_are_scored_once(run, songs, tmp_path, monkeypatch):
    """Experiments share the scores of a query mode, in any order."""
    calls, score = [], Protocol.score
    monkeypatch.setattr(Protocol, "score", lambda *arguments: calls.append(0) or score(*arguments))
    monkeypatch.setattr(latents, "embed", lambda vectors, seed: vectors[:, :2])
    monkeypatch.setattr(latents, "silhouettes", lambda vectors, stems: np.zeros(len(vectors)))
    monkeypatch.setattr(latents, "check_sklearn", lambda: None)
    counts = {}
    for module in (iteration, table, retrieval, latents, iteration):
        calls.clear()
        name = module.__name__.rpartition(".")[2]
        options = {"latents": ("--windows", 4), "table": ("--segments",)}.get(name, ())
        code = command(module, "--workdir", run, *songs, "--scores", tmp_path, "--out", tmp_path / name, *options)
        assert code == 0
        counts.setdefault(name, []).append(len(calls))
    assert counts == {"iteration": [4, 0], "table": [6], "retrieval": [2], "latents": [0]}
    path = tmp_path / "tracks" / "model_mean" / "one.json"
    content = json.loads(path.read_text())
    assert {"run", "step", "weights", "corpus", "split", "fingerprint"} < set(content["facts"])
    assert "path" not in content["facts"]  # the facts do not depend on the run's path
    path.write_text(json.dumps({**content, "facts": {**content["facts"], "fingerprint": "another"}}))
    calls.clear()
    assert command(iteration, "--workdir", f"{run}/", *songs, "--scores", tmp_path, "--out", tmp_path / "again") == 0
    assert len(calls) == 1
    assert json.loads(path.read_text()) == content
    (vocals,) = rows_of(tmp_path / "retrieval")
    assert {point["track"] for point in vocals["points"]} == {"one", "two"}
    assert all(point["retrieved"].startswith("train") for point in vocals["points"])
    modes = ("mean", "iterative", "gt", "iterative_segments", "gt_segments")
    assert {row["ask"]: row["count"] for row in rows_of(tmp_path / "table")} == dict.fromkeys(modes, 2)
    assert "| band, test: NOT comparable with MUSDB18 |" in (tmp_path / "table" / "table.md").read_text()
    everything, *stems = rows_of(tmp_path / "latents")
    assert everything["windows"] == sum(row["windows"] for row in stems) == 4 * 4 * 2
    single = {row["stem"]: row["single_step_median"] for row in rows_of(tmp_path / "iteration")}
    means = {row["stem"]: row["median"] for row in rows_of(tmp_path / "table") if row["ask"] == "mean"}
    assert single == means
    pictures = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.png")}
    assert pictures >= {"iteration/gains.png", "table/boxes.png", "retrieval/vocals.png"}
    assert pictures >= {"latents/classes.png", "latents/gains.png"}


def track_scores(estimate, track, **frames):
    stems = {stem: {"SDR": np.array(values, float)} for stem, values in frames.items()}
    return TrackScores(track, estimate, Protocol("bss_eval_v4_sdr"), {}, stems)


def test_gains_of_known_scores(run):
    scores = [
        track_scores("model_mean", "a", vocals=[1, 2, 9], bass=[3, np.nan]),
        track_scores("model_iterative", "a", vocals=[2, 3, 2], bass=[3.4, 9]),
        track_scores("model_mean", "b", vocals=[5, 5], bass=[np.nan]),
        track_scores("model_iterative", "b", vocals=[5.5, 5.5], bass=[1]),
    ]
    gains = iteration.track_gains(scores)
    assert gains == pytest.approx({("vocals", "a"): 0, ("vocals", "b"): 0.5, ("bass", "a"): 3.2})
    assert list(iteration.large_gains({**gains, ("vocals", "c"): 0.4, ("vocals", "d"): 0.6}, "vocals")) == ["d", "b"]
    loaded = context.load_context(context.CommonOptions(str(run)), "iteration", "")
    vocals, bass = iteration.measure(loaded, scores, ("vocals", "bass"), "")
    assert (vocals["single_step_median"], vocals["iterative_median"]) == (3.5, 3.75)
    assert (vocals["mean"], vocals["count"], vocals["marked"]) == (0.25, 2, {"b": 0.5})
    assert bass["count"] == 1


def test_the_table_states_that_other_data_are_not_comparable():
    assert "NOT comparable" in table.comparable("band", "test", 50)
    assert "NOT comparable" in table.comparable("musdb18", "validation", 50)
    assert table.comparable("musdb18", "test", 3) == "MUSDB18, but 3 of 50 tracks: NOT comparable"
    assert "NOT comparable" not in table.comparable("musdb18", "test", 50)


def test_distances_are_averaged_by_track():
    tracks, distances = np.array(["a", "a", "a", "b"]), np.array([1.0, 2, 3, 8])
    encoded = latents.EncodedWindows(np.zeros((4, 2)), np.array(["vocals"] * 4), tracks, distances)
    assert latents.mean_distance(encoded, np.ones(4, bool)).mean == 5
    assert latents.mean_distance(encoded, tracks == "b").mean == 8
    assert latents.mean_distance(encoded, np.zeros(4, bool)) is None


def test_silhouettes_and_embedding_of_known_clusters():
    pytest.importorskip("sklearn")
    rng = np.random.default_rng(0)
    stems = np.repeat(["vocals", "drums"], 20)
    clusters = np.repeat(np.eye(2, 5), 20, axis=0) + rng.normal(0, 0.01, (40, 5))
    assert latents.silhouettes(clusters, stems).min() > 0.9
    assert abs(latents.silhouettes(clusters, rng.permutation(stems)).mean()) < 0.2
    flat = latents.embed(clusters.astype(np.float32), 0)
    assert latents.silhouettes(flat - flat.mean(axis=0), stems).mean() > 0.5
    np.testing.assert_array_equal(flat, latents.embed(clusters.astype(np.float32), 0))


def test_options_are_refused(run, capsys, monkeypatch, tmp_path):
    for module in EXPERIMENTS:
        refused(capsys, "--workdir is needed. Example: python -m benchmarks.papers.lee2019.", module)
    refused(capsys, "is no run folder", table, "--workdir", tmp_path)
    refused(capsys, "the experiment needs cello", retrieval, "--workdir", run, "--stem", "cello")
    refused(capsys, "--tracks must be 0 or more", table, "--workdir", run, "--tracks", -1, "--out", tmp_path)
    refused(capsys, "must be positive", targeting, "--workdir", run, "--mixtures", 0)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    refused(capsys, "scikit-learn, which is not installed: pip install -e '.[dev]'", latents, "--workdir", run)
