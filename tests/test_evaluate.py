"""Whole tracks: an evaluation that is stopped goes on where it was, and anyone's estimates can be judged."""

import json

import numpy as np
import pytest
import soundfile

from qsep_jax import evaluate
from qsep_jax.evaluation import tracks
from qsep_jax.evaluation.comparison import side_by_side
from qsep_jax.metrics.bss_eval import bss_eval
from qsep_jax.metrics.protocols import Protocol
from qsep_jax.metrics.tracks import TrackScores
from tests.commands import command, refused

RATE = 8_000
SDR = ("--protocol", "bss_eval_v4_sdr")


def test_killed_halfway_and_started_again(run, tmp_path, monkeypatch):
    """Only the remaining tracks are scored, and the table is that of an unbroken run."""
    scored, stop_after = [], 99

    def watched(self, references, estimates, rate):
        scored.append(references.shape)
        if len(scored) > stop_after:
            raise KeyboardInterrupt
        return score(self, references, estimates, rate)

    score = Protocol.score
    monkeypatch.setattr(Protocol, "score", watched)
    options = ("--workdir", run, *SDR, "--ask", "mean", "gt", "--oracle", "mixture", "irm", "ibm")
    assert command(evaluate, *options, "--out", tmp_path / "unbroken") == 0
    assert len(scored) == 3 * 5
    scored.clear()
    stop_after = 7
    assert command(evaluate, *options, "--out", tmp_path / "broken") == 130
    assert not (tmp_path / "broken" / "table.md").exists()
    scored.clear()
    stop_after = 99
    assert command(evaluate, *options, "--out", tmp_path / "broken") == 0
    assert len(scored) == 3 * 5 - 7
    for name in ("table.md", "results.json"):
        assert (tmp_path / "broken" / name).read_text() == (tmp_path / "unbroken" / name).read_text()
    assert (tmp_path / "broken" / "boxes.png").stat().st_size > 5_000
    rows = json.loads((tmp_path / "broken" / "results.json").read_text())
    assert {row["estimate"] for row in rows} == {"model_mean", "model_gt", "mixture", "irm", "ibm"}
    best = {row["estimate"]: row["median"] for row in rows if (row["stem"], row["metric"]) == ("all", "SDR")}
    assert best["irm"] > best["mixture"]
    assert best["ibm"] > best["mixture"]


def test_scores_of_another_protocol_or_checkpoint_are_made_anew(run, tmp_path):
    options = ("--workdir", run, "--oracle", "mixture", "--tracks", 1, "--out", tmp_path)
    assert command(evaluate, *options, *SDR) == 0
    (path,) = (tmp_path / "tracks" / "mixture").iterdir()
    before = path.read_text()
    assert command(evaluate, *options, *SDR, "--window", "0.5", "--hop", "0.25") == 0
    assert len(json.loads(path.read_text())["targets"][0]["frames"]) > len(json.loads(before)["targets"][0]["frames"])
    path.write_text("{")
    assert command(evaluate, *options, *SDR) == 2


@pytest.mark.parametrize("protocol", ["bss_eval_v4", "bss_eval_v3", "whole_track"])
def test_every_protocol_says_its_name(run, tmp_path, protocol):
    options = ("--workdir", run, "--tracks", 1, "--protocol", protocol, "--out", tmp_path)
    assert command(evaluate, *options) == 0
    table = (tmp_path / "table.md").read_text()
    assert str(Protocol(protocol)) in table.splitlines()[0]
    for metric in Protocol(protocol).metrics[:3]:
        assert f" {metric} |" in table


