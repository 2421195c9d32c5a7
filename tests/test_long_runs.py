"""Memory and open files of long work stay flat: `pytest --slow --long -n0 tests/test_long_runs.py` takes longest.

With `--long`, these are 20,000 steps of training and 1,000 separated files, otherwise a tenth of them.
"""

import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.writing_commands import COMMANDS, start, write_inputs

pytestmark = pytest.mark.slow
# What may be added after the first fifth: fragments of the heap, and what a checkpoint has open while it is written.
MIB, FILES = 40.0, 12


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> Path:
    return write_inputs(tmp_path_factory.mktemp("long") / "inputs")


@pytest.fixture
def factor(request) -> int:
    return 10 if request.config.getoption("--long") else 1


def resources(process: subprocess.Popen) -> tuple[float, int]:
    """Resident memory in MiB and open files of a process."""
    folder = Path(f"/proc/{process.pid}")
    pages = int((folder / "statm").read_text().split()[1])
    return pages * 4096 / 2**20, sum(1 for _ in (folder / "fd").iterdir())


def watch(process: subprocess.Popen, done: Callable[[], int], total: int) -> np.ndarray:
    """The resources at the end of each tenth of the work, `[10, 2]`, each the median of the samples in that tenth."""
    samples: dict[int, list[tuple[float, int]]] = {part: [] for part in range(10)}
    while process.poll() is None:
        part = min(10 * done() // total, 9)
        try:
            samples[part].append(resources(process))
        except OSError:  # it has ended
            break
        time.sleep(0.5)
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors
    return np.array([np.median(samples[part], axis=0) for part in range(10) if samples[part]])


def check_flat(rows: np.ndarray) -> None:
    print("\nMiB:  ", *(f"{row[0]:.0f}" for row in rows), "\nfiles:", *(f"{row[1]:.0f}" for row in rows))
    assert len(rows) >= 6
    early, late = rows[2], rows[-1]
    assert late[0] < early[0] + MIB
    assert late[1] < early[1] + FILES


def lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def test_training(inputs, tmp_path, monkeypatch, factor):
    folder, steps = Path(shutil.copytree(inputs, tmp_path / "training")), 2_000 * factor
    options = COMMANDS["train"][: COMMANDS["train"].index("--train.steps")]
    options += ("--train.steps", str(steps), "--train.save-every", "250", "--train.log-every", "10")
    options += ("--train.validate-every", "250", "--train.no-evaluate")
    monkeypatch.setitem(COMMANDS, "train", options)
    metrics = folder / "out" / "run" / "metrics.jsonl"
    check_flat(watch(start("train", folder), lambda: 10 * lines(metrics), steps))


def test_separation(inputs, tmp_path, monkeypatch, factor):
    folder, count, rng = Path(shutil.copytree(inputs, tmp_path / "separation")), 100 * factor, np.random.default_rng(0)
    (folder / "songs").mkdir()
    for number in range(count):
        samples = rng.uniform(-0.9, 0.9, (rng.integers(4_000, 40_000), 2))
        soundfile.write(folder / "songs" / f"{number}.wav", samples, 16_000, "PCM_16")
    options = ("qsep_jax.separate", "songs", "--query", "query.wav", "--model", "run", "--out", "out")
    monkeypatch.setitem(COMMANDS, "separate", (*options, "--clip", "rescale"))
    out = folder / "out"
    check_flat(watch(start("separate", folder), lambda: len(list(out.iterdir())) if out.exists() else 0, count))
