"""Tests of the benchmark of the input pipeline."""

import json

import pytest

from benchmarks import input_rate
from benchmarks.input_rate import InputRate

FIELDS = {"benchmark", "system", "implementation", "batch", "precision", "devices", "median_s", "p90_s"}
SMALL = ["--sample-rate", "8000", "--tracks", "2", "--track-seconds", "5", "--rounds", "2", "--mixtures", "32"]


def test_rows(tmp_path, monkeypatch, capsys):
    path = tmp_path / "input.json"
    monkeypatch.setattr("sys.argv", ["input_rate", *SMALL, "--on-device", "--json", str(path)])
    input_rate.main()
    row, drawn = json.loads(path.read_text())
    assert set(row) >= FIELDS | {"mixtures_per_s_and_core", "parts_s", "date", "processor", "versions", "command"}
    assert row["corpus"] == "synthetic noise"
    assert row["mixtures_per_s_and_core"] == pytest.approx(1 / row["cpu_median_s"])
    parts = dict(row["parts_s"])
    whole = parts.pop("whole")
    assert sum(parts.values()) == pytest.approx(whole)
    assert len(parts) == 8
    assert min(parts.values()) > 0
    # Measuring takes time, and machines are noisy: the sum of the parts has the order of the total, no more is certain.
    assert row["median_s"] / 5 < whole < 5 * row["median_s"]
    assert set(drawn) >= FIELDS | {"held_mib", "date", "versions", "command"}
    assert drawn["mixtures_per_s"] == pytest.approx(1 / drawn["median_s"])
    assert "silence check" in capsys.readouterr().out


def test_the_functions_are_restored(tmp_path):
    functions = [getattr(owner, name) for owner, name, _ in input_rate.PARTS]
    input_rate.measure(InputRate(sample_rate=8000, tracks=2, track_seconds=5.0, rounds=1, mixtures=8))
    assert [getattr(owner, name) for owner, name, _ in input_rate.PARTS] == functions


def test_an_unprepared_corpus_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"qsep prepare band"):
        input_rate.measure(InputRate(root=tmp_path, corpus="band"))


def test_options_are_refused():
    with pytest.raises(ValueError, match="--track-seconds must be positive, not 0"):
        InputRate(track_seconds=0).check()
