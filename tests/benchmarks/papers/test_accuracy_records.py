"""Tests of accuracy records: what they state, and that they are read as they were written."""

import dataclasses
import json

import pytest

from benchmarks.papers import records
from qsep_jax.runs.experiment import load_config
from qsep_jax.runs.experiment_json import write_config
from qsep_jax.runs.folder import RunFolder
from tests.experiments import ROOT

CONFIG = f"{ROOT / 'configs' / 'lin2021.py'}"


@pytest.fixture
def run(tmp_path):
    """A run folder with a config and a log: 100 steps of 12 pairs at 24 and at 48 pairs per second."""
    folder = tmp_path / "msi-0"
    folder.mkdir()
    write_config(folder / "config.json", load_config(f"{CONFIG}:msi,small"))
    (folder / "environment.json").write_text(json.dumps([{"commit": "abc"}]))
    lines = [{"step": 0}, {"step": 50, "examples_per_second": 24}, {"step": 100, "examples_per_second": 48}]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return RunFolder(folder)


def record_of(run: RunFolder) -> records.Record:
    scores = [
        {"step": 100, "track": "a", "stem": "cello", "sdr": 1.23456789},
        {"track": "b", "stem": "viola", "sdr": -2.0},
    ]
    return records.make_record(
        "lin2021", run, f"{CONFIG}:msi", data={"corpus": "chamber_shifted"}, protocol="SDR", scores=scores
    )


def test_a_record_states_the_budget_beside_the_papers(run):
    experiment, record = run.experiment(), record_of(run)
    pairs, seconds = experiment.train.steps * 12, experiment.system.example_samples / experiment.system.sample_rate
    assert record.budget["audio_s"] == pytest.approx(pairs * seconds)
    assert record.budget["share_of_paper"] == pytest.approx(pairs * seconds / (104_000 * 12 * 3.0))
    assert record.training == {"seconds": 50 * 12 / 24 + 50 * 12 / 48, "starts": [{"commit": "abc"}]}
    assert record.run == "msi-0"
    assert record.config["train"]["seed"] == 0


def test_the_budget_of_a_run_that_ended_early_is_what_it_heard(run):
    experiment = run.experiment()
    train = dataclasses.replace(experiment.train, patience=1, validate_every=100, save_every=100)
    write_config(run.path / "config.json", dataclasses.replace(experiment, train=train))
    assert record_of(run).budget["steps"] == 100
    assert record_of(run).budget["share_of_paper"] == pytest.approx(100 / 104_000)


def test_scores_that_json_lacks_are_null():
    assert [records.finite(score) for score in (1.5, float("nan"), float("inf"))] == [1.5, None, None]


def test_records_are_read_as_they_were_written(run, tmp_path):
    record, folder = record_of(run), tmp_path / "records"
    records.write_record(folder / "msi-0.json", record)
    assert records.read_records([folder]) == [record]
    assert records.read_records([folder / "msi-0.json"]) == [record]
    assert record.scores[0]["sdr"] == 1.2346


def test_other_files_are_refused(tmp_path):
    (tmp_path / "rows.json").write_text("[1]")
    with pytest.raises(ValueError, match=r"rows\.json is no accuracy record: its fields must be budget, circumstances"):
        records.read_records([tmp_path])
    (tmp_path / "folder").mkdir()
    with pytest.raises(ValueError, match="no record of a scored run: score a run first"):
        records.read_records([tmp_path / "folder"])
