"""Tests of the training loop: bitwise resumption, independence of the number of devices, and divergence."""

import contextlib
import dataclasses
from pathlib import Path

import jax
import numpy as np
import pytest

from qsep_jax.on_device.batches import DrawnBatches
from qsep_jax.runs.experiment import Experiment
from qsep_jax.systems.base import Optimizer
from qsep_jax.train import shapes_of
from qsep_jax.training import loop, sharding
from qsep_jax.training.checkpoint import Checkpoints
from qsep_jax.training.compiled import Compiled
from qsep_jax.training.log import Diverged
from qsep_jax.training.loop import fit
from qsep_jax.training.optimizers import Plateau
from qsep_jax.training.sharding import make_mesh
from qsep_jax.training.state import TrainState
from tests.experiments import debug, pipeline, write_corpora
from tests.training.interruptions import Interrupted, Reporter, assert_equal, logged_metrics

STEPS, BATCH = 10, 8
# Settings that do not enter a compiled function; the number of steps enters the cosine schedule alone.
NOT_COMPILED = {"steps": 0, "log_every": 1, "save_every": 1, "validate_every": 1, "summary_every": 0, "patience": 0}
NOT_COMPILED |= {"keep": 1, "most_skipped": 1, "workers": 0, "trace_from": 0, "trace_steps": 0}


@pytest.fixture(scope="module", autouse=True)
def _shared_compilations():
    """Runs with equal settings share their compiled functions; `test_kill` resumes in new processes."""
    shared: dict[tuple, Compiled] = {}

    def compiled(system, train, mesh, batch, drawn_batches):
        assert all(phase.optimizer.schedule != "cosine" for phase in system.phases())
        settings = repr(dataclasses.replace(train, **NOT_COMPILED))
        key = (system, settings, mesh, drawn_batches is not None, sharding.MIN_SPLIT_SIZE)
        if key not in shared:
            shared[key] = Compiled(system, train, mesh, batch, drawn_batches)
        return shared[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "Compiled", compiled)
        yield


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> tuple[Experiment, Path]:
    """An experiment that logs every step, and the folder of its corpora."""
    experiment, root = debug("lee2019.py"), tmp_path_factory.mktemp("corpora")
    write_corpora(experiment, root)
    settings = dataclasses.replace(
        experiment.train,
        steps=STEPS,
        batch_size=BATCH,
        ema_decay=0.9,
        log_every=1,
        save_every=2,
        validate_every=2,
        most_skipped=3,
    )
    return dataclasses.replace(experiment, train=settings), root


def run(
    case,
    folder: Path,
    *,
    devices: int = 1,
    stop_after: int = 0,
    batches=None,
    load_weights=None,
    on_device=False,
    should_stop=lambda step: False,
    **settings,
) -> TrainState:
    experiment, root = case
    train = dataclasses.replace(experiment.train, **settings)
    folder.mkdir(exist_ok=True)
    mesh = make_mesh(jax.devices()[:devices])
    drawn_batches = None
    if on_device:
        data = dataclasses.replace(experiment.data, root=str(root))
        drawn_batches = DrawnBatches(data, shapes_of(experiment.system), BATCH, train.seed, mesh)
    with Checkpoints(folder / "checkpoints", train.keep) as checkpoints:
        return fit(
            experiment.system,
            train,
            batches or pipeline(experiment, root, batch_size=BATCH),
            pipeline(experiment, root, "validation", batch_size=BATCH),
            checkpoints,
            folder,
            reporter=lambda step: Reporter(stop_after),
            mesh=mesh,
            load_weights=load_weights,
            drawn_batches=drawn_batches,
            should_stop=should_stop,
        )


def losses(folder: Path) -> np.ndarray:
    return np.array([line["cvae/loss"] for line in logged_metrics(folder) if "cvae/loss" in line])