def test_side_by_side_pairs_items():
    """Means and medians of the common items, and the second less the first."""
    first = {("a", "x"): 1.0, ("a", "y"): 2.0, ("b", "x"): 5.0, ("b", "z"): 9.0, ("b", "w"): np.nan}
    second = {("a", "x"): 2.0, ("a", "y"): 4.0, ("b", "x"): 4.0, ("b", "w"): 1.0}
    lines = side_by_side({"one": first, "two": second}, "scores").splitlines()
    assert lines[2] == "| stem | items | one | two | two − one |"
    assert lines[4].startswith("| all | 3 | 2.67 (2.00) | 3.33 (4.00) | +0.67 ± ")
    assert lines[5].startswith("| a | 2 | 1.50 (1.50) | 3.00 (3.00) | +1.50 ± 0.98 |")
    assert lines[6].startswith("| b | 1 | 5.00 (5.00) | 4.00 (4.00) | -1.00 ± 0.00 |")
    with pytest.raises(ValueError, match="one, two have no item in common"):
        side_by_side({"one": first, "two": {}}, "scores")


def test_runs_side_by_side(run, tmp_path):
    for options in (SDR, ()):
        code = command(
            evaluate, "--workdir", run, "--against", f"{run}/", "--out", tmp_path / str(len(options)), *options
        )
        assert code == 0
        beside = (tmp_path / str(len(options)) / "against.md").read_text()
        assert "+0.00 ± 0.00" in beside
        assert "| all |" in beside


@pytest.fixture
def folders(tmp_path):
    """Two tracks of two stems, references and estimates; one estimate is a little long, one track has no estimates."""
    rng = np.random.default_rng(0)
    for track in ("a", "b", "c"):
        for stem in ("voice", "rest"):
            reference = rng.normal(0, 0.1, (2 * RATE, 2)).clip(-1, 1)
            for kind in ("references", "estimates")[: 1 if track == "c" else 2]:
                (tmp_path / kind / track).mkdir(parents=True, exist_ok=True)
                more = rng.normal(0, 0.02, (2 * RATE + (50 if (track, kind) == ("b", "estimates") else 0), 2))
                more[: 2 * RATE] = reference + (more[: 2 * RATE] if kind == "estimates" else 0)
                soundfile.write(tmp_path / kind / track / f"{stem}.wav", more, RATE, "FLOAT")
    return tmp_path


def test_folders_of_estimates(folders):
    options = ("--estimates", folders / "estimates", "--references", folders / "references", "--out", folders / "out")
    with pytest.warns(UserWarning, match="left out, without estimates: c"):
        assert command(evaluate, *options, "--protocol", "bss_eval_v4") == 0
    read = {
        kind: np.stack([soundfile.read(folders / kind / "b" / f"{stem}.wav")[0] for stem in ("rest", "voice")])
        for kind in ("references", "estimates")
    }
    expected = bss_eval(read["references"], read["estimates"][:, : 2 * RATE], RATE)
    path = folders / "out" / "tracks" / "estimates" / "b.json"
    scores = TrackScores.from_file(path)
    for metric, values in expected.items():
        np.testing.assert_allclose([scores.stems[stem][metric] for stem in ("rest", "voice")], values, atol=1e-6)
    content = json.loads(path.read_text())
    assert content["targets"][1]["name"] == "voice"
    assert content["targets"][1]["frames"][1].keys() == {"time", "duration", "metrics"}
    assert content["targets"][1]["frames"][1]["time"] == 1.0


