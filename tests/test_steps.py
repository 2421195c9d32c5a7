"""Other checkpoints of a run than the best one: their evaluation, class means, separation and export."""

import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

from qsep_jax import evaluate, export, separate
from qsep_jax.runs.bundle import Bundle, find_model
from qsep_jax.runs.folder import RunFolder
from tests.commands import command, refused


@pytest.fixture(scope="module")
def two_steps(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of a run with the checkpoints of steps 2 and 4."""
    folder = tmp_path_factory.mktemp("steps") / "run"
    shutil.copytree(run, folder)
    return folder


def other_step(run: Path) -> int:
    """The step of the checkpoint that is not the best one."""
    (other,) = set(RunFolder(run).steps()) - {RunFolder(run).best_step()}
    return other


def latents(path: Path) -> np.ndarray:
    with np.load(path) as arrays:
        return np.concatenate([arrays[name].ravel() for name in arrays.files if name != "names"])


@pytest.mark.slow
def test_the_named_checkpoint_is_evaluated(two_steps):
    other = other_step(two_steps)
    for step, folder in ((other, f"step_{other}"), ("last", "step_4"), ("best", "")):
        assert command(evaluate, "excerpts", "--workdir", two_steps, "--step", step, "--audio", 0) == 0
        rows = json.loads((two_steps / "evaluation" / folder / "results.json").read_text())
        expected = {"last": 4, "best": RunFolder(two_steps).best_step()}.get(str(step), step)
        assert {row["step"] for row in rows} == {expected}


def test_steps_without_a_checkpoint_are_refused(two_steps, tmp_path, capsys, sounds):
    message = "has no checkpoint of step 3; it has 2, 4"
    for protocol in ("excerpts", "tracks", "segments"):
        refused(capsys, message, evaluate, protocol, "--workdir", two_steps, "--step", 3)
    refused(capsys, message, export, "--workdir", two_steps, "--step", 3, "--out", tmp_path / "out")
    separation = (sounds / "mix.wav", "--label", "bass", "--out", tmp_path / "out")
    refused(capsys, message, separate, "--model", two_steps, "--step", 3, *separation)
    refused(capsys, "chamber13 is a bundle, which has one checkpoint", separate, "--step", "last", *separation)
    empty = tmp_path / "empty"
    shutil.copytree(two_steps, empty)
    shutil.rmtree(empty / "checkpoints")
    refused(capsys, "holds no complete checkpoint yet", evaluate, "excerpts", "--workdir", empty, "--step", "last")


def test_class_means_are_those_of_their_step(two_steps):
    """The class means of the best step are those that training wrote; those of the other step are encoded by it."""
    other, run = other_step(two_steps), RunFolder(two_steps)
    chosen = find_model(str(two_steps), step=other)
    _, model = chosen.load()
    bank = chosen.bank(model)
    assert latents(two_steps / f"conditions_step_{other}.npz").size == latents(run.conditions).size
    assert np.abs(latents(two_steps / f"conditions_step_{other}.npz") - latents(run.conditions)).max() > 1e-6
    best = run.at(run.best_step())
    assert jax.tree.all(jax.tree.map(np.array_equal, best.bank(best.load()[1]).tracks, run.bank(run.load()[1]).tracks))
    assert not best.conditions.exists()
    assert not jax.tree.all(jax.tree.map(np.array_equal, bank.tracks, run.bank(run.load()[1]).tracks))


def test_an_unfinished_run_separates_by_label(two_steps, tmp_path, sounds):
    """Its class means are encoded by the same rule as at the end of training."""
    unfinished = tmp_path / "unfinished"
    shutil.copytree(two_steps, unfinished)
    (unfinished / "conditions.npz").unlink()
    options = (sounds / "mix.wav", "--label", "bass", "--out", tmp_path / "out")
    assert command(separate, "--model", unfinished, *options) == 0
    encoded = unfinished / f"conditions_step_{RunFolder(unfinished).best_step()}.npz"
    np.testing.assert_array_equal(latents(encoded), latents(two_steps / "conditions.npz"))


def test_a_named_checkpoint_is_exported_with_its_class_means(two_steps, tmp_path):
    other, out = other_step(two_steps), tmp_path / "bundle"
    assert command(export, "--workdir", two_steps, "--step", other, "--out", out) == 0
    _, model = RunFolder(two_steps, other).load()
    _, exported = Bundle(out).load()
    assert jax.tree.all(jax.tree.map(np.array_equal, model.variables, exported.variables))
    np.testing.assert_array_equal(latents(out / "conditions.npz"), latents(two_steps / f"conditions_step_{other}.npz"))
    assert f"{other} of 4, batch 8" in (out / "README.md").read_text()
