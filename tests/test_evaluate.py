"""The sub-commands `tracks` and `folders`, comparison of runs, and arguments without a sub-command."""

import dataclasses
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from qsep_jax import evaluate
from qsep_jax.evaluation import estimates
from qsep_jax.evaluation.comparison import comparison_table
from qsep_jax.metrics.bss_eval import bss_eval
from qsep_jax.metrics.protocols import Protocol
from qsep_jax.metrics.tracks import TrackScores
from qsep_jax.runs.folder import RunFolder
from tests.commands import command, refused
from tests.experiments import write_corpora

RATE = 8_000
SDR = ("--protocol", "bss_eval_v4_sdr")  # the fastest protocol


@pytest.mark.slow
def test_an_evaluation_that_was_killed_continues(run, tmp_path, monkeypatch):
    """Only the remaining tracks are scored, and the results equal those of an uninterrupted evaluation."""
    scored, stop_after = [], 99

    def recorded(self, references, estimates, rate):
        scored.append(references.shape)
        if len(scored) > stop_after:
            raise KeyboardInterrupt
        return score(self, references, estimates, rate)

    score = Protocol.score
    monkeypatch.setattr(Protocol, "score", recorded)
    options = ("tracks", "--workdir", run, *SDR, "--ask", "mean", "gt", "--oracle", "mixture", "irm", "ibm")
    assert command(evaluate, *options, "--out", tmp_path / "uninterrupted") == 0
    assert len(scored) == 3 * 5
    scored.clear()
    stop_after = 7
    assert command(evaluate, *options, "--out", tmp_path / "interrupted") == 130
    assert not (tmp_path / "interrupted" / "table.md").exists()
    scored.clear()
    stop_after = 99
    assert command(evaluate, *options, "--out", tmp_path / "interrupted") == 0
    assert len(scored) == 3 * 5 - 7
    for name in ("table.md", "results.json"):
        assert (tmp_path / "interrupted" / name).read_text() == (tmp_path / "uninterrupted" / name).read_text()
    assert (tmp_path / "interrupted" / "boxes.png").stat().st_size > 5_000
    rows = json.loads((tmp_path / "interrupted" / "results.json").read_text())
    assert {row["estimate"] for row in rows} == {"model_mean", "model_gt", "mixture", "irm", "ibm"}
    medians = {row["estimate"]: row["median"] for row in rows if (row["stem"], row["metric"]) == ("all", "SDR")}
    assert medians["irm"] > medians["mixture"]
    assert medians["ibm"] > medians["mixture"]


def test_scores_of_another_protocol_are_replaced(run, tmp_path):
    options = ("tracks", "--workdir", run, "--oracle", "mixture", "--tracks", 1, "--out", tmp_path)
    assert command(evaluate, *options, *SDR) == 0
    (path,) = (tmp_path / "tracks" / "mixture").iterdir()
    before = path.read_text()
    assert command(evaluate, *options, *SDR, "--window", "0.5", "--hop", "0.25") == 0
    assert len(json.loads(path.read_text())["targets"][0]["frames"]) > len(json.loads(before)["targets"][0]["frames"])
    path.write_text("{")
    assert command(evaluate, *options, *SDR) == 2


@pytest.mark.parametrize("channels", [1, 2])
def test_tracks_at_another_sample_rate(channels):
    """The model gets the track at its own rate; its estimate returns at the rate and the length of the track."""
    time = np.arange(30_001)[:, None] / 44_100
    low, high = (np.sin(2 * np.pi * frequency * time) for frequency in (440.0, 15_000.0))
    lengths = []

    def half_of_each(track: str, references: estimates.Stems) -> estimates.Stems:
        lengths.append({len(audio) for audio in references.values()})
        return {stem: 0.5 * audio for stem, audio in references.items()}

    estimator = estimates.at_sample_rate(half_of_each, 44_100, 22_050)
    result = estimator("song", {"low": low.repeat(channels, axis=1), "high": high.repeat(channels, axis=1)})
    assert lengths == [{15_001}]
    assert result["low"].shape == (30_001, channels)
    np.testing.assert_allclose(result["low"][2_000:-2_000], 0.5 * low[2_000:-2_000].repeat(channels, 1), atol=1e-3)
    assert np.abs(result["high"][2_000:-2_000]).max() < 1e-3  # above half of the model's rate
    assert estimates.at_sample_rate(half_of_each, 8_000, 8_000) is half_of_each


