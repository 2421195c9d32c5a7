"""Tests of the tables from records: scores as rows and back, intervals over pieces and seeds, paired differences."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from benchmarks.papers.records import Record, read_records, write_record
from benchmarks.papers.slizovskaia2021 import figures, paper, recorded, runs, score, summary
from data_pipelines.schema import INSTRUMENTS
from qsep_jax.inference.model import Model
from qsep_jax.metrics.aggregate import summarize_few
from qsep_jax.metrics.protocols import Protocol
from qsep_jax.runs.experiment import load_config
from qsep_jax.runs.experiment_json import to_json
from tests.commands import command, refused
from tests.experiments import ROOT
from tests.pieces import ON_LABELS, STEMS, UNCONDITIONED, write_bundle, write_pieces

CONFIG = f"{ROOT / 'configs' / 'slizovskaia2021.py'}"
PIECES = {"a": ("cello", "violin"), "b": ("flute", "viola"), "c": ("horn", "oboe")}
SEGMENTS = 4


def record(experiment: int, seed: int, gains: dict[str, float], share: float = 0.0015) -> Record:
    """A record in which the model is better than the mixture by a number of dB for each piece, in all metrics."""
    config = json.loads(to_json(load_config(f"{CONFIG}:exp{experiment},small")))
    config["train"]["seed"] = seed
    rng, scores = np.random.default_rng(0), []
    for track, playing in PIECES.items():
        for stem in INSTRUMENTS:
            before = rng.normal(-3, 4, SEGMENTS)
            for estimate in ("model_w0", "model_w2", "mixture", "irm"):
                gain = {"mixture": 0.0, "irm": 15.0, "model_w0": 0.0}.get(estimate, gains[track])
                plays = stem in playing
                metrics = [name for name in paper.METRICS if plays != (name == "PES")]
                values = {name: [round(value + gain, 3) for value in before] for name in metrics}
                if not plays:
                    values = {"PES": [-10.0] * SEGMENTS}
                scores.append({"track": track, "stem": stem, "plays": plays, "estimate": estimate, **values})
    data = {
        "corpus": "chamber",
        "fingerprint": "f",
        "split": "test",
        "sample_rate": 11025,
        "seconds": 5.944,
        "tracks": 3,
    }
    budget = {"steps": 3000, "audio_s": 1.0, "share_of_paper": share}
    return Record("slizovskaia2021", f"exp{experiment}-{seed}", config, budget, {}, data, "segments", scores, {})


def row_of(rows, experiment, estimate, metric) -> dict:
    key = (experiment, estimate, metric)
    (row,) = (row for row in rows if (row["experiment"], row["estimate"], row["metric"]) == key)
    return row


def rows_of(*records: Record) -> list[dict]:
    return summary.rows_of([recorded.from_record(one) for one in records])


def test_an_interval_over_pieces_is_that_over_their_means_if_they_are_of_one_length():
    rng = np.random.default_rng(1)
    values = {
        (piece, segment, "cello"): rng.normal(number) for number, piece in enumerate("abcd") for segment in range(5)
    }
    means = np.array([np.mean([values[piece, segment, "cello"] for segment in range(5)]) for piece in "abcd"])
    result, expected = summary.over_pieces(values), summarize_few(means)
    assert (result.mean, result.ci95, result.count) == pytest.approx((expected.mean, expected.ci95, 4))


def test_a_piece_counts_by_its_segments():
    values = {("long", segment, "cello"): 1.0 for segment in range(9)} | {("short", 0, "cello"): 11.0}
    result = summary.over_pieces(values)
    assert result.mean == pytest.approx(2.0)
    # Residuals of −9 and 9 around the mean: √(2 · (81 + 81)) / 10.
    assert result.ci95 == pytest.approx(stats.t.ppf(0.975, 1) * 1.8)
    assert summary.over_pieces({("one", 0, "cello"): 1.0}).ci95 == 0.0


def test_a_single_seed_has_the_improvement_with_an_interval_over_pieces():
    row = row_of(rows_of(record(6, 0, {"a": 1.0, "b": 2.0, "c": 6.0})), 6, "model_w2", "SI-SDR")
    assert row["mean"] == pytest.approx(3.0)
    assert row["ci95"] == pytest.approx(stats.t.ppf(0.975, 2) * np.std([1, 2, 6], ddof=1) / np.sqrt(3))
    assert row["count"] == 3
    assert row["share_of_paper"] == pytest.approx(0.0015)


def test_several_seeds_have_an_interval_over_seeds():
    gains = [{"a": gain, "b": gain + 1, "c": gain - 1} for gain in (1.0, 2.0, 6.0)]
    rows = rows_of(*(record(6, seed, by_piece) for seed, by_piece in enumerate(gains)))
    row = row_of(rows, 6, "model_w2", "SDR")
    assert row["mean"] == pytest.approx(3.0)
    assert row["ci95"] == pytest.approx(stats.t.ppf(0.975, 2) * np.std([1, 2, 6], ddof=1) / np.sqrt(3))
    assert row["runs"] == ["exp6-0", "exp6-1", "exp6-2"]
    assert row_of(rows, 6, "model_w0", "SI-SDR")["mean"] == pytest.approx(0.0)
    assert row_of(rows, 6, "model_w2", "PES")["mean"] == pytest.approx(-10.0)  # a level, not an improvement


def test_differences_are_paired_and_averaged_over_seeds():
    base = record(6, 0, {"a": 1.0, "b": -2.0, "c": 7.0})
    better = [record(9, seed, {"a": 1.0 + more, "b": -2.0 + more, "c": 7.0 + more}) for seed, more in enumerate((1, 3))]
    row = row_of(rows_of(base, *better), 9, "model_w2", "difference")
    assert row["mean"] == pytest.approx(2.0)
    assert row["ci95"] == pytest.approx(0.0, abs=1e-6)  # the same on all pieces, which differ much
    assert row["against"] == 6


@pytest.mark.parametrize(("experiment", "base"), [(1, 0), (2, 1), (6, 0), (7, 1), (9, 6), (16, 6), (21, 6), (22, 6)])
def test_each_experiment_is_compared_with_that_of_the_paper(experiment, base):
    assert summary.base_of(experiment) == base


def test_the_command_writes_all_tables(tmp_path, capsys):
    gains = {"a": 1.0, "b": 2.0, "c": 6.0}
    for one in (record(6, 0, gains), record(6, 1, gains), record(9, 0, gains), record(22, 0, gains)):
        write_record(tmp_path / "records" / f"{one.run}.json", one)
    assert command(summary, "--record", tmp_path / "records", "--out", tmp_path / "out") == 0
    text = (tmp_path / "out" / "table.md").read_text()
    assert "Table III. chamber, test split, 3 tracks" in text
    assert "seed 0; dB" in text
    assert text.count("| w/o conditioning | 6 | 2 |") == 2  # Table III and section 5.4, the first seed only
    assert "exp6-1" not in text
    assert (
        "| FiLM-encoder | 9 | 1 | 0.15 % | 2 | +3.00 ± 6.57 | -0.5 | +3.00 ± 6.57 | -10.00 ± 0.00 | 6 | +0.00 ± 0.00 |"
        in text
    )
    assert "| linear STFT, w/o conditioning | 6 | 2 | 0.15 % | 2 | +3.00 ± 0.00 | -3.7 |" in text
    assert "| 0.15 % | 0 | +0.00 ± 0.00 | – |" in text  # the paper has no numbers without the filter
    assert set(summary.tables(read_records([tmp_path / "records"]))) == {"II", "III", "IV", "5.4", "improvement"}
    other = record(11, 0, gains)
    other = dataclasses.replace(other, data={**other.data, "seconds": 1.486})
    write_record(tmp_path / "records" / "exp11-0.json", other)
    refused(capsys, "differ in data", summary, "--record", tmp_path / "records", "--out", tmp_path / "out")
    refused(capsys, "--record is needed", summary)


def quick_score(self, references, estimates, rate):
    """Instead of BSS Eval, which takes a minute: the mean level, as PES of silent segments and as all other metrics."""
    signals = (audio.reshape(len(STEMS), -1, round(self.window * rate)) for audio in (references, estimates))
    reference, estimate = (np.abs(audio).mean(2, dtype=float) for audio in signals)
    values = np.where(reference > 0, 100 * estimate, np.nan), np.where(reference > 0, np.nan, 100 * estimate)
    return {name: number + values[name == "PES"] for number, name in enumerate(self.metrics)}


@pytest.fixture(scope="module")
def scored(tmp_path_factory) -> tuple[runs.Run, Record]:
    """The bundle of an untrained experiment 6, scored in segments of half of its length, and the record."""
    folder = tmp_path_factory.mktemp("scored")
    bundle = write_bundle(UNCONDITIONED, folder / "exp6-0", write_pieces(folder / "data"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("data_pipelines.console._set_up", lambda: None)
        patch.setattr(Protocol, "score", quick_score)
        patch.chdir(folder)  # bundles are evaluated in the current folder
        options = ("--workdir", bundle, "--record", folder / "exp6-0.json", "--frames", 32)
        assert command(score, *options, "--wiener", 0, 1) == 0
        assert command(score, *options) == 0
        run = runs.read(bundle, "pieces", "test")
    (result,) = read_records([folder / "exp6-0.json"])
    return run, result


def test_a_record_has_every_score(scored):
    run, result = scored
    kinds = ["model_w0", "model_w2", "mixture", "irm"]
    assert list(dict.fromkeys(row["estimate"] for row in result.scores)) == kinds  # none of the earlier evaluation
    rows = {(row["estimate"], row["track"], row["stem"]): row for row in result.scores}
    assert len(rows) == len(result.scores) == 4 * 3 * len(STEMS)
    for kind in kinds:
        for scores in run.scores[kind]:
            for stem, metrics in scores.stems.items():
                row = rows[kind, scores.track, stem]
                for metric, values in metrics.items():
                    stored = np.array(row.get(metric, [None] * len(values)), float)
                    np.testing.assert_allclose(stored, values, atol=6e-4)  # NaN where there is no score
    assert len(rows["irm", "duet", "violin"]["SI-SDR"]) == 6
    assert result.data["seconds"] == pytest.approx(0.128)
    assert result.data["tracks"] == 3
    assert result.budget["share_of_paper"] < 1


def test_bounds_are_taken_from_another_record_of_the_same_segments(scored, monkeypatch):
    """They do not depend on the model. Segments of another length have bounds of their own."""
    _, result = scored
    folder = Path(result.experiment().data.root).parent
    bundle = write_bundle(ON_LABELS, folder / "exp8-0", folder / "data")
    counted = []

    def counting(self, references, estimates, rate):
        counted.append(references.shape)
        return quick_score(self, references, estimates, rate)

    monkeypatch.setattr(Protocol, "score", counting)
    monkeypatch.chdir(folder)
    options = ("--workdir", bundle, "--record", folder / "exp8-0.json")
    assert command(score, *options, "--frames", 32) == 0
    assert len(counted) == 2 * 3
    (other,) = read_records([folder / "exp8-0.json"])
    bounds = [[row for row in one.scores if row["estimate"] in ("mixture", "irm")] for one in (result, other)]
    assert bounds[0] == bounds[1]
    assert len(bounds[0]) == 2 * 3 * len(STEMS)
    estimates = [[row for row in one.scores if row["estimate"] == "model_w0"] for one in (result, other)]
    assert estimates[0] != estimates[1]
    counted.clear()
    assert command(score, *options) == 0
    assert len(counted) == 4 * 3


def test_a_run_is_read_from_its_record(scored):
    expected, result = scored
    run = recorded.from_record(result)
    assert (run.experiment, run.corpus, run.split, run.seed) == (6, "pieces", "test", 0)
    for kind in run.scores:
        for metric in paper.METRICS:
            values = expected.values(kind, metric)
            assert run.values(kind, metric) == pytest.approx(values, abs=6e-4)
    assert run.of("model_w2", "SI-SDR", sources=3).size == expected.of("model_w2", "SI-SDR", sources=3).size > 0
    assert [track.facts["sources"] for track in run.tracks] == [track.facts["sources"] for track in expected.tracks]


def test_figures_are_drawn_from_records(tmp_path, capsys):
    gains = {"a": 1.0, "b": 2.0, "c": 6.0}
    for one in (record(6, 0, gains), record(11, 0, gains)):
        write_record(tmp_path / "records" / f"{one.run}.json", one)
    options = ("--record", tmp_path / "records", "--out", tmp_path / "out")
    assert command(figures, *options, "--figures", 3, 4, 6) == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["figure3.png", "figure4.png", "figure6.png"]
    refused(capsys, "needs the run folder of exp11-0: give it by --runs", figures, *options, "--figures", 5)


def test_a_model_gets_the_length_of_the_scored_segments():
    """Figure 5 shows the segment with the median score, which has the length of the evaluation."""
    model = Model(UNCONDITIONED, {})
    assert runs.of_length(model, 0.256) is model
    assert runs.of_length(model, 0.512).system.chunk_samples == 4096
