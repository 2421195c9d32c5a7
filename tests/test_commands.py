"""The commands as a user runs them: every config from training to separated files, every mistake one line of error."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from qsep_jax import evaluate, separate, train
from tests.commands import command, config_of, refused, separation_options, train_debug
from tests.experiments import CONFIGS, VIDEO

# Further variants, which differ from a config in corpus or cue only.
VARIANTS = (*(pytest.param(f"lee2019.py:{corpus}", marks=pytest.mark.slow) for corpus in ("band", "chamber")), VIDEO)
# Fixtures with the runs that other tests take.
SHARED = {"lee2019.py": "run", "lin2021.py": "score_run"}


@pytest.fixture(scope="module", params=[*CONFIGS, *VARIANTS])
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of a config's debug variant, trained to its end."""
    if request.param in SHARED:
        return request.getfixturevalue(SHARED[request.param])
    return train_debug(request.param, tmp_path_factory.mktemp("trained"))


def test_every_config_trains_evaluates_and_separates(trained, sounds, tmp_path):
    assert json.loads((trained / "environment.json").read_text())[0]["devices"]
    assert list((trained / "tensorboard").iterdir())
    assert command(evaluate, "--workdir", trained, "--out", tmp_path / "scores") == 0
    rows = json.loads((tmp_path / "scores" / "results.json").read_text())
    keys = {
        "run",
        "step",
        "estimate",
        "corpus",
        "split",
        "stem",
        "protocol",
        "metric",
        "median",
        "mean",
        "ci95",
        "count",
    }
    assert all(row.keys() == keys for row in rows)
    assert {row["estimate"] for row in rows} == {"mixture", "model", "irm"}
    assert (tmp_path / "scores" / "overview.png").stat().st_size > 10_000
    assert list((tmp_path / "scores" / "audio").rglob("*_estimate.wav"))
    name, options = separation_options(trained, sounds)
    assert command(separate, "--model", trained, sounds / "mix.wav", *options, "--out", tmp_path / "out") == 0
    info = soundfile.info(tmp_path / "out" / "mix" / f"{name}.wav")
    assert (info.samplerate, info.channels, info.frames, info.subtype) == (44_100, 2, 57_331, "PCM_24")


def separated(run: Path, sounds: Path, *options: object) -> dict[str, np.ndarray]:
    """The audio that `separate` writes with these options, by the name of the file."""
    out = sounds / "out"
    shutil.rmtree(out, ignore_errors=True)
    assert command(separate, "--model", run, sounds / "mix.wav", "--out", out, *options) == 0
    return {path.stem: soundfile.read(path)[0] for path in sorted((out / "mix").iterdir())}


def test_ways_to_select_a_source(run, sounds):
    query, other = ("--query", sounds / "query.wav"), ("--query", sounds / "other.flac")
    outputs = separated(run, sounds, *query, *other)
    assert outputs.keys() == {"query", "other"}
    assert not np.array_equal(outputs["query"], outputs["other"])
    merged = separated(run, sounds, *query, *other, "--average-queries")
    assert merged.keys() == {"query+other"}
    labels = separated(run, sounds, "--label", "vocals", "--label", "bass")
    assert labels.keys() == {"vocals", "bass"}
    ends = separated(run, sounds, "--interpolate", "vocals", "bass", "1")
    np.testing.assert_allclose(ends["vocals_bass_1"], labels["bass"], atol=1e-5)
    assert separated(run, sounds, "--retrieve", "drums").keys() == {"drums_nearest"}
    iterated = separated(run, sounds, *query, "--iterations", "1")
    assert not np.array_equal(iterated["query"], outputs["query"])