def test_a_run_is_scored_at_another_sample_rate(run, tmp_path, capsys):
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    options = ("tracks", "--workdir", copy, *SDR, "--oracle", "mixture", "--tracks", 1, "--sample-rate", 44_100)
    refused(capsys, "is not prepared at 44100 Hz", evaluate, *options)
    experiment = RunFolder(run).experiment()
    system = dataclasses.replace(experiment.system, sample_rate=44_100)
    write_corpora(dataclasses.replace(experiment, system=system), Path(experiment.data.root))
    assert command(evaluate, *options) == 0
    (folder,) = (copy / "evaluation").glob("*_test_bss_eval_v4_sdr_44100")
    (path,) = (folder / "tracks" / "model_mean").iterdir()
    assert json.loads(path.read_text())["facts"]["sample_rate"] == 44_100


@pytest.mark.parametrize("protocol", ["bss_eval_v4", "bss_eval_v3", "whole_track"])
def test_every_protocol_is_named_in_its_table(run, tmp_path, protocol):
    options = ("tracks", "--workdir", run, "--tracks", 1, "--protocol", protocol, "--out", tmp_path)
    assert command(evaluate, *options) == 0
    table = (tmp_path / "table.md").read_text()
    assert str(Protocol(protocol)) in table.splitlines()[0]
    for metric in Protocol(protocol).metrics[:3]:
        assert f" {metric} |" in table


def test_comparison_pairs_items():
    """The table has means and medians over the common items, and the second run minus the first."""
    first = {("a", "x"): 1.0, ("a", "y"): 2.0, ("b", "x"): 5.0, ("b", "z"): 9.0, ("b", "w"): np.nan}
    second = {("a", "x"): 2.0, ("a", "y"): 4.0, ("b", "x"): 4.0, ("b", "w"): 1.0}
    lines = comparison_table({"one": first, "two": second}, "scores").splitlines()
    assert lines[2] == "| stem | items | one | two | two − one |"
    assert lines[4].startswith("| all | 3 | 2.67 (2.00) | 3.33 (4.00) | +0.67 ± ")
    assert lines[5].startswith("| a | 2 | 1.50 (1.50) | 3.00 (3.00) | +1.50 ± 0.98 |")
    assert lines[6].startswith("| b | 1 | 5.00 (5.00) | 4.00 (4.00) | -1.00 ± 0.00 |")
    with pytest.raises(ValueError, match="one, two have no item in common"):
        comparison_table({"one": first, "two": {}}, "scores")


@pytest.mark.parametrize(
    "options", [("excerpts",), pytest.param(("tracks", *SDR), marks=pytest.mark.slow)], ids=lambda options: options[0]
)
def test_comparison_of_runs(run, tmp_path, options):
    models = ("--workdir", run, "--against", f"{run}/")
    assert command(evaluate, *options, *models, "--out", tmp_path) == 0
    comparison = (tmp_path / "against.md").read_text()
    assert "+0.00 ± 0.00" in comparison
    assert "| all |" in comparison
    assert {path.name for path in tmp_path.iterdir()} == {"against.md", f"0_{run.name}", f"1_{run.name}"}


