"""Tests of Table 1 from records: means over checkpoints and seeds, intervals, improvement over the mixture."""

import dataclasses
import json

import numpy as np
import pytest
from scipy import stats

from benchmarks.papers.lin2021 import seeds
from benchmarks.papers.lin2021.pairs import as_lin2021
from benchmarks.papers.lin2021.score import VARIANTS, published_config
from benchmarks.papers.records import Record, write_record
from qsep_jax.runs.experiment import load_config
from qsep_jax.runs.experiment_json import to_json
from tests.commands import command, refused
from tests.experiments import ROOT

# Two sources of seen instruments and one of an unseen one, with the SDR of the mixture.
SOURCES = {("a", "cello", 0): 1.0, ("a", "flute", 1): -1.0, ("b", "tuba", 0): 3.0}


def record(variant: str, seed: int, sdr: float, ap: float | None = None) -> Record:
    """A record with two checkpoints whose SDR is 1 dB below and above `sdr` for every source."""
    config = json.loads(to_json(load_config(f"{ROOT / 'configs' / 'lin2021.py'}:{variant},small")))
    scores: list[dict] = [
        {"step": 0, "track": track, "stem": stem, "place": place, "mixture": before, "irm": 20.0}
        for (track, stem, place), before in SOURCES.items()
    ]
    for step, change in ((100, -1.0), (200, 1.0)):
        for track, stem, place in SOURCES:
            row = {"step": step, "track": track, "stem": stem, "place": place, "sdr": sdr + change + place}
            scores.append(row | ({} if ap is None else {"ap": ap}))
    budget = {"steps": 3000, "audio_s": 1.0, "share_of_paper": 0.01}
    return Record("lin2021", f"{variant}-{seed}", config, budget, {}, {"corpus": "x"}, "SDR", scores, {})


def cell(rows, system, metric, group) -> dict:
    (row,) = (row for row in rows if (row["system"], row["metric"], row["group"]) == (system, metric, group))
    return row


def test_a_single_seed_has_an_interval_over_sources():
    rows = seeds.rows_of([record("msi", 0, 5.0, ap=0.5)])
    seen = cell(rows, "MSI", "sdr", "seen")
    assert seen["mean"] == pytest.approx(5.5)  # 5 and 6
    assert seen["ci95"] == pytest.approx(1.96 * np.std([5, 6], ddof=1) / np.sqrt(2))
    assert cell(rows, "MSI", "improvement", "seen")["mean"] == pytest.approx(5.5)
    assert cell(rows, "MSI", "improvement", "unseen")["mean"] == pytest.approx(2.0)
    assert cell(rows, "mixture", "sdr", "all")["mean"] == pytest.approx(1.0)
    assert cell(rows, "ideal ratio mask", "sdr", "all")["mean"] == pytest.approx(20.0)
    assert cell(rows, "MSI", "ap", "all")["mean"] == pytest.approx(0.5)


def test_several_seeds_have_an_interval_over_seeds():
    rows = seeds.rows_of([record("msi", seed, sdr) for seed, sdr in enumerate((4.0, 5.0, 9.0))])
    row = cell(rows, "MSI", "sdr", "seen")
    assert row["mean"] == pytest.approx(6.5)
    assert row["ci95"] == pytest.approx(stats.t.ppf(0.975, 2) * np.std([4, 5, 9], ddof=1) / np.sqrt(3))
    assert row["runs"] == ["msi-0", "msi-1", "msi-2"]


def test_systems_are_compared_on_the_same_sources():
    """The two differ by 2 dB on each source, so the difference has no spread, whatever the sources' own levels."""
    records = [record("msi", 0, 4.0), record("msi", 1, 6.0), record("mss", 0, 3.0)]
    difference = seeds.paired(records, "MSI", "MSS-only", "all")
    assert difference.mean == pytest.approx(2.0)
    assert difference.ci95 == pytest.approx(0.0, abs=1e-9)
    assert difference.count == 3


@pytest.mark.parametrize("variant", ["amt", "mss", "multitask", "msi", "msi_dis"])
def test_each_system_has_its_name_and_its_published_config(variant):
    experiment = load_config(f"{ROOT / 'configs' / 'lin2021.py'}:{variant}")
    assert published_config(as_lin2021(experiment.system, variant)) == f"lin2021:{variant}"
    assert VARIANTS[seeds.system_of(record(variant, 0, 0.0))] == variant


def test_the_command_writes_a_table_and_refuses_other_data(tmp_path, capsys):
    for variant in ("msi", "mss"):
        write_record(tmp_path / "records" / f"{variant}-0.json", record(variant, 0, 5.0))
    assert command(seeds, "--record", tmp_path / "records", "--out", tmp_path / "table") == 0
    text = (tmp_path / "table" / "table.md").read_text()
    assert "| MSI | 1 | 1.00 % | 5.50 ± 0.98 |" in text
    assert "| MSI − MSS-only | all | 3 | +0.00 ± 0.00 |" in text
    other = dataclasses.replace(record("msi", 1, 5.0), data={"corpus": "y"})
    write_record(tmp_path / "records" / "msi-1.json", other)
    message = "differ in data: {'corpus': 'y'} and {'corpus': 'x'}"
    refused(capsys, message, seeds, "--record", tmp_path / "records", "--out", tmp_path / "table")
