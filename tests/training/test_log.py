"""Tests of the log: deferred transfer, means, and detection of divergence."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qsep_jax.training import log as log_module
from qsep_jax.training.log import Diverged, Log
from qsep_jax.training.settings import Train
from qsep_jax.training.writer import Writer


class Recorder:
    """A reporter and a writer that record their calls."""

    def __init__(self):
        self.lines, self.steps, self.note = {}, 0, ""

    def advance(self, count: int = 1, note: str = "") -> None:
        self.steps, self.note = self.steps + count, note

    def scalars(self, step: int, values: dict[str, float]) -> None:
        self.lines[step] = values


def make(**settings) -> tuple[Log, Recorder]:
    recorder = Recorder()
    return Log(Train(**{"log_every": 3, **settings}), recorder, recorder), recorder  # pyright: ignore[reportArgumentType]


def metrics(loss: float | list[float], skipped: int | list[int] = 0, phase: str = "cvae"):
    losses = np.atleast_1d(np.float32(loss))
    skips = np.broadcast_to(np.atleast_1d(np.int32(skipped)), losses.shape)
    return {f"{phase}/loss": jnp.asarray(losses), f"{phase}/skipped": jnp.asarray(skips)}


def test_writes_means_and_the_number_of_skipped_updates():
    log, recorder = make(batch_size=4)
    for step, (loss, skipped) in enumerate([(1.0, 0), (float("nan"), 1), (3.0, 0), (5.0, 0)], 1):
        log.add(step, metrics(loss, skipped))
    log.flush()
    assert list(recorder.lines) == [3, 4]
    assert recorder.lines[3]["cvae/loss"] == 2.0
    assert recorder.lines[3]["cvae/skipped"] == 1.0
    assert recorder.lines[4]["cvae/loss"] == 5.0
    assert recorder.lines[3]["examples_per_second"] > 0
    assert recorder.steps == 4
    log.flush()
    assert list(recorder.lines) == [3, 4]


def test_a_loss_of_only_skipped_updates_is_omitted():
    log, recorder = make()
    log.add(1, metrics(float("nan"), 1))
    log.flush()
    assert "cvae/loss" not in recorder.lines[1]
    assert recorder.lines[1]["cvae/skipped"] == 1.0


def test_metrics_are_fetched_in_the_step_after_a_log_step(monkeypatch):
    fetched, device_get = [], jax.device_get
    monkeypatch.setattr(log_module.jax, "device_get", lambda tree: fetched.append(len(tree)) or device_get(tree))
    log, recorder = make()
    for step in range(1, 4):
        log.add(step, metrics(step))
        assert not fetched
        assert not recorder.lines
    log.add(4, metrics(4.0))
    assert fetched == [3]
    assert list(recorder.lines) == [3]
    log.add(5, metrics(5.0))
    log.add(6, metrics(6.0))
    assert fetched == [3]
    log.add(7, metrics(7.0))
    assert fetched == [3, 3]
    assert recorder.lines[6]["cvae/loss"] == 5.0


def test_the_number_of_unfinished_dispatches_is_limited(monkeypatch):
    waited = []
    monkeypatch.setattr(log_module.jax, "block_until_ready", waited.append)
    log, _ = make()
    added = [metrics(float(step)) for step in range(3)]
    for step, step_metrics in enumerate(added, 1):
        log.add(step, step_metrics)
    assert waited == [added[0]]


@pytest.mark.parametrize("per_dispatch", [1, 2])
def test_diverges_after_too_many_consecutive_skips(per_dispatch):
    """Of steps 0 to 9, the steps 2, 3 and 5 to 8 are skipped: the third consecutive skip is 7, the first is 5."""
    skipped = [0, 0, 1, 1, 0, 1, 1, 1, 1, 0]
    log, recorder = make(most_skipped=3, steps_per_dispatch=per_dispatch, log_every=20)
    for step in range(0, 10, per_dispatch):
        part = skipped[step : step + per_dispatch]
        separator = metrics([1.0] * per_dispatch, 0, "separator")
        log.add(step + per_dispatch, {**separator, **metrics([1.0] * per_dispatch, part, "critics")})
    message = r"stopped at step 5: .* phase 'critics' was not finite in 3 consecutive updates"
    with pytest.raises(Diverged, match=message) as raised:
        log.flush()
    assert (raised.value.phase, raised.value.step, raised.value.count) == ("critics", 5, 3)
    assert recorder.lines[10]["critics/skipped"] == 6  # the metrics up to the divergence are written
    assert recorder.steps == 10


def test_consecutive_skips_continue_across_log_steps_and_end_with_an_update():
    log, _ = make(most_skipped=3)
    for step, skip in enumerate([1, 1, 0, 1, 1, 0, 0, 0, 1, 1], 1):
        log.add(step, metrics(1.0, skip))
    log.add(11, metrics(1.0, 1))
    with pytest.raises(Diverged, match="stopped at step 8"):
        log.flush()


def test_the_output_is_json(tmp_path):
    writer, recorder = Writer(tmp_path), Recorder()
    log = Log(Train(log_every=1), writer, recorder)
    log.add(1, metrics(0.5))
    log.flush()
    writer.close()
    (line,) = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert json.loads(line)["cvae/loss"] == 0.5