@pytest.fixture
def folders(tmp_path):
    """Three tracks of two stems, and estimates of two of them; those of track b are 50 samples too long."""
    rng = np.random.default_rng(0)
    for track in ("a", "b", "c"):
        for stem in ("voice", "rest"):
            reference = rng.normal(0, 0.1, (2 * RATE, 2)).clip(-1, 1)
            for kind in ("references", "estimates")[: 1 if track == "c" else 2]:
                (tmp_path / kind / track).mkdir(parents=True, exist_ok=True)
                audio = rng.normal(0, 0.02, (2 * RATE + (50 if (track, kind) == ("b", "estimates") else 0), 2))
                audio[: 2 * RATE] = reference + (audio[: 2 * RATE] if kind == "estimates" else 0)
                soundfile.write(tmp_path / kind / track / f"{stem}.wav", audio, RATE, "FLOAT")
    return tmp_path


def folder_options(folders: Path) -> tuple[object, ...]:
    return ("folders", "--estimates", folders / "estimates", "--references", folders / "references")


def test_folders_of_estimates(folders):
    """The default protocol is version 4, and all scores equal those of `bss_eval`."""
    with pytest.warns(UserWarning, match="skipped, because there are no estimates: c"):
        assert command(evaluate, *folder_options(folders), "--out", folders / "out") == 0
    assert str(Protocol("bss_eval_v4")) in (folders / "out" / "table.md").read_text()
    audio = {
        kind: np.stack([soundfile.read(folders / kind / "b" / f"{stem}.wav")[0] for stem in ("rest", "voice")])
        for kind in ("references", "estimates")
    }
    expected = bss_eval(audio["references"], audio["estimates"][:, : 2 * RATE], RATE)
    path = folders / "out" / "tracks" / "estimates" / "b.json"
    scores = TrackScores.from_file(path)
    for metric, values in expected.items():
        np.testing.assert_allclose([scores.stems[stem][metric] for stem in ("rest", "voice")], values, atol=1e-6)
    content = json.loads(path.read_text())
    assert content["targets"][1]["name"] == "voice"
    assert content["targets"][1]["frames"][1].keys() == {"time", "duration", "metrics"}
    assert content["targets"][1]["frames"][1]["time"] == 1.0


def test_folders_that_cannot_be_scored(folders, capsys):
    both = (*folder_options(folders), "--out", folders / "out")
    refused(capsys, "no such folder", evaluate, *both[:4], folders / "nowhere", *both[5:], *SDR)
    (folders / "empty").mkdir()
    message = "holds no estimate of a track"
    refused(capsys, message, evaluate, "folders", "--estimates", folders / "empty", *both[3:], *SDR)
    soundfile.write(folders / "estimates" / "a" / "voice.wav", np.zeros((RATE, 2)), 2 * RATE)
    (folders / "references" / "c" / "voice.wav").unlink()
    (folders / "references" / "c" / "rest.wav").unlink()
    refused(capsys, "has 16000 Hz, the first reference 8000 Hz: resample it", evaluate, *both, *SDR)
    soundfile.write(folders / "estimates" / "a" / "voice.wav", np.zeros((RATE, 1)), RATE)
    refused(capsys, "voice.wav has 1 channels, other stems 2", evaluate, *both, *SDR)
    (folders / "estimates" / "a" / "rest.wav").unlink()
    with pytest.warns(UserWarning, match="a lacks rest: the track is scored without"):
        refused(capsys, "'voice' has 1 channels, its reference 2", evaluate, *both, *SDR)
    (folders / "estimates" / "b" / "rest.wav").write_bytes(b"RIFFgarbage")
    message = "no track could be scored: "
    with pytest.warns(UserWarning, match="a lacks rest: the track is scored without"):
        refused(capsys, message, evaluate, *both, *SDR, "--out", folders / "none")
    assert not (folders / "none").exists()