@pytest.mark.parametrize(("rate", "channels"), [(8_000, 1), (22_050, 6), (192_000, 2)])
def test_rates_and_channels_are_kept(run, tmp_path, rate, channels):
    rng = np.random.default_rng(0)
    soundfile.write(tmp_path / "mix.wav", rng.uniform(-0.5, 0.5, (rate // 2 + 1, channels)), rate, "FLOAT")
    assert command(separate, "--model", run, tmp_path / "mix.wav", "--label", "vocals", "--out", tmp_path / "out") == 0
    info = soundfile.info(tmp_path / "out" / "mix" / "vocals.wav")
    assert (info.samplerate, info.channels, info.frames, info.subtype) == (rate, channels, rate // 2 + 1, "FLOAT")


def test_a_short_query_is_padded_with_a_warning(run, sounds):
    soundfile.write(sounds / "short.wav", np.ones(50) * 0.1, 16_000)
    with pytest.warns(UserWarning, match=r"short.wav has .* padded with zeros"):
        separated(run, sounds, "--query", sounds / "short.wav")


def broken(folder: Path) -> dict[str, Path]:
    """Files that cannot be separated, by what is wrong with them."""
    content = (folder / "mix.wav").read_bytes()
    paths = {name: folder / f"{name}.wav" for name in ("missing", "truncated", "empty", "nan", "slow", "fast", "text")}
    paths["truncated"].write_bytes(content[: len(content) // 2])
    soundfile.write(paths["empty"], np.zeros((0, 1)), 16_000)
    soundfile.write(paths["nan"], np.full(16_000, np.nan), 16_000, "FLOAT")
    soundfile.write(paths["slow"], np.ones(4_000), 4_000)
    soundfile.write(paths["fast"], np.ones(4_000), 200_000)
    paths["text"].write_text("not audio")
    paths["extension"] = folder / "mix.txt"
    paths["extension"].write_text("not audio, as its extension says")
    return {**paths, "silent": folder / "silent.wav"}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing", "missing.wav: no such file"),
        ("truncated", "truncated.wav: is truncated"),
        ("extension", "mix.txt: cannot be read as audio"),
        ("empty", "empty.wav: holds no samples"),
        ("silent", "silent.wav"),
        ("nan", "nan.wav: sample 0 is NaN"),
        ("slow", "sample rate 4000 Hz is outside 8000 to 192000 Hz"),
        ("fast", "sample rate 200000 Hz is outside 8000 to 192000 Hz"),
        ("text", "text.wav: cannot be read as audio"),
    ],
)
@pytest.mark.parametrize("role", ["mixture", "query"])
def test_bad_audio_is_one_line(run, sounds, capsys, name, message, role):
    bad = broken(sounds)[name]
    files = (bad, "--query", sounds / "query.wav") if role == "mixture" else (sounds / "mix.wav", "--query", bad)
    refused(capsys, message, separate, "--model", run, *files, "--out", sounds / "out")
    assert not (sounds / "out").exists()


def test_other_mistakes_are_one_line(run, sounds, capsys, tmp_path):
    mix, query = sounds / "mix.wav", ("--query", sounds / "query.wav")
    ask = ("--model", run, mix, "--out", sounds / "out")
    refused(
        capsys, "unknown label 'vox'; this model knows vocals, drums, bass, other", separate, *ask, "--label", "vox"
    )
    refused(capsys, "nothing to separate: give a query", separate, *ask)
    refused(capsys, "did you mean '--query'?", separate, *ask, "--qery", "x.wav")
    refused(capsys, "must be between 0 and 1, not 2", separate, *ask, "--interpolate", "vocals", "bass", "2")
    refused(capsys, "--iterations must be 0 or more", separate, *ask, *query, "--iterations", "-1")
    (sounds / "again").mkdir()
    shutil.copy(mix, sounds / "again")
    two = (mix, sounds / "again" / "mix.wav", "--name", "{stem}.wav")
    refused(capsys, "would be an output of both", separate, *two, *ask[:2], *query)
    refused(capsys, "is no run folder", separate, "--model", tmp_path, mix, *query, "--out", sounds / "out")
    (tmp_path / "file").write_text("")
    refused(capsys, "file", separate, "--model", run, mix, *query, "--out", tmp_path / "file")
    assert not (sounds / "out").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="needs a user whom permissions restrict: root may write anywhere")
def test_an_output_folder_that_cannot_be_written_is_named(run, sounds, capsys, tmp_path):
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    mix, query = sounds / "mix.wav", ("--query", sounds / "query.wav")
    refused(capsys, "Permission denied", separate, "--model", run, mix, *query, "--out", locked)


def test_a_full_disk_leaves_nothing_behind(run, sounds, capsys, monkeypatch):
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    mix, query = sounds / "mix.wav", ("--query", sounds / "query.wav")
    refused(capsys, "No space left on device", separate, "--model", run, mix, *query, "--out", sounds / "out")
    assert not [path for path in (sounds / "out").rglob("*") if path.is_file()]


def test_a_run_of_another_version_or_damaged_is_named(run, sounds, capsys, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    ask = ("--model", copy, sounds / "mix.wav", "--query", sounds / "query.wav", "--out", sounds / "out")
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "format": 99}))
    refused(capsys, "has format 99", separate, *ask)
    (copy / "config.json").write_text(json.dumps(config))
    for path in (copy / "checkpoints").rglob("*"):
        if path.is_file() and path.stat().st_size > 500:
            path.write_bytes(path.read_bytes()[:100])
    refused(capsys, "is damaged", separate, *ask)
    (copy / "conditions.npz").write_bytes(b"")
    shutil.rmtree(copy / "checkpoints")
    shutil.copytree(run / "checkpoints", copy / "checkpoints")
    refused(capsys, "conditions.npz cannot be read", separate, *ask[:3], *ask[5:], "--label", "vocals")


def test_mistakes_in_training_are_one_line(run, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("qsep_jax.train.prepare_missing", lambda experiment: None)
    data = ("--data.root", run.parent / "data")
    config = ("--config", config_of("lee2019.py"), "--workdir", tmp_path / "run", "--train.batch-size", "8")
    refused(capsys, "did you mean '--train.steps'?", train, *config, *data, "--train.stepz", "3")
    refused(capsys, "cannot be split over 8 devices; choose 8", train, *config[:4], *data, "--train.batch-size", "3")
    remedy = "qsep prepare musdb18 --source DIR --out nowhere --sample-rate 22050"
    assert command(train, *config, "--data.root", "nowhere") == 2
    assert remedy in capsys.readouterr().err
    refused(capsys, "there is no config file 'nowhere.py'", train, "--config", "nowhere.py", "--workdir", tmp_path)
    refused(capsys, "unknown variant 'tiny'", train, "--config", config_of("lee2019.py:tiny"), "--workdir", tmp_path)
    other = (*config[:2], *config[4:], "--workdir", run, *data, "--train.seed", "5")
    refused(capsys, "holds a run with train.seed = 0, not 5", train, *other)
