"""Who may delete a checkpoint that is not complete, and what a damaged or unwritable one says."""

import time
from pathlib import Path

import numpy as np
import pytest

from qsep_jax.training.checkpoint import Checkpoints
from qsep_jax.training.state import TrainState

SECONDS = 10.0  # orbax deletes in a thread of its own


def unfinished(folder: Path) -> Path:
    """A checkpoint as orbax leaves it when its process is killed while it writes."""
    path = folder / "step_4.orbax-checkpoint-tmp"
    (path / "variables").mkdir(parents=True)
    return path


def test_a_reader_leaves_an_unfinished_checkpoint_to_its_writer(tmp_path):
    path = unfinished(tmp_path)
    with Checkpoints(tmp_path, independent=True) as checkpoints:
        assert checkpoints.latest() is None
        time.sleep(0.5)
    assert path.exists()


def test_training_deletes_an_unfinished_checkpoint(tmp_path):
    path = unfinished(tmp_path)
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.latest() is None
        end = time.monotonic() + SECONDS
        while path.exists() and time.monotonic() < end:
            time.sleep(0.02)
    assert not path.exists()


def save(folder: Path, *steps: int) -> None:
    """Save a state of one number at each step, with falling validation losses."""
    state = TrainState(
        step=np.int32(0), variables={"params": {"a": np.ones(3, np.float32)}}, ema={}, optimizer={}, skipped={}
    )
    with Checkpoints(folder, keep=5) as checkpoints:
        for step in steps:
            checkpoints.save(step, state, 1 / step)


def without_last_byte(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize(
    "change", [without_last_byte, lambda path: path.write_text(""), lambda path: path.write_text('{"step": 4}')]
)
def test_a_damaged_validation_loss_names_its_checkpoint(change, tmp_path):
    save(tmp_path, 2, 4)
    change(tmp_path / "step_4" / "metrics" / "metrics")
    for independent in (False, True):
        with pytest.raises(ValueError, match=rf"step 4 in {tmp_path} .*Delete {tmp_path}/step_4 to go on from step 2"):
            Checkpoints(tmp_path, independent=independent)


def test_a_damaged_checkpoint_says_what_deleting_it_leads_to(tmp_path):
    save(tmp_path, 2, 4)
    for step, remedy in ((4, "to go on from step 2"), (2, "to start again, since there is no earlier one")):
        for path in (tmp_path / f"step_{step}" / "variables").rglob("manifest.ocdbt"):
            without_last_byte(path)
        message = f"Delete {tmp_path}/step_{step} {remedy}"
        with Checkpoints(tmp_path, independent=True) as checkpoints, pytest.raises(ValueError, match=message) as error:
            checkpoints.restore_variables(step)
        assert "tensorstore" not in str(error.value).lower()
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(28, "No space left on device"), "No space left on device"),
        (
            ValueError("RESOURCE_EXHAUSTED: No space left on device [tensorstore_spec='{}']"),
            "No space l",
        ),
        (PermissionError(13, "Permission denied"), "Permission denied"),
    ],
)
def test_a_checkpoint_that_cannot_be_written_is_an_error_with_a_remedy(error, reason, tmp_path, monkeypatch):
    def fail(*_, **__) -> None:
        raise error

    checkpoints = Checkpoints(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints._manager, "wait_until_finished", fail)
        with pytest.raises(OSError, match=rf"cannot be written \({reason}.*make room on the disk.* command continues"):
            checkpoints.wait()
    checkpoints.close()


def test_the_first_of_several_errors_is_raised(tmp_path, monkeypatch):
    def fail() -> None:
        raise OSError(28, "No space left on device")

    checkpoints = Checkpoints(tmp_path)
    monkeypatch.setattr(checkpoints._manager, "close", fail)
    with pytest.raises(KeyError), checkpoints:
        raise KeyError("first")