def test_a_bad_track_is_left_out_and_named(folders, capsys):
    """The others are scored, as if it were not there; each fault belongs to one track."""
    for track, fault in {"c": "damaged", "d": "two files", "e": "name", "f": "reference"}.items():
        for kind in ("references", "estimates"):
            (folders / kind / track).mkdir(exist_ok=True)
            for stem in ("voice", "rest"):
                (folders / kind / track / f"{stem}.wav").write_bytes(
                    (folders / kind / "a" / f"{stem}.wav").read_bytes()
                )
        bad = {"damaged": "voice.wav", "two files": "voice.flac", "name": "a@b.wav", "reference": "rest.wav"}[fault]
        (folders / ("references" if fault == "reference" else "estimates") / track / bad).write_bytes(b"RIFFgarbage")
    refused(capsys, "could not be scored (4): ", evaluate, *folder_options(folders), *SDR, "--out", folders / "out")
    assert command(evaluate, *folder_options(folders), *SDR, "--out", folders / "out") == 2
    output = capsys.readouterr()
    for track in "cdef":
        assert f"/{track}" in output.err
    assert "| estimates | voice | 2 |" in output.out
    assert {path.stem for path in (folders / "out" / "tracks" / "estimates").iterdir()} == {"a", "b"}
    assert (folders / "out" / "results.json").exists()


def test_a_track_that_lacks_a_stem_has_no_ratio_to_other_stems(folders):
    (folders / "estimates" / "a" / "rest.wav").unlink()
    shutil.rmtree(folders / "references" / "c")
    options = (*folder_options(folders), "--protocol", "bss_eval_v3", "--tracks", 2, "--out", folders / "out")
    with pytest.warns(UserWarning, match="a lacks rest"):
        assert command(evaluate, *options) == 0
    scores = [TrackScores.from_file(folders / "out" / "tracks" / "estimates" / f"{track}.json") for track in "ab"]
    for metric in ("SIR", "SAR"):
        assert [np.isfinite(track.stems["voice"][metric]).all() for track in scores] == [False, True]
    rows = {(row["stem"], row["metric"]): row for row in json.loads((folders / "out" / "results.json").read_text())}
    assert [rows["voice", metric]["count"] for metric in ("SDR", "SIR", "SAR")] == [2, 1, 1]
    assert rows["voice", "SIR"]["mean"] == pytest.approx(float(scores[1].stems["voice"]["SIR"][0]))


