"""Who may delete a checkpoint that is not complete: the process that trains, and no process that reads."""

import time
from pathlib import Path

from qsep_jax.training.checkpoint import Checkpoints

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
