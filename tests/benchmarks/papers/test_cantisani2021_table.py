"""Tests of the slides' table from records: gains over B0 and the mixture, intervals, differences to the control."""

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats

from benchmarks.papers.cantisani2021 import __main__ as reproduction
from benchmarks.papers.cantisani2021 import score, slide, table
from benchmarks.papers.records import Record, read_record, write_record
from benchmarks.papers.reproduction import Reproduction
from data_pipelines.corpora.base import Stem
from data_pipelines.prepared import store
from qsep_jax.runs.experiment import load_config
from qsep_jax.runs.experiment_json import to_json
from tests.commands import command, refused
from tests.experiments import ROOT
from tests.test_adapt import write_bundle

CONFIG = f"{ROOT / 'configs' / 'cantisani2021.py'}:band,small"
RATE = 8_000
# The SDR of the voice in the mixture, by song; that of another stem is 1, 2 or 3 dB higher.
SONGS = {"a": -4.0, "b": 0.0, "c": 1.0}
OFFSETS = {"vocals": 0.0, "bass": 1.0, "drums": 2.0, "other": 3.0}


def record(seed: int, **gains: tuple[float | None, ...]) -> Record:
    """A record with the gain of each strategy over the mixture in each song; `_` stands for `-`."""
    experiment = load_config(CONFIG)
    experiment = dataclasses.replace(experiment, train=dataclasses.replace(experiment.train, seed=seed))
    scores = []
    for name, by_song in {"mixture": (0.0, 0.0, 0.0), **gains}.items():
        for (song, before), gain in zip(SONGS.items(), by_song, strict=True):
            for stem, offset in OFFSETS.items():
                sdr = None if gain is None else before + offset + gain
                row = {"strategy": name.replace("_", "-"), "gated": False, "song": song, "stem": stem, "SDR": sdr}
                scores.append({**row, "SDR of museval's frames": None, "PES": -60.0, "EPS": -80.0})
    budget = {"steps": 3000, "audio_s": 1.0, "share_of_paper": 0.0015}
    data = {"corpus": "band_fluid", "split": "test"}
    config = json.loads(to_json(experiment))
    return Record("cantisani2021", f"tasnet-{seed}", config, budget, {}, data, "BSS Eval v4", scores, {})


def cell(rows, strategy, over="", stem=table.ALL, metric="SDR") -> dict:
    key = (strategy, over, stem, metric)
    (row,) = (row for row in rows if (row["strategy"], row["over"], row["stem"], row["metric"]) == key)
    return row


def test_gains_over_b0_and_the_mixture_have_intervals_over_songs():
    rows = table.rows_of([record(0, B0=(4.0, 4.0, 4.0), l3=(5.0, 7.0, 6.0))])
    assert cell(rows, "mixture", stem="vocals")["mean"] == pytest.approx(-1.0)
    assert cell(rows, "mixture")["mean"] == pytest.approx(0.5)  # the mean of the offsets is 1.5 dB
    assert cell(rows, "l3", stem="bass")["mean"] == pytest.approx(6.0)
    assert cell(rows, "l3", stem="bass")["median_of_songs"] == 8.0  # 2, 8 and 8
    over_base, over_mixture = cell(rows, "l3", "B0"), cell(rows, "l3", "mixture")
    assert (over_base["mean"], over_mixture["mean"]) == (2.0, 6.0)
    assert over_base["ci95"] == pytest.approx(1.96 / np.sqrt(3))  # gains of 1, 3 and 2, whatever the songs' levels
    assert (over_base["count"], over_base["songs"]) == (3, 3)
    assert cell(rows, "B0", "mixture")["mean"] == 4.0
    assert not any(row["metric"] == "SDR of museval's frames" for row in rows)  # without a score there is no row


def test_several_pretrainings_have_intervals_over_seeds():
    runs = [record(seed, B0=(0.0, 0.0, 0.0), l3=(gain, gain, gain + 3)) for seed, gain in enumerate((0.0, 1.0, 5.0))]
    row = cell(table.rows_of(runs), "l3", "B0")
    assert (row["mean"], row["count"], row["songs"]) == (3.0, 3, 3)
    assert row["ci95"] == pytest.approx(stats.t.ppf(0.975, 2) * np.std([1, 2, 6], ddof=1) / np.sqrt(3))
    assert row["median_of_songs"] == 2.0  # 2, 2 and 5


def test_strategies_are_compared_with_their_control_by_song():
    gains = {"l3": (5.0, 7.0, 6.0), "l3_mixture": (4.0, 4.0, 4.0), "l5": (9.0, 9.0, 9.0)}
    rows = table.comparison([record(0, B0=(0.0, 0.0, 0.0), **gains)])
    assert {(row["first"], row["second"]) for row in rows} == {("l3", "l3-mixture")}
    row = next(row for row in rows if (row["metric"], row["stem"]) == ("SDR", "drums"))
    assert (row["items"]["mean"], row["items"]["count"], row["seeds"]) == (2.0, 3, None)
    assert row["items"]["ci95"] == pytest.approx(1.96 / np.sqrt(3))


def test_a_song_without_a_score_counts_on_neither_side():
    rows = table.rows_of([record(0, B0=(4.0, 4.0, 4.0), l3=(5.0, None, 6.0))])
    assert (cell(rows, "l3", "B0")["mean"], cell(rows, "l3", "B0")["songs"]) == (1.5, 2)


