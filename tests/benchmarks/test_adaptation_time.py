"""`benchmarks.adaptation`, on a tiny network."""

import json

from benchmarks import adaptation
from qsep_jax.inference.adaptation import updates_of
from qsep_jax.runs.experiment import load_config
from tests.commands import command, refused
from tests.experiments import ROOT

CONFIG = f"{ROOT / 'configs' / 'cantisani2021.py'}:debug"


def test_songs_are_as_long_as_their_updates():
    system = load_config(CONFIG).system
    songs = adaptation.songs_of_noise(system, 3, 4, system.adaptation)
    assert updates_of(songs, system, system.adaptation) == 3 * 4 * system.adaptation.epochs
    assert [song.active.all(axis=1).tolist().index(False) for song in songs] == [0, 1, 2]


def test_rows_of_every_way(tmp_path, capsys):
    out = tmp_path / "rows.json"
    options = ("--config", CONFIG, "--songs", 2, "--updates", 2, "--rounds", 1, "--split", "l5", "--json", out)
    assert command(adaptation, *options) == 0
    found = json.loads(out.read_text())
    assert [row["implementation"] for row in found] == ["jax, one by one", "jax, map", "jax, vmap"]
    assert [row["together"] for row in found] == [1, 2, 2]
    assert found[0]["ratio"] == 1.0
    assert all(row["median_s"] > 0 and row["peak_mib"] > 0 and row["date"] for row in found)


def test_what_cannot_be_measured(tmp_path, capsys):
    refused(capsys, "--json is needed", adaptation)
    out = ("--json", tmp_path / "rows.json")
    refused(capsys, "is of Lee2019", adaptation, *out, "--config", f"{ROOT / 'configs' / 'lee2019.py'}:debug")
    refused(capsys, "must be at least 1", adaptation, *out, "--songs", 0)
    assert not (tmp_path / "rows.json").exists()
