"""Tests of `benchmarks.adaptation` on a tiny network."""

import json

from benchmarks import adaptation
from qsep_jax.inference.adaptation import count_updates
from qsep_jax.runs.experiment import load_config
from tests.commands import command, refused
from tests.experiments import ROOT

CONFIG = f"{ROOT / 'configs' / 'cantisani2021.py'}:debug"


def test_songs_have_as_many_chunks_as_updates():
    system = load_config(CONFIG).system
    songs = adaptation.songs_of_noise(system, 3, 4, system.adaptation)
    assert count_updates(songs, system, system.adaptation) == 3 * 4 * system.adaptation.epochs
    assert [song.active.all(axis=1).tolist().index(False) for song in songs] == [0, 1, 2]


def test_rows_of_every_mode(tmp_path, capsys):
    out = tmp_path / "rows.json"
    options = ("--config", CONFIG, "--songs", 2, "--updates", 2, "--rounds", 1, "--split", "l5", "--json", out)
    assert command(adaptation, *options) == 0
    measured = json.loads(out.read_text())
    assert [row["implementation"] for row in measured] == ["jax, one by one", "jax, map", "jax, vmap"]
    assert [row["together"] for row in measured] == [1, 2, 2]
    assert measured[0]["ratio"] == 1.0
    assert all(row["median_s"] > 0 and row["peak_mib"] > 0 and row["date"] for row in measured)


def test_options_are_refused(tmp_path, capsys):
    out = ("--json", tmp_path / "rows.json")
    refused(capsys, "is for Lee2019", adaptation, *out, "--config", f"{ROOT / 'configs' / 'lee2019.py'}:debug")
    refused(capsys, "must be at least 1", adaptation, *out, "--songs", 0)
    assert not (tmp_path / "rows.json").exists()
