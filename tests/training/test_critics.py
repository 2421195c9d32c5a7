"""Tests of several phases on several streams, one of them repeated: bitwise resumption and separate optimizers."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from qsep_jax.training import loop
from qsep_jax.training.checkpoint import Checkpoints
from qsep_jax.training.compiled import Compiled
from qsep_jax.training.loop import fit
from qsep_jax.training.sharding import make_mesh
from qsep_jax.training.state import TrainState
from tests.experiments import debug, pipeline, write_corpora
from tests.training.interruptions import Interrupted, Reporter, assert_equal, logged_metrics

pytestmark = pytest.mark.slow

STEPS = 12


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory):
    """Run or continue Stoller 2018 with a critic for the voice; the functions are compiled once for all runs."""
    experiment, root = debug("stoller2018.py:v"), tmp_path_factory.mktemp("corpora")
    write_corpora(experiment, root)
    settings = {"steps": STEPS, "log_every": 1, "save_every": 3, "validate_every": 3, "ema_decay": 0.9}
    train = dataclasses.replace(experiment.train, **settings, summary_every=0)
    mesh = make_mesh(jax.devices()[:1])
    batches, validation = (pipeline(experiment, root, split) for split in ("train", "validation"))
    compiled = Compiled(experiment.system, train, mesh, batches.batch(0))

    def run(folder: Path, stop_after: int = 0) -> TrainState:
        options: dict[str, Any] = {"reporter": lambda step: Reporter(stop_after), "mesh": mesh}
        with Checkpoints(folder / "checkpoints") as checkpoints, pytest.MonkeyPatch.context() as patch:
            patch.setattr(loop, "Compiled", lambda *_: compiled)
            return fit(experiment.system, train, batches, validation, checkpoints, folder, **options)

    return run


@pytest.fixture(scope="module")
def uninterrupted(run, tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainState, list[dict[str, float]]]:
    folder = tmp_path_factory.mktemp("uninterrupted")
    return run(folder), logged_metrics(folder)


def test_five_random_interruptions_change_nothing(run, uninterrupted, tmp_path):
    rng, done = np.random.default_rng(0), 0
    for _ in range(5):
        with pytest.raises(Interrupted):
            run(tmp_path, stop_after=int(rng.integers(1, 1 + STEPS - done)))
        with Checkpoints(tmp_path / "checkpoints") as checkpoints:
            done = checkpoints.latest() or 0
    assert 0 < done < STEPS
    assert_equal(run(tmp_path), uninterrupted[0])
    assert logged_metrics(tmp_path) == uninterrupted[1]


def test_critics_and_separator_have_separate_optimizers(uninterrupted):
    """Each optimizer has the number of updates of its phase and only the parameters of its phase."""
    state, lines = uninterrupted
    paths = {
        phase: ["/".join(str(key) for key in path) for path, _ in jax.tree_util.tree_leaves_with_path(optimizer)]
        for phase, optimizer in state.optimizer.items()
    }
    assert set(paths) == {"critics", "separator"}
    for phase, other in (("critics", "separator"), ("separator", "critics")):
        assert any(f"{phase}/" in path for path in paths[phase])
        assert not any(f"{other}/" in path for path in paths[phase])
    counts = {phase: int(optimizer[0].count) for phase, optimizer in state.optimizer.items()}
    assert counts == {"critics": 2 * STEPS, "separator": STEPS}
    assert {path.split("/")[0] for path in state.ema} == {"critics", "separator"}
    named = [line for line in lines if "critics/loss" in line]
    assert [line["step"] for line in named] == list(range(1, STEPS + 1))
    assert all("separator/loss" in line and line["critics/skipped"] == line["separator/skipped"] == 0 for line in named)
