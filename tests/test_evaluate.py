"""Whole tracks: an evaluation that is stopped goes on where it was, and anyone's estimates can be judged."""

import json

import numpy as np
import pytest
import soundfile

from qsep_jax import evaluate, whole_tracks
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
    scores = TrackScores.from_json(path.read_text(), "b")
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
    refused(capsys, "'voice' has 1 channels, its reference 2", evaluate, *both, *SDR)


def test_oracles_pass_in_chunks(monkeypatch):
    """Each source of a long mixture comes back; far from the seams the chunks do not matter."""
    rng = np.random.default_rng(0)
    time = np.arange(6000)[:, None] / RATE
    stems = {"low": np.sin(2 * np.pi * 300 * time) * [1, 0.5], "high": np.sin(2 * np.pi * 2000 * time) * [0.3, 1]}
    stems = {name: np.float32(audio + 1e-4 * rng.normal(size=audio.shape)) for name, audio in stems.items()}
    whole = whole_tracks.oracle("irm", stems)
    monkeypatch.setattr(whole_tracks, "ORACLE_CHUNK", 2048)
    for name in ("irm", "ibm"):
        found = whole_tracks.oracle(name, stems)
        for stem, audio in stems.items():
            assert found[stem].shape == audio.shape
            assert np.abs(found[stem] - audio)[600:-600].max() < 0.05
            if name == "irm":
                np.testing.assert_allclose(found[stem][600:-600], whole[stem][600:-600], atol=0.02)
