"""Tests of the slides' table from records: means over songs and seeds, improvement over the mixture, differences."""

import dataclasses
import json

import numpy as np
import pytest
from scipy import stats

from benchmarks.papers.records import Record, read_record, write_record
from benchmarks.papers.stoller2018 import score, seeds
from qsep_jax.runs.experiment import load_config
from qsep_jax.runs.experiment_json import to_json
from tests.commands import command, refused
from tests.experiments import ROOT, write_corpora
from tests.test_adapt import write_bundle

# The SDR of the voice in the mixture, by corpus and song.
SONGS = {("one", "a"): -1.0, ("two", "b"): -2.0, ("two", "c"): -6.0}


def record(variant: str, seed: int, *sdr: float | None) -> Record:
    """A record with the SDR of the voice of each song; that of the accompaniment is 10 dB higher."""
    experiment = load_config(f"{ROOT / 'configs' / 'stoller2018.py'}:{variant},band,small")
    experiment = dataclasses.replace(experiment, train=dataclasses.replace(experiment.train, seed=seed))
    scores = []
    for (corpus, track), voice, before in zip(SONGS, sdr, SONGS.values(), strict=True):
        for stem, offset in (("vocals", 0.0), ("accompaniment", 10.0)):
            row = {"corpus": corpus, "track": track, "stem": stem, "SDR": None if voice is None else voice + offset}
            row |= {"SIR": 20.0, "SAR": None, "mixture_SDR": before + offset, "mixture_SIR": 0.0, "mixture_SAR": 200.0}
            scores.append(row)
    config, budget = json.loads(to_json(experiment)), {"steps": 2000, "audio_s": 1.0, "share_of_paper": 0.01}
    data = {"corpus": "one+two", "split": "test"}
    return Record("stoller2018", f"{variant}-{seed}", config, budget, {}, data, "BSS Eval v3", scores, {})


def cell(rows, system, corpus, metric, stem="vocals") -> dict:
    key = (system, corpus, metric, stem)
    (row,) = (row for row in rows if (row["system"], row["corpus"], row["metric"], row["stem"]) == key)
    return row


def test_a_single_seed_has_an_interval_over_songs_and_corpora_are_pooled_by_song():
    rows = seeds.rows_of([record("va", 0, 1.0, 4.0, 2.0)])
    assert cell(rows, "VA", "all", "SDR")["mean"] == pytest.approx(7 / 3)
    assert cell(rows, "VA", "all", "SDR", "accompaniment")["mean"] == pytest.approx(37 / 3)
    two = cell(rows, "VA", "two", "SDR")
    assert (two["mean"], two["songs"]) == (3.0, 2)
    assert two["ci95"] == pytest.approx(1.96 * np.std([4, 2], ddof=1) / np.sqrt(2))
    assert cell(rows, "mixture", "two", "SDR")["mean"] == -4.0
    gain = cell(rows, "VA", "two", "SDR improvement")
    assert gain["mean"] == 7.0  # 4 + 2 and 2 + 6
    assert gain["ci95"] == pytest.approx(1.96 * np.std([6, 8], ddof=1) / np.sqrt(2))
    assert not any(row["metric"] == "SAR" and row["system"] == "VA" for row in rows)  # no song has it


def test_several_seeds_have_an_interval_over_seeds():
    runs = [record("v", seed, 0.0, sdr, sdr + 2) for seed, sdr in enumerate((1.0, 2.0, 6.0))]
    row = cell(seeds.rows_of(runs), "V", "two", "SDR")
    assert (row["mean"], row["count"], row["songs"]) == (4.0, 3, 2)
    assert row["ci95"] == pytest.approx(stats.t.ppf(0.975, 2) * np.std([1, 2, 6], ddof=1) / np.sqrt(3))
    assert row["runs"] == ["v-0", "v-1", "v-2"]


