"""Tests of the table of Cantisani 2021: songs with silences, scores, aggregation and form."""

import dataclasses
import json

import numpy as np
import pytest

from benchmarks.papers.cantisani2021 import slide, songs, strategies
from data_pipelines.corpora.base import Stem
from data_pipelines.prepared import store
from qsep_jax.inference.model import Model
from qsep_jax.systems.cantisani2021 import SPLITS, Cantisani2021
from tests.commands import command, refused
from tests.test_adapt import write_bundle

RATE = 8_000
SCORED = ("B0", "l3", "l3-mixture")


def noise(*shape):
    return np.random.default_rng(0).normal(0, 0.1, shape).astype(np.float32)


def test_each_stem_is_silent_in_another_quarter():
    stems = noise(4, 40_000, 2)
    silenced = songs.silence_parts(stems, np.random.default_rng(1))
    assert silenced.shape == stems.shape
    middles = [slice(10_000 * part + 2_500, 10_000 * part + 7_500) for part in range(4)]
    is_silent = [[not silenced[stem, middle].any() for middle in middles] for stem in range(4)]
    assert np.array_equal(np.sum(is_silent, axis=0), np.ones(4))
    assert np.array_equal(np.sum(is_silent, axis=1), np.ones(4))
    for stem in range(4):
        for part in np.flatnonzero(~np.array(is_silent[stem])):
            np.testing.assert_allclose(silenced[stem, middles[part]], stems[stem, middles[part]], atol=1e-5)


def test_a_stem_is_scored_where_it_sounds():
    references = noise(2, 5 * RATE, 1)
    references[0, : 3 * RATE] = 0.0
    scores = slide.score(references, 0.9 * references + 0.001, ("bass", "drums"), RATE)
    assert np.isnan(scores["bass"]["SDR"]).tolist() == [True, False, False]  # frames of 2 s that begin at 0, 1.5, 3 s
    assert np.isfinite(scores["drums"]["SDR"]).all()
    np.testing.assert_allclose(scores["drums"]["SDR"], 20.0, atol=0.1)
    assert scores["bass"]["PES"][0] == pytest.approx(10 * np.log10(2 * RATE * 1e-6), abs=0.1)
    assert np.isnan(scores["drums"]["PES"][0])


@pytest.mark.parametrize(("seconds", "frames", "alone", "together"), [(240, 159, 120, 6), (30, 19, None, 6)])
def test_musevals_rule_leaves_only_frames_across_the_borders(seconds, frames, alone, together):
    """Each of four stems rests in a quarter of its own, so that all of them sound only across three borders."""
    references = songs.silence_parts(noise(4, seconds * RATE, 1), np.random.default_rng(0))
    scores = slide.score(references, 0.9 * references + 0.001, slide.STEMS, RATE)
    published = np.array([scores[stem][slide.SDR["published"]] for stem in slide.STEMS])
    sounding = np.array([scores[stem][slide.SDR["sounding"]] for stem in slide.STEMS])
    assert published.shape == sounding.shape == (4, frames)
    assert np.isfinite(published).sum(1).tolist() == [together] * 4
    for own, common in zip(sounding, published, strict=True):
        np.testing.assert_array_equal(own[np.isfinite(common)], common[np.isfinite(common)])
    if alone is not None:
        assert np.abs(np.isfinite(sounding).sum(1) - alone).max() <= 1


def test_stored_scores_of_other_settings_are_refused(tmp_path):
    system, options = Cantisani2021(), slide.Slide(weight=0.5)
    facts = slide._facts(system, "l3", options)
    scores = {"raw": {"bass": {"SDR": [1.0]}}, "facts": facts}
    slide._check(scores, facts, "sounding", tmp_path)
    with pytest.raises(ValueError, match=r"has no SDR of museval's frames: delete the file"):
        slide._check(scores, facts, "published", tmp_path)
    with pytest.raises(ValueError, match=r"was computed with adaptation .*'weight': 0.5.*: give another --out"):
        slide._check(scores, slide._facts(system, "l3", slide.Slide()), "sounding", tmp_path)
    with pytest.raises(ValueError, match=r"was computed with shifts 10, not 2: give another --out"):
        slide._check(scores, slide._facts(system, "l3", slide.Slide(shifts=2, weight=0.5)), "sounding", tmp_path)
    # Files of earlier versions do not say what they depend on.
    slide._check({"raw": scores["raw"]}, facts, "sounding", tmp_path)


def test_aggregation_by_hand():
    frames = {"a": [1.0, np.nan, 3.0, 8.0], "b": [5.0], "c": [9.0]}
    scores = {song: {"bass": {"SDR": values}} for song, values in frames.items()}
    assert slide.aggregate(scores, "bass", "SDR", "median") == 5.0
    assert slide.aggregate(scores, "bass", "SDR", "mean") == pytest.approx(17 / 3)


