"""Tests of runs that end when the validation loss no longer improves."""

import dataclasses
from pathlib import Path
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qsep_jax.systems.base import Aux, Optimizer, Phase, System
from qsep_jax.training.checkpoint import Checkpoints
from qsep_jax.training.loop import fit
from qsep_jax.training.settings import DEBUG
from qsep_jax.training.sharding import make_mesh
from qsep_jax.training.state import TrainState
from tests.training.interruptions import Interrupted, Reporter, assert_equal, logged_metrics

# The run is validated and saved at every second step.
SETTINGS = dataclasses.replace(DEBUG, steps=20, batch_size=1, log_every=1, summary_every=0)


@dataclasses.dataclass(frozen=True)
class Counter(System):
    """A system whose parameter counts updates.

    `losses` gives the validation loss after every second update, and from update `second_stage` on training is in its
    second stage.
    """

    losses: tuple[float, ...] = ()
    second_stage: int = 1_000
    cues: ClassVar[tuple[str, ...]] = ()
    stems: tuple[str, ...] = ("all",)
    sample_rate: int = 8_000
    compute_dtype: str = "float32"
    chunk_samples: ClassVar[int] = 1  # pyright: ignore[reportIncompatibleMethodOverride, reportAssignmentType]
    query_samples: ClassVar[int] = 1  # pyright: ignore[reportIncompatibleMethodOverride, reportAssignmentType]

    def init(self, key, spec):
        return {"params": {"counter": {"updates": jnp.zeros(())}}}

    def phases(self):
        return (Phase("count", ("counter",), self.loss, Optimizer("sgd", learning_rate=1.0, b1=0.0)),)

    def loss(self, variables, batch, key):
        return -variables["params"]["counter"]["updates"] + 0.0 * batch["mixture"].sum(), Aux({})

    def validate(self, variables, batch, key):
        validations = variables["params"]["counter"]["updates"].astype(jnp.int32) // 2
        return {"loss": jnp.array(self.losses)[jnp.maximum(validations - 1, 0)]}

    def warnings(self, validation):
        return (f"the loss is {validation['loss']}",) if validation["loss"] > 7 else ()

    def stage(self, variables):
        return (variables["params"]["counter"]["updates"] >= self.second_stage).astype(jnp.float32)

    def preview(self, variables, batch) -> Any: ...

    def condition(self, variables, cues) -> Any: ...

    def separate(self, variables, mixture, condition) -> Any: ...


class Silence:
    """A pipeline of silent batches."""

    def batch(self, number: int):
        return {"count": {"mixture": np.zeros((1, 1, 1), np.float32)}}

    def batches(self, start: int = 0, workers: int = 0):
        while True:
            yield self.batch(start)


def run(
    folder: Path, losses: tuple[float, ...], *, stop_after: int = 0, second_stage: int = 1_000, **settings
) -> tuple[TrainState, int | None]:
    """Train; return the final state and the best step."""
    folder.mkdir(exist_ok=True)
    train, silence = dataclasses.replace(SETTINGS, **settings), Silence()
    with Checkpoints(folder / "checkpoints", train.keep) as checkpoints:
        options: dict[str, Any] = {"reporter": lambda step: Reporter(stop_after), "mesh": make_mesh(jax.devices()[:1])}
        system = Counter(losses, second_stage)
        state = fit(system, train, silence, silence, checkpoints, folder, **options)  # pyright: ignore[reportArgumentType]
        return state, checkpoints.best()


RISING = (5.0, 4.0, 4.5, 3.0, 3.5, 3.2, 1.0, 0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("patience", "losses", "end", "best"),
    [
        (1, RISING, 6, 4),
        (2, RISING, 12, 8),
        (3, RISING, 20, 16),  # 16 is the first step with the lowest loss
        (2, (2.0, 2.0, 2.0, 1.0), 6, 2),  # an equal loss is no improvement
    ],
)
def test_a_run_ends_after_validations_without_improvement(tmp_path, patience, losses, end, best):
    state, best_step = run(tmp_path, losses, patience=patience, keep=1)
    assert (int(state.step), best_step) == (end, best)
    assert float(state.variables["params"]["counter"]["updates"]) == end
    assert max(line["step"] for line in logged_metrics(tmp_path)) == end


def test_the_warnings_of_a_system_are_reported_after_the_second_validation(tmp_path):
    """At the first validation, training has only begun."""
    with pytest.warns(UserWarning, match="the loss is") as reported:
        run(tmp_path, (9.0, 8.0, *RISING[2:]))
    assert [str(warning.message) for warning in reported if "the loss" in str(warning.message)] == ["the loss is 8.0"]


def test_losses_of_an_earlier_stage_do_not_count(tmp_path):
    """The lowest loss of all, at step 4, is of the first stage; from step 6 on the losses are of the second stage."""
    losses = (1.0, 0.5, 4.0, 3.0, 3.5, 3.2)
    state, best_step = run(tmp_path / "stages", losses, patience=2, keep=1, second_stage=6)
    assert (int(state.step), best_step) == (12, 8)
    state, best_step = run(tmp_path / "one_stage", losses, patience=2, keep=1)
    assert (int(state.step), best_step) == (8, 4)


def test_an_ended_run_does_not_continue(tmp_path):
    first, _ = run(tmp_path, RISING, patience=1)
    before = logged_metrics(tmp_path)
    again, best = run(tmp_path, RISING, patience=1)
    assert_equal(first, again)
    assert logged_metrics(tmp_path) == before
    assert best == 4
    continued, _ = run(tmp_path, RISING, patience=2)
    assert int(continued.step) == 12


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("uninterrupted")
    return *run(folder, RISING, patience=2), logged_metrics(folder)


@pytest.mark.parametrize("moments", [(1, 6), (7, 1, 2)], ids=str)
def test_an_interrupted_run_ends_like_an_uninterrupted_one(uninterrupted, tmp_path, moments):
    for moment in moments:
        with pytest.raises(Interrupted):
            run(tmp_path, RISING, patience=2, stop_after=moment)
    state, best = run(tmp_path, RISING, patience=2)
    assert_equal(state, uninterrupted[0])
    assert best == uninterrupted[1]
    assert logged_metrics(tmp_path) == uninterrupted[2]


@pytest.mark.parametrize("settings", [{"patience": -1}, {"patience": 1, "save_every": 4}, {"validate_every": 0}])
def test_patience_needs_a_checkpoint_at_each_validation(settings):
    with pytest.raises(ValueError, match=r"train.save_every \d and train.validate_every \d the same value"):
        dataclasses.replace(SETTINGS, **{"patience": 1, **settings})