def test_mistakes_with_folders(folders, capsys, run):
    both = ("--estimates", folders / "estimates", "--references", folders / "references")
    refused(capsys, "give --protocol", evaluate, *both)
    refused(capsys, "give either --workdir, or both", evaluate, *both[:2], *SDR)
    refused(capsys, "give either --workdir, or both", evaluate, *both, *SDR, "--workdir", run)
    refused(capsys, "no such folder", evaluate, *both[:3], folders / "nowhere", *SDR)
    (folders / "empty").mkdir()
    refused(capsys, "holds no estimate of a track", evaluate, "--estimates", folders / "empty", *both[2:], *SDR)
    refused(capsys, "--against compares runs", evaluate, *both, *SDR, "--against", run)
    soundfile.write(folders / "estimates" / "a" / "voice.wav", np.zeros((RATE, 2)), 2 * RATE)
    (folders / "references" / "c" / "voice.wav").unlink()
    (folders / "references" / "c" / "rest.wav").unlink()
    refused(capsys, "has 16000 Hz, the first reference 8000 Hz: resample it", evaluate, *both, *SDR)
    soundfile.write(folders / "estimates" / "a" / "voice.wav", np.zeros((RATE, 1)), RATE)
    refused(capsys, "voice.wav has 1 channels, other stems 2", evaluate, *both, *SDR)
    (folders / "estimates" / "a" / "rest.wav").unlink()
    with pytest.warns(UserWarning, match="a lacks rest: scored without"):
        refused(capsys, "'voice' has 1 channels, its reference 2", evaluate, *both, *SDR)
    soundfile.write(folders / "references" / "a" / "rest.wav", np.zeros((RATE, 2)), RATE)
    refused(capsys, "samples, another stem", evaluate, *both, *SDR)
    refused(capsys, "--oracle means nothing here", evaluate, *both, *SDR, "--oracle", "irm")
    refused(capsys, "--corpus means nothing here", evaluate, "--workdir", run, "--corpus", "band")
    refused(capsys, "--sources is for lists that combine", evaluate, "--workdir", run, "--sources", 3)
    refused(capsys, "--mixtures must be 0 or more", evaluate, "--workdir", run, "--mixtures", "-1")


def test_files_that_changed_are_scored_again(folders):
    options = ("--estimates", folders / "estimates", "--references", folders / "references", "--out", folders / "out")
    tables = []
    for gain in (1.0, 1.0, 0.5):
        audio, rate = soundfile.read(folders / "estimates" / "a" / "voice.wav")
        if gain != 1.0:
            soundfile.write(folders / "estimates" / "a" / "voice.wav", gain * audio, rate, "FLOAT")
        with pytest.warns(UserWarning, match="left out"):
            assert command(evaluate, *options, *SDR) == 0
        tables.append((folders / "out" / "table.md").read_text())
    assert tables[0] == tables[1] != tables[2]


def test_perfect_and_silent_estimates_have_a_table(tmp_path):
    """+∞ counts in medians, silence has no score and is counted once, and results.json is strict JSON."""
    rng = np.random.default_rng(0)
    for stem in ("a", "b", "mute"):
        (tmp_path / "refs" / "t").mkdir(parents=True, exist_ok=True)
        audio = rng.normal(0, 0.1, (2 * RATE, 1)) * (stem != "mute")
        soundfile.write(tmp_path / "refs" / "t" / f"{stem}.wav", audio, RATE)
    options = ("--estimates", tmp_path / "refs", "--references", tmp_path / "refs", "--out", tmp_path / "out", *SDR)
    with pytest.warns(UserWarning, match="stem 2 of 3 is all zero"):
        assert command(evaluate, *options) == 0
    table = (tmp_path / "out" / "table.md").read_text()
    assert "| estimates | a | 1 | inf (nan ± nan) |" in table
    assert "No score for 1 stems of tracks (mute)" in table
    rows = json.loads((tmp_path / "out" / "results.json").read_text(), parse_constant=pytest.fail)
    assert {row["stem"]: row["median"] for row in rows} == {"all": None, "a": None, "b": None}


def test_oracles_pass_in_chunks(monkeypatch):
    """Each source of a long mixture comes back; far from the seams the chunks do not matter."""
    rng = np.random.default_rng(0)
    time = np.arange(6000)[:, None] / RATE
    stems = {"low": np.sin(2 * np.pi * 300 * time) * [1, 0.5], "high": np.sin(2 * np.pi * 2000 * time) * [0.3, 1]}
    stems = {name: np.float32(audio + 1e-4 * rng.normal(size=audio.shape)) for name, audio in stems.items()}
    whole = tracks.oracle("irm", stems)
    monkeypatch.setattr(tracks, "ORACLE_CHUNK", 2048)
    for name in ("irm", "ibm"):
        found = tracks.oracle(name, stems)
        for stem, audio in stems.items():
            assert found[stem].shape == audio.shape
            assert np.abs(found[stem] - audio)[600:-600].max() < 0.05
            if name == "irm":
                np.testing.assert_allclose(found[stem][600:-600], whole[stem][600:-600], atol=0.02)
