"""Tests of the benchmark of seams: it detects a change of level, and reports none where there is none."""

import json

import numpy as np
import pytest

from benchmarks import seams
from qsep_jax.inference.chunks import ChunkPlan
from tests.commands import command

NOISE = np.random.default_rng(0).normal(0, 0.1, (30, 50))


def test_seams_are_at_the_fades():
    plan = ChunkPlan(64, 8, 8)
    weights = np.zeros((3, 300))
    for number, start in enumerate(plan.starts(300)[1:4]):
        weights[number, start : start + 64] = plan.weights()
    for start in seams.seam_starts(plan, 300)[1:3]:
        chunks = (weights[:, start : start + 8] > 0).sum(axis=0)
        assert (chunks == 2).all()
    np.testing.assert_array_equal(seams.seam_starts(plan, 300, 20)[:2], seams.seam_starts(plan, 300)[:2] - 20)


def test_a_jump_is_detected_and_equal_signals_have_none():
    same = seams.compare(NOISE, NOISE, NOISE)
    assert np.abs(same["levels"]).max() == same["together"][0] == 0
    louder = seams.compare(NOISE, 1.1 * NOISE, NOISE)
    np.testing.assert_allclose(louder["levels"], 20 * np.log10(1.1))
    worse = seams.compare(NOISE, NOISE + 0.05 * np.roll(NOISE, 1), NOISE)
    assert worse["si_sdr"][0, 0] == pytest.approx(26, abs=1)
    assert worse["si_sdr"][0, 1] > 80
    assert len(seams.compare(NOISE, 1e-3 * NOISE, NOISE)["levels"]) == 0


def test_the_row_of_a_model(run, tmp_path):
    options = ("--model", run, "--root", run.parent / "data", "--mixtures", 2, "--seconds", 2, "--json", tmp_path / "x")
    assert command(seams, *options) == 0
    (row,) = json.loads((tmp_path / "x").read_text())
    assert row["seams"] > 10
    assert row["si_sdr_difference_db"] == pytest.approx(row["si_sdr_seam_db"] - row["si_sdr_middle_db"], abs=1e-4)