@pytest.fixture(scope="module")
def uninterrupted(case, tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainState, Path]:
    """The final state of an uninterrupted run, and its folder."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    return run(case, folder), folder


@pytest.mark.parametrize("moments", [(1,), (3,), (2, 1, 2)], ids=str)
def test_an_interrupted_run_ends_like_an_uninterrupted_one(case, uninterrupted, tmp_path, moments):
    for moment in moments:
        with pytest.raises(Interrupted):
            run(case, tmp_path, stop_after=moment)
    assert_equal(run(case, tmp_path), uninterrupted[0])
    assert logged_metrics(tmp_path) == logged_metrics(uninterrupted[1])


def test_a_finished_run_does_not_change(case, uninterrupted):
    before = logged_metrics(uninterrupted[1])
    assert_equal(run(case, uninterrupted[1]), uninterrupted[0])
    assert logged_metrics(uninterrupted[1]) == before


def test_eight_devices_give_the_losses_of_one(case, uninterrupted, tmp_path):
    run(case, tmp_path, devices=8)
    one, eight = losses(uninterrupted[1]), losses(tmp_path)
    assert len(one) == 10
    np.testing.assert_allclose(eight, one, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("before", "after"), [(1, 8), (8, 1)])
def test_a_checkpoint_restores_on_another_number_of_devices(case, uninterrupted, tmp_path, before, after):
    with pytest.raises(Interrupted):
        run(case, tmp_path, devices=before, stop_after=3)
    experiment, root = case
    mesh = make_mesh(jax.devices()[:after])
    abstract_state = Compiled(
        experiment.system, experiment.train, mesh, pipeline(experiment, root).batch(0)
    ).abstract_state
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        variables, _ = checkpoints.restore_variables(2)
        state, batches = checkpoints.restore(2, abstract_state)
    assert batches == 2
    assert all(leaf.sharding.device_set == set(mesh.devices.flat) for leaf in jax.tree.leaves(state))
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(variables), jax.device_get(state.variables))
    end = run(case, tmp_path, devices=after)
    assert end.step == STEPS
    np.testing.assert_allclose(losses(tmp_path), losses(uninterrupted[1]), rtol=1e-5)


@pytest.mark.slow
def test_a_split_state_gives_the_losses_of_a_replicated_one(case, uninterrupted, tmp_path, monkeypatch):
    monkeypatch.setattr(sharding, "MIN_SPLIT_SIZE", 1)
    end = run(case, tmp_path, devices=8, shard_parameters=True)
    np.testing.assert_allclose(losses(tmp_path), losses(uninterrupted[1]), rtol=1e-5)
    split_bytes, replicated_bytes = (
        sum(leaf.addressable_shards[0].data.nbytes for leaf in jax.tree.leaves(state))
        for state in (end, uninterrupted[0])
    )
    assert split_bytes < 0.3 * replicated_bytes


@pytest.mark.slow
@pytest.mark.parametrize(("before", "after"), [((8, True), (1, False)), ((1, False), (4, True))], ids=str)
def test_a_split_checkpoint_restores_as_a_replicated_one_and_back(
    case, uninterrupted, tmp_path, monkeypatch, before, after
):
    monkeypatch.setattr(sharding, "MIN_SPLIT_SIZE", 1)
    with pytest.raises(Interrupted):
        run(case, tmp_path, devices=before[0], shard_parameters=before[1], stop_after=3)
    end = run(case, tmp_path, devices=after[0], shard_parameters=after[1])
    assert end.step == STEPS
    np.testing.assert_allclose(losses(tmp_path), losses(uninterrupted[1]), rtol=1e-5)


def test_a_run_requested_to_stop_saves_and_ends(case, uninterrupted, tmp_path):
    assert run(case, tmp_path, should_stop=lambda step: step == 3).step == 3
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        assert checkpoints.latest() == 3
    assert_equal(run(case, tmp_path), uninterrupted[0])
    assert logged_metrics(tmp_path) == logged_metrics(uninterrupted[1])


@pytest.mark.slow
def test_the_profile_of_some_steps_is_recorded(case, tmp_path):
    run(case, tmp_path, steps=4, trace_from=1, trace_steps=2)
    (profile,) = (tmp_path / "trace").rglob("*.xplane.pb")
    assert profile.stat().st_size > 0


@pytest.mark.slow
def test_xla_flags(case, uninterrupted, tmp_path):
    run(case, tmp_path / "valid", xla_flags={"xla_cpu_enable_fast_min_max": "true"})
    assert losses(tmp_path / "valid")[0] == pytest.approx(losses(uninterrupted[1])[0], rel=1e-5)
    with pytest.raises(ValueError, match=r"train\.xla_flags .*no_such_flag"):
        run(case, tmp_path / "invalid", xla_flags={"xla_no_such_flag": "1"})


def test_several_steps_in_one_dispatch_are_the_same_steps(case, uninterrupted, tmp_path):
    run(case, tmp_path, steps_per_dispatch=2, log_every=2)
    np.testing.assert_allclose(losses(tmp_path)[-1], losses(uninterrupted[1])[-2:].mean(), rtol=1e-5)


@pytest.fixture(scope="module")
def drawn_run(case, tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainState, Path]:
    """The final state of a run with its corpus on the device, and its folder."""
    folder = tmp_path_factory.mktemp("drawn")
    return run(case, folder, on_device=True), folder


def test_a_run_with_its_corpus_on_the_device_has_other_losses(drawn_run, uninterrupted):
    """It trains on other examples than a run that mixes on the host, for the same number of steps."""
    on_device, on_host = losses(drawn_run[1]), losses(uninterrupted[1])
    assert on_device.shape == on_host.shape
    assert np.isfinite(on_device).all()
    assert (on_device != on_host).all()


def test_a_run_with_its_corpus_on_the_device_resumes_to_the_bit(case, drawn_run, tmp_path):
    with pytest.raises(Interrupted):
        run(case, tmp_path, on_device=True, stop_after=3)
    assert_equal(run(case, tmp_path, on_device=True), drawn_run[0])
    assert logged_metrics(tmp_path) == logged_metrics(drawn_run[1])


@pytest.mark.slow
def test_drawn_batches_give_the_same_losses_on_eight_devices(case, drawn_run, tmp_path):
    run(case, tmp_path, on_device=True, devices=8)
    np.testing.assert_allclose(losses(tmp_path), losses(drawn_run[1]), rtol=1e-5)


@pytest.mark.slow
def test_drawn_batches_allow_several_steps_in_one_dispatch(case, drawn_run, tmp_path):
    run(case, tmp_path, on_device=True, steps_per_dispatch=2, log_every=2)
    np.testing.assert_allclose(losses(tmp_path)[-1], losses(drawn_run[1])[-2:].mean(), rtol=1e-5)


@pytest.fixture(scope="module")
def plateau_case(case) -> tuple[Experiment, Path]:
    """An experiment whose learning rate halves at every second validation for any loss."""
    experiment, root = case
    optimizer = Optimizer(learning_rate=1e-2, schedule="plateau", patience=4, threshold=1e9)
    return dataclasses.replace(experiment, system=dataclasses.replace(experiment.system, optimizer=optimizer)), root


@pytest.mark.slow
def test_a_learning_rate_reduced_on_plateaus_is_resumed(plateau_case, tmp_path):
    expected = run(plateau_case, tmp_path / "uninterrupted")
    scales = [leaf.scale for leaf in expected.optimizer["cvae"] if isinstance(leaf, Plateau)]
    assert [float(scale) for scale in scales] == [0.25]  # validations at steps 2 (the lowest), 4, 6, 8 and 10
    for moment in (5, 2):
        with pytest.raises(Interrupted):
            run(plateau_case, tmp_path / "interrupted", stop_after=moment)
    assert_equal(run(plateau_case, tmp_path / "interrupted"), expected)


def test_weights_are_only_loaded_into_a_new_run(case, tmp_path):
    def zeros(variables):
        return {**variables, "params": jax.tree.map(np.zeros_like, variables["params"])}

    state = run(case, tmp_path, steps=0, load_weights=zeros)
    assert not any(leaf.any() for leaf in jax.tree.leaves((state.variables, state.ema)))
    with pytest.warns(UserWarning, match="the latent is empty"):  # since the networks started from zeros
        continued = run(case, tmp_path, steps=4, load_weights=lambda variables: pytest.fail("the run is not new"))
    assert any(leaf.any() for leaf in jax.tree.leaves(continued.variables))


class Poisoned:
    """A pipeline in which some batches are nan."""

    def __init__(self, inner, numbers: set[int]):
        self._inner, self._numbers = inner, numbers

    def batch(self, number: int):
        batch = self._inner.batch(number)
        return jax.tree.map(lambda leaf: leaf * np.float32("nan"), batch) if number in self._numbers else batch

    def batches(self, start: int = 0, workers: int = 0):
        number = start
        while True:
            yield self.batch(number)
            number += 1


def test_a_batch_of_nan_is_skipped_and_counted(case, tmp_path):
    experiment, root = case
    state = run(case, tmp_path, batches=Poisoned(pipeline(experiment, root, batch_size=BATCH), {1, 2}))
    assert state.skipped == 2
    assert state.step == STEPS
    lines = {line["step"]: line for line in logged_metrics(tmp_path) if "cvae/skipped" in line}
    assert [lines[step]["cvae/skipped"] for step in (1, 2, 3, 4)] == [0, 1, 1, 0]
    assert np.isfinite(losses(tmp_path)).all()
    assert jax.tree.all(jax.tree.map(lambda leaf: np.isfinite(leaf).all(), jax.device_get(state.variables)))


def test_a_diverged_run_stops_names_the_step_and_saves_the_batch(case, tmp_path):
    experiment, root = case
    batches = Poisoned(pipeline(experiment, root, batch_size=BATCH), set(range(2, 99)))
    with pytest.raises(Diverged, match=r"step 2: .* phase 'cvae' was not finite in 3 consecutive updates"):
        run(case, tmp_path, batches=batches)
    with np.load(tmp_path / "diverged_step2_process0.npz") as batch:
        assert np.isnan(batch["cvae/mixture"]).all()
        assert batch["cvae/mixture"].shape[0] == BATCH


def test_the_best_checkpoint_is_kept_besides_the_latest(case, tmp_path):
    with contextlib.ExitStack() as stack:
        checkpoints = stack.enter_context(Checkpoints(tmp_path, keep=1))
        experiment, root = case
        mesh, batch = make_mesh(jax.devices()[:1]), pipeline(experiment, root).batch(0)
        state = Compiled(experiment.system, experiment.train, mesh, batch).create()
        for step, loss in {1: 3.0, 2: 1.0, 3: 2.0, 4: None}.items():
            checkpoints.save(step, state, loss)
        checkpoints.wait()
        assert checkpoints.best() == 2
        assert checkpoints.latest() == 4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step_2", "step_4"]


def test_the_error_names_a_damaged_checkpoint(case, tmp_path):
    with pytest.raises(Interrupted):
        run(case, tmp_path, stop_after=3)
    folder = tmp_path / "checkpoints" / "step_2" / "variables"
    for path in folder.rglob("*"):
        if path.is_file() and path.stat().st_size > 500:
            path.write_bytes(path.read_bytes()[:100])
    with Checkpoints(tmp_path / "checkpoints") as checkpoints, pytest.raises(ValueError, match=r"step 2 in .* damaged"):
        checkpoints.restore_variables(2)


def test_a_batch_that_the_devices_do_not_divide_is_refused(case, tmp_path):
    with pytest.raises(ValueError, match=r"a batch of 6 cannot be split over 4 devices; choose 4 or 8"):
        run(case, tmp_path, devices=4, batch_size=6)


def test_intervals_must_be_multiples_of_the_dispatch(case, tmp_path):
    with pytest.raises(ValueError, match=r"train.save_every = 2 is not .*steps_per_dispatch = 4"):
        run(case, tmp_path, steps=8, steps_per_dispatch=4, validate_every=4, summary_every=4, log_every=4)