def test_counts_and_form_of_the_table():
    system = Cantisani2021()
    counts = [strategies.trained_parameters(system, name) for name in SPLITS]
    assert counts == [8_244_284, 5_586_984, 2_929_684, 403_456, 10_240]
    one = {"song": {stem: {"SDR": [1.0], "PES": [-60.0], "EPS": [-80.0]} for stem in slide.STEMS}}
    lines = slide.table({"B0": one, "B0 gated": one, "l3": one}, system).splitlines()
    assert lines[2] == "| | #TP | mean: other | bass | drums | vocals | median: other | bass | drums | vocals |"
    assert lines[4] == "| B0 | – |" + 8 * " 1.00 |"
    assert lines[5] == "| B0, gated | – |" + 8 * " 1.00 |"
    assert lines[6] == "| P-L3:D | 2,929,684 |" + 8 * " 1.00 |"
    assert lines[12] == "| B0 | – |" + 4 * " -60.00 |" + 4 * " -80.00 |"
    assert "| P-L1:D | 6.1 | 8.1 | 7.4 | 6.3 |" in lines


def test_settings_of_a_strategy():
    system = Cantisani2021()
    options = slide.Slide(weight=0.5, pitch_copies=2)
    control = slide.settings_of(system, "l3-frozen-mixture", options)
    assert (control.reconstruction, control.weight, control.pitch_copies) == ("mixture", 0.5, 2)
    assert control.trainable == ("tasnet/separator/repeat_4", "tasnet/separator/mask")
    assert slide.settings_of(system, "l3-each", options).reconstruction == "each"
    assert slide.settings_of(system, "l3", options).reconstruction == "gated"
    titles = [
        strategies.title_of(name) for name in ("B0 gated", "l3", "l3-frozen", "l1-mixture gated", "l4-frozen-each")
    ]
    assert titles == ["B0, gated", "P-L3:D", "P-L3", "P-L1:D, mixture, gated", "P-L4, each"]
    for name in ("l6", "l3-gated", "l5-frozen", "-each"):
        with pytest.raises(ValueError, match=rf"unknown strategy '{name}': choose from l1, l2, .*l4-frozen, each also"):
            slide.settings_of(system, name, options)
    settings = slide.settings_of(system, "l5", slide.Slide(epochs=3, rate=1e-4))
    assert (settings.trainable, settings.epochs, settings.optimizer.learning_rate) == (("tasnet/decoder",), 3, 1e-4)
    assert dataclasses.replace(settings, epochs=10, optimizer=system.adaptation.optimizer) == dataclasses.replace(
        system.adaptation, trainable=("tasnet/decoder",)
    )


def test_shifts_are_undone_before_the_mean(monkeypatch):
    """A model that returns the mixture as two stems gives the same with shifts."""
    lengths = []

    def twice(model, mixture, condition):
        lengths.append(len(mixture))
        return np.stack([mixture, -mixture])

    class Two:
        stems, sample_rate = ("a", "b"), RATE

    monkeypatch.setattr(slide, "separate", twice)
    mixture = noise(6_000, 2)
    estimates = slide.separate_with_shifts(Model(Two(), {}), mixture, 5, np.random.default_rng(0))
    np.testing.assert_allclose(estimates, [mixture, -mixture], atol=1e-6)
    assert len(set(lengths)) > 1
    assert max(lengths) <= 6_000 + RATE // 2


@pytest.mark.slow
def test_a_strategy_beside_its_control_by_one_command(tmp_path, capsys):
    """The control makes the same number of updates; the table has both rules of frames."""
    stems = ("drums", "bass", "other", "vocals")
    song = [Stem(stem, np.rint(3_000 * noise(16 * RATE, 2) / 0.1).astype(np.int16)) for stem in stems]
    tracks = {"test": iter([store.segments("song", song, RATE)])}
    folder = store.corpus_folder(tmp_path / "data", "own", RATE)
    store.write(folder, "own", RATE, 2, tracks, fingerprint="0", options={"kind": "toy"})
    model = write_bundle("cantisani2021.py:debug", tmp_path / "model")
    options = ("--model", model, "--root", tmp_path / "data", "--corpus", "own", "--out", tmp_path / "out")
    options = (*options, "--splits", "l3", "l3-mixture", "--shifts", 0, "--epochs", 1, "--hop", 4.0, "--rate", 1e-3)
    assert command(slide, *options, "--frames", "published") == 0
    lines = capsys.readouterr().out.splitlines()
    assert "frames in which all stems sound, 0 shifts averaged" in lines[0]
    assert [line.split(" | ")[0] for line in lines if line.startswith(("| P-L3", "| B0"))][:6] == [
        *("| B0", "| B0, gated", "| P-L3:D", "| P-L3:D, gated", "| P-L3:D, mixture", "| P-L3:D, mixture, gated")
    ]
    scores = {name: json.loads((tmp_path / "out" / "scores" / name / "song.json").read_text()) for name in SCORED}
    assert scores["l3"]["facts"]["adaptation"]["reconstruction"] == "gated"
    assert scores["l3-mixture"]["facts"]["adaptation"]["reconstruction"] == "mixture"
    assert len({str(by_stem["raw"]) for by_stem in scores.values()}) == 3
    assert command(slide, *options) == 0  # from the stored scores
    refused(capsys, "give another --out", slide, *options, "--weight", 1.0)