def test_the_command_writes_tables_and_refuses_two_of_the_same_seed(tmp_path, capsys):
    folder, options = tmp_path / "records", ("--record", tmp_path / "records", "--out", tmp_path / "table")
    gains = {"B0": (4.0, 4.0, 4.0), "l3": (5.0, 5.0, 5.0), "l3_mixture": (4.5, 4.5, 4.5)}
    write_record(folder / "tasnet-0.json", record(0, **gains))
    assert command(table, *options) == 0
    text = (tmp_path / "table" / "table.md").read_text()
    assert "band_fluid, test split; BSS Eval v4; pretraining: tasnet-0, audio heard 0.15 % of the paper's" in text
    (line,) = (line for line in text.splitlines() if line.startswith("| P-L3:D | 158,862 | 7.00"))
    assert "| +1.00 ± 0.00 | +5.00 ± 0.00 |" in line
    assert "| (P-L3:D) − (P-L3:D, mixture) | SDR | mean of stems | 3 | +0.50 ± 0.00 | 1 | – |" in text
    assert "museval's frames" not in text  # none has a score
    assert "| P-L1:D | 6.1 | 8.1 | 7.4 | 6.3 |" in text
    write_record(folder / "tasnet-1.json", record(0, **gains))
    refused(capsys, "tasnet-0 and tasnet-0 are the same system with the same seed", table, *options)


def test_the_tables_have_names():
    records = [record(0, B0=(4.0, 4.0, 4.0), l3=(5.0, 5.0, 5.0), l3_mixture=(4.0, 4.0, 4.0))]
    texts = table.tables(records)
    assert list(texts) == ["sounding", "PES", "EPS", "control", "paper"]  # no score of museval's frames
    assert "intervals over songs" in texts["sounding"]


def test_rows_have_medians_over_frames():
    frames = {"SDR": [1.0, float("nan"), 9.0, 4.0], "PES": [float("nan")]}
    (row,) = score.rows_of({"l3-mixture gated": {"song": {"bass": frames}}})
    assert row == {"strategy": "l3-mixture", "gated": True, "song": "song", "stem": "bass", "SDR": 4.0, "PES": None}


def write_songs(root: Path, count: int) -> None:
    """Write the corpus `own` with songs of noise."""
    songs = [
        [
            Stem(stem, (3_000 * np.random.default_rng([song, n]).normal(size=(8 * RATE, 2))).astype(np.int16))
            for n, stem in enumerate(OFFSETS)
        ]
        for song in range(count)
    ]
    tracks = {"test": iter([store.segments(f"song{n}", song, RATE) for n, song in enumerate(songs)])}
    folder = store.corpus_folder(root, "own", RATE)
    store.write(folder, "own", RATE, 2, tracks, fingerprint="0", options={"kind": "toy"})


def test_a_killed_adaptation_keeps_the_songs_that_are_complete(tmp_path, monkeypatch):
    write_songs(tmp_path / "data", 2)
    model = write_bundle("cantisani2021.py:debug", tmp_path / "model")

    def killed(*arguments, **options):
        yield SimpleNamespace(parameters={})
        raise KeyboardInterrupt

    monkeypatch.setattr(slide.adaptation, "adapt", killed)
    options = slide.Slide(model=str(model), root=str(tmp_path / "data"), corpus="own", splits=("l5",), shifts=0)
    with pytest.raises(KeyboardInterrupt):
        slide.measure(dataclasses.replace(options, hop=4.0, out=tmp_path / "out"))
    assert [path.name for path in (tmp_path / "out" / "scores" / "l5").iterdir()] == ["song0.json"]


@pytest.mark.slow
def test_the_record_has_every_strategy_and_the_mixture(tmp_path):
    write_songs(tmp_path / "data", 1)
    model = write_bundle("cantisani2021.py:debug", tmp_path / "model")
    options = ("--model", model, "--root", tmp_path / "data", "--corpus", "own", "--out", tmp_path / "out")
    options = (*options, "--splits", "l5", "l5-mixture", "--shifts", 0, "--epochs", 1, "--hop", 4.0, "--rate", 1e-3)
    assert command(score, *options, "--record", tmp_path / "record.json") == 0
    stored = read_record(tmp_path / "record.json")
    assert table.names_of([stored])[::2] == ["mixture", "B0", "l5", "l5-mixture"]
    assert len(stored.scores) == 4 * 2 * 4  # strategies, gated and not, stems
    assert "1 epochs over chunks of 0.5 s every 4 s with 0 pitch copies at learning rate 0.001" in stored.protocol
    mixture = table.scores_of(stored, "mixture", slide.SDR["sounding"], "bass")["song0"]
    assert mixture == pytest.approx(10 * np.log10(1 / 2.25), abs=1.0)  # beside three others, each three quarters long
    before, after, control = (table.scores_of(stored, name, "SDR", "bass") for name in ("B0", "l5", "l5-mixture"))
    assert len({before["song0"], after["song0"], control["song0"]}) == 3


def test_published_weights_take_the_place_of_a_training(tmp_path):
    options = Reproduction(data=tmp_path, out=Path("out"), seeds=2)
    names = [job.name for job in reproduction.plan(options)]
    assert names == ["prepare/musdb18", "train/tasnet-0", "train/tasnet-1", "table"]
    (tmp_path / "tasnet.th").write_bytes(b"")
    _, published, _ = reproduction.plan(options)
    assert published.name == "train/published"
    assert published.commands[0][-5:] == (
        "--train.steps",
        "0",
        "--train.weights",
        "tasnet",
        str(tmp_path / "tasnet.th"),
    )
    small = [job.name for job in reproduction.plan(dataclasses.replace(options, small=True))]
    assert small == ["prepare/band", "prepare/band_fluid", "train/tasnet-0", "train/tasnet-1", "table"]