def test_references_are_padded_and_names_compared_as_those_of_a_corpus(folders):
    shutil.rmtree(folders / "references" / "c")
    short, _ = soundfile.read(folders / "references" / "a" / "rest.wav")
    soundfile.write(folders / "references" / "a" / "rest.wav", short[:-100], RATE, "FLOAT")
    (folders / "estimates" / "a").rename(folders / "estimates" / "A")
    (folders / "estimates" / "A" / "voice.wav").rename(folders / "estimates" / "A" / "Voice.wav")
    (folders / "estimates" / "A" / "._Voice.wav").write_bytes(b"metadata of macOS")
    (folders / "references" / "a" / "mixture.wav").write_bytes(b"not read")
    with pytest.warns(UserWarning, match=r"a/mixture.wav holds a mixture"):
        assert command(evaluate, *folder_options(folders), *SDR, "--tracks", 1, "--out", folders / "out") == 0
    scores = TrackScores.from_file(folders / "out" / "tracks" / "estimates" / "a.json")
    references = {"rest": np.pad(short[:-100], ((0, 100), (0, 0))), "voice": None}
    for stem in references:
        reference = references[stem]
        if reference is None:
            reference = soundfile.read(folders / "references" / "a" / f"{stem}.wav")[0]
        estimate = soundfile.read(folders / "estimates" / "A" / f"{stem.replace('v', 'V')}.wav")[0]
        expected = bss_eval(reference[None], estimate[None], RATE, metrics=("SDR",))["SDR"][0]
        np.testing.assert_allclose(scores.stems[stem]["SDR"], expected, atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "excerpts, tracks, segments, folders"),
        ("bss --workdir x", "choose one of excerpts, tracks, segments, folders"),
        ("track --workdir x", "did you mean 'tracks'?"),
        ("tracks", "--workdir"),
        ("folders --estimates x", "--references"),
        ("folders --references x --estimates", "--estimates needs a value"),
        ("folders --estimates x --references y --workdir z", "--workdir"),
        ("folders --estimates x --references y --against z", "--against"),
        ("folders --estimates x --references y --oracle irm", "--oracle"),
        ("folders --estimates x --references y --protocol segments", "bss_eval_v4"),
        ("folders --estimates x --references y --tracks -1", "--tracks must be 0 or more, not -1"),
        ("excerpts --workdir x --corpus band", "--corpus"),
        ("excerpts --workdir x --wiener 1", "--wiener"),
        ("excerpts --workdir x --mixtures -1", "--mixtures must be 0 or more, not -1"),
        ("excerpts --workdir x --mixtures many", "--mixtures must be an integer, not 'many'"),
        ("excerpts --workdir x --split best", "--split must be one of"),
        ("excerpts --workdir x --against y --against y", "y is repeated"),
        ("tracks --workdir x --audio 3", "--audio"),
        ("tracks --workdir x --hop 0", "--hop must be positive, not 0"),
        ("tracks --workdir x --aks gt", "did you mean '--ask'?"),
        ("segments --workdir x --window 2", "--window"),
        (
            "segments --workdir x --wiener 0 -1",
            "--wiener needs at least one number, and numbers of 0 or more, not 0 -1",
        ),
        ("segments --workdir x --wiener", "--wiener needs at least one number, and numbers of 0 or more, not none"),
        ("--workdir x --protocol", "--protocol needs a value"),
        ("--workdir x --protocol fast", "bss_eval_v4"),
        ("--workdir nowhere", "nowhere is no run folder"),
    ],
)
def test_wrong_options_are_refused(capsys, arguments, message):
    refused(capsys, message, evaluate, *arguments.split())


def test_sources_are_refused_for_lists_of_tracks(capsys, run):
    refused(capsys, "--sources is for lists that combine", evaluate, "excerpts", "--workdir", run, "--sources", 3)


@pytest.mark.parametrize(
    ("arguments", "translated"),
    [
        ("--workdir RUN", "excerpts --workdir RUN"),
        ("--workdir RUN --audio 3", "excerpts --workdir RUN --audio 3"),
        ("--protocol excerpts --workdir RUN", "excerpts --workdir RUN"),
        (
            "--workdir RUN --protocol bss_eval_v3 --channels 1",
            "tracks --workdir RUN --protocol bss_eval_v3 --channels 1",
        ),
        ("--workdir RUN --protocol=whole_track", "tracks --workdir RUN --protocol whole_track"),
        ("--workdir RUN --protocol segments --wiener 0 2", "segments --workdir RUN --wiener 0 2"),
        ("--protocol=segments --workdir=RUN", "segments --workdir=RUN"),
        (
            "--protocol bss_eval_v4 --estimates E --references R",
            "folders --protocol bss_eval_v4 --estimates E --references R",
        ),
        ("--estimates=E --references=R", "folders --estimates=E --references=R"),
        ("--workdir RUN --help", "excerpts --workdir RUN --help"),
        ("--help", "--help"),
        ("", ""),
        ("tracks --workdir RUN --protocol bss_eval_v4", "tracks --workdir RUN --protocol bss_eval_v4"),
        ("folders --help", "folders --help"),
    ],
)
def test_arguments_without_a_subcommand_are_translated(arguments, translated):
    assert evaluate.with_subcommand(arguments.split()) == translated.split()


def test_empty_arguments_are_kept():
    assert evaluate.with_subcommand(["--workdir", "RUN", "--root", ""]) == [
        "excerpts",
        "--workdir",
        "RUN",
        "--root",
        "",
    ]