def test_differences_are_paired_by_song_and_by_seed():
    """VA is better by 1, 2 and 3 dB with seed 0, and by 3, 4 and 5 dB with seed 1; the songs' own levels cancel."""
    runs = [record("supervised", 0, 0.0, 10.0, 20.0), record("supervised", 1, 5.0, -10.0, 0.0)]
    runs += [record("va", 0, 1.0, 12.0, 23.0), record("va", 1, 8.0, -6.0, 5.0)]
    rows = seeds.comparison(runs)
    key = ("VA", "baseline", "all", "SDR", "vocals")
    (row,) = (row for row in rows if (row["first"], row["second"], row["corpus"], row["metric"], row["stem"]) == key)
    assert (row["items"]["mean"], row["items"]["count"]) == (3.0, 3)  # 2, 3, 4
    assert row["items"]["ci95"] == pytest.approx(1.96 * 1.0 / np.sqrt(3))
    assert (row["seeds"]["mean"], row["seeds"]["count"]) == (3.0, 2)  # 2, 4
    assert row["seeds"]["ci95"] == pytest.approx(stats.t.ppf(0.975, 1) * np.std([2, 4], ddof=1) / np.sqrt(2))
    assert not any(row["first"] == "V" for row in rows)


def test_a_song_without_a_score_is_left_out_of_both_sides():
    runs = [record("supervised", 0, 0.0, 1.0, 2.0), record("v", 0, 1.0, 3.0, None)]
    rows = seeds.comparison(runs)
    pooled = next(row for row in rows if (row["corpus"], row["metric"], row["stem"]) == ("all", "SDR", "vocals"))
    assert (pooled["items"]["mean"], pooled["items"]["count"], pooled["seeds"]) == (1.5, 2, None)


def test_the_command_writes_tables_and_refuses_what_cannot_be_compared(tmp_path, capsys):
    folder, options = tmp_path / "records", ("--record", tmp_path / "records", "--out", tmp_path / "table")
    for variant, sdr in (("va", 3.0), ("supervised", 1.0)):
        write_record(folder / f"{variant}-0.json", record(variant, 0, sdr, sdr, sdr))
    assert command(seeds, *options) == 0
    text = (tmp_path / "table" / "table.md").read_text()
    assert text.index("| all | mixture | 3 | – | – | -3.00") < text.index("| all | baseline | 3 | 1 | 1.00 % | 1.00")
    assert "| VA − baseline | all | SDR vocals | 3 | +2.00 ± 0.00 | 1 | – |" in text
    assert "dB, paper" not in text  # other corpora than the paper's
    write_record(folder / "va-1.json", record("va", 0, 0.0, 0.0, 0.0))
    refused(capsys, "va-0 and va-0 are the same system with the same seed", seeds, *options)
    other = dataclasses.replace(record("va", 1, 0.0, 0.0, 0.0), protocol="BSS Eval v4")
    write_record(folder / "va-1.json", other)
    refused(capsys, "va-1 and supervised-0 differ in protocol: BSS Eval v4 and BSS Eval v3", seeds, *options)


@pytest.mark.parametrize("variant", ["supervised", "v", "va"])
def test_each_system_has_its_published_config(variant):
    system = load_config(f"{ROOT / 'configs' / 'stoller2018.py'}:{variant}").system
    assert score.published_config(system) == f"stoller2018:{variant}"


def test_other_systems_are_refused():
    system = load_config(f"{ROOT / 'configs' / 'stoller2018.py'}:va,band,four").system
    with pytest.raises(ValueError, match="none of the systems of the slides"):
        score.published_config(system)


@pytest.mark.slow
def test_every_song_of_every_corpus_is_in_the_record(tmp_path, monkeypatch):
    config = "stoller2018.py:supervised,debug"
    model = write_bundle(config, tmp_path / "model")
    experiment = load_config(f"{ROOT / 'configs' / config}")
    write_corpora(experiment, tmp_path / "data")
    monkeypatch.chdir(tmp_path)  # bundles have the default root, and their evaluations go to ./evaluation
    assert command(score, "--workdir", model, "--record", "record.json", "--tracks", 1) == 0
    stored = read_record(tmp_path / "record.json")
    assert list(stored.data["fingerprints"]) == ["dsd100", "medleydb", "ccmixter", "ikala"]
    assert [(row["corpus"], row["stem"]) for row in stored.scores] == [
        (corpus, stem) for corpus in stored.data["fingerprints"] for stem in ("vocals", "accompaniment")
    ]
    for row in stored.scores:
        assert row["track"] == "test0"
        assert row["mixture_SDR"] == pytest.approx(row["mixture_SIR"], abs=0.1)  # the other stem is all that is wrong
        assert np.isfinite(row["SDR"])
        assert row["SDR"] != row["mixture_SDR"]
