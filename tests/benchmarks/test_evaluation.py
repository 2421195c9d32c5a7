"""Tests of the benchmark of evaluation."""

import json
import sys

import numpy as np
import pytest

from benchmarks import evaluation
from benchmarks.evaluation import Evaluation
from qsep_jax.metrics.bss_eval import bss_eval

FIELDS = {"benchmark", "system", "implementation", "batch", "precision", "devices", "median_s", "p90_s"}
MEMORY = {"idle_mib", "peak_mib", "peak_above_idle_mib"}
TINY = ["--stems", "2", "--seconds", "2", "--sample-rate", "8000", "--rounds", "2"]
# A replacement of museval: its SDR is wrong by a quarter of a decibel, and its other scores are arbitrary.
PEER = """
import numpy as np

def bss_eval(references, estimates, window, hop):
    s, e = (signals.reshape(len(signals), -1, 2 * window).astype(float) for signals in (references, estimates))
    sdr = 10 * np.log10((s**2).sum(-1) / ((e - s) ** 2).sum(-1)) + 0.25
    return sdr, sdr * np.inf, sdr * np.nan, sdr, None
"""


@pytest.mark.slow
def test_rows_beside_museval(tmp_path, monkeypatch, capsys):
    peer = tmp_path / "museval" / "metrics.py"
    peer.parent.mkdir()
    peer.write_text(PEER)
    path = tmp_path / "new" / "rows.json"
    monkeypatch.setattr("sys.argv", ["evaluation", *TINY, "--json", str(path), "--museval", str(peer)])
    evaluation.main()
    alone, everything, museval = json.loads(path.read_text())
    for row in (alone, everything, museval):
        assert set(row) >= FIELDS | MEMORY | {"first_call_s", "date", "processor", "versions", "command", "commit"}
        assert 0 < row["median_s"] <= row["p90_s"]
        assert row["first_call_s"] > 0
        assert row["peak_mib"] == pytest.approx(row["idle_mib"] + row["peak_above_idle_mib"])
        assert row["peer"] == "museval unknown"
    assert [row["implementation"] for row in (alone, everything, museval)] == ["jax", "jax", "museval"]
    assert [row["devices"] for row in (alone, everything, museval)] == [0, 1, 0]
    assert alone["largest_difference_db"] == {"SDR": pytest.approx(0.25)}
    differences = everything["largest_difference_db"]
    assert differences["SDR"] == pytest.approx(0.25)
    assert differences["ISR"] == differences["SIR"] == np.inf
    assert 0 < differences["SAR"] < 100
    assert 0 < everything["times_faster_than_museval"] < alone["times_faster_than_museval"]
    assert everything["times_less_peak_than_museval"] == pytest.approx(museval["peak_mib"] / everything["peak_mib"])
    assert "largest difference from museval SDR 2.5e-01 dB" in capsys.readouterr().out


def test_the_rows_state_that_museval_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "museval", None)
    makers, peer = evaluation.contestant_makers(None)
    assert set(makers) == {evaluation.ALONE, evaluation.ALL}
    assert peer.startswith("left out: the package museval cannot be loaded (ModuleNotFoundError: ")
    facts = {name: {"scores": {"SDR": np.zeros((1, 1))}, "peak_mib": 1.0} for name in makers}
    for row in evaluation.comparison_rows({name: [1.0] for name in makers}, facts):
        assert "times_faster_than_museval" not in row


@pytest.mark.parametrize("content", [None, "import no_such_module", "x = 1"])
def test_a_museval_that_cannot_be_loaded(tmp_path, content):
    path = tmp_path / "metrics.py"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ValueError, match=r"metrics\.py cannot be loaded \("):
        evaluation.measure(Evaluation(museval=path))


def test_ratios_and_differences():
    """Ratios of time are taken within a round; a larger ratio means a faster `qsep_jax`."""
    scores = {name: np.array([[1.0, np.nan], [np.inf, 2.0]]) for name in evaluation.METRICS}
    theirs = {**scores, "SAR": np.array([[1.5, np.nan], [np.inf, 2.0]])}
    facts = {
        evaluation.ALONE: {"scores": {"SDR": scores["SDR"]}, "peak_mib": 100.0, "peak_above_idle_mib": 0.0},
        evaluation.ALL: {"scores": scores, "peak_mib": 200.0, "peak_above_idle_mib": 50.0},
        evaluation.PEER: {"scores": theirs, "peak_mib": 400.0, "peak_above_idle_mib": 200.0},
    }
    times = {evaluation.ALONE: [1.0, 2.0], evaluation.ALL: [2.0, 4.0], evaluation.PEER: [20.0, 40.0]}
    alone, everything, museval = evaluation.comparison_rows(times, facts)
    assert (alone["times_faster_than_museval"], everything["times_faster_than_museval"]) == (20.0, 10.0)
    assert (alone["times_less_memory_than_museval"], alone["times_less_peak_than_museval"]) == (None, 4.0)
    assert (everything["times_less_memory_than_museval"], everything["times_less_peak_than_museval"]) == (4.0, 2.0)
    assert everything["largest_difference_db"] == {"SDR": 0.0, "ISR": 0.0, "SIR": 0.0, "SAR": 0.5}
    assert "times_faster_than_museval" not in museval
    assert evaluation.largest_difference(np.array([[1.0]]), np.array([[np.nan]])) == np.inf


def test_signals():
    options = Evaluation(stems=3, seconds=3.0, sample_rate=8000)
    signals = evaluation.make_signals(options)
    again = evaluation.make_signals(options)
    for which in evaluation.SIGNALS:
        assert (signals[which].shape, signals[which].dtype) == ((3, 24_000, 2), np.float32)
        np.testing.assert_array_equal(signals[which], again[which])
        assert np.abs(signals[which]).max() < 1
    sdr = bss_eval(signals["references"], signals["estimates"], 8000, metrics=["SDR"])["SDR"]
    assert ((sdr > 0) & (sdr < 25)).all()


@pytest.mark.parametrize(
    ("changes", "message"), [({"rounds": 0}, "--rounds must be positive, not 0"), ({"seconds": 0.5}, "at least 1")]
)
def test_options_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        Evaluation(**changes).check()