def test_arguments_without_a_subcommand_give_the_same_results(folders):
    """The results equal those of the sub-command, and both find each other's files."""
    for options in (folder_options(folders), folder_options(folders)[1:]):
        with pytest.warns(UserWarning, match="skipped"):
            assert command(evaluate, *options, *SDR, "--out", folders / options[0].strip("-")) == 0
    first, second = (folders / name / "results.json" for name in ("folders", "estimates"))
    assert first.read_text() == second.read_text()


@pytest.mark.parametrize("subcommand", ["excerpts", "tracks", "segments", "folders"])
def test_help_shows_an_example_and_describes_every_option(capsys, subcommand):
    assert command(evaluate, "--help") == 0
    example = f"Example: qsep evaluate {subcommand} --"
    assert example in capsys.readouterr().out
    assert command(evaluate, subcommand, "--help") == 0
    text = capsys.readouterr().out
    assert example in text
    assert not re.search(r"--\S+( \S+)?\s+\((default|required|repeatable)", text), "an option has no description"


def test_files_that_changed_are_scored_again(folders):
    options = (*folder_options(folders), "--out", folders / "out")
    tables = []
    for gain in (1.0, 1.0, 0.5):
        audio, rate = soundfile.read(folders / "estimates" / "a" / "voice.wav")
        if gain != 1.0:
            soundfile.write(folders / "estimates" / "a" / "voice.wav", gain * audio, rate, "FLOAT")
        with pytest.warns(UserWarning, match="skipped"):
            assert command(evaluate, *options, *SDR) == 0
        tables.append((folders / "out" / "table.md").read_text())
    assert tables[0] == tables[1] != tables[2]


def test_perfect_and_silent_estimates(tmp_path):
    """+∞ counts in medians, a silent stem has no score and is counted once, and results.json is strict JSON."""
    rng = np.random.default_rng(0)
    for stem in ("a", "b", "mute"):
        (tmp_path / "refs" / "t").mkdir(parents=True, exist_ok=True)
        audio = rng.normal(0, 0.1, (2 * RATE, 1)) * (stem != "mute")
        soundfile.write(tmp_path / "refs" / "t" / f"{stem}.wav", audio, RATE)
    options = ("folders", "--estimates", tmp_path / "refs", "--references", tmp_path / "refs", *SDR)
    with pytest.warns(UserWarning, match="stem 2 of 3 is all zero"):
        assert command(evaluate, *options, "--out", tmp_path / "out") == 0
    table = (tmp_path / "out" / "table.md").read_text()
    assert "| estimates | a | 1 | inf (nan ± nan) |" in table
    assert "No score for 1 stems of tracks (mute)" in table
    rows = json.loads((tmp_path / "out" / "results.json").read_text(), parse_constant=pytest.fail)
    assert {row["stem"]: row["median"] for row in rows} == {"all": None, "a": None, "b": None}


def test_oracles_process_long_tracks_in_chunks(monkeypatch):
    """Each source of a long mixture is recovered; far from the seams the result does not depend on the chunks."""
    rng = np.random.default_rng(0)
    time = np.arange(6000)[:, None] / RATE
    stems = {"low": np.sin(2 * np.pi * 300 * time) * [1, 0.5], "high": np.sin(2 * np.pi * 2000 * time) * [0.3, 1]}
    stems = {name: np.float32(audio + 1e-4 * rng.normal(size=audio.shape)) for name, audio in stems.items()}
    unchunked = estimates.oracle_estimates("irm", stems)
    monkeypatch.setattr(estimates, "ORACLE_CHUNK", 2048)
    for name in ("irm", "ibm"):
        masked = estimates.oracle_estimates(name, stems)
        for stem, audio in stems.items():
            assert masked[stem].shape == audio.shape
            assert np.abs(masked[stem] - audio)[600:-600].max() < 0.05
            if name == "irm":
                np.testing.assert_allclose(masked[stem][600:-600], unchunked[stem][600:-600], atol=0.02)
