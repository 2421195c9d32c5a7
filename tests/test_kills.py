"""A killed command leaves nothing incomplete under a final name, and its next run ends like one that was never killed.

`pytest --slow --kills 100 -n0 tests/test_kills.py` kills a hundred times, over all commands.
"""

import os
import re
import shutil
import signal
import time
import zlib
from pathlib import Path

import numpy as np
import pytest

from tests.writing_commands import COMMANDS, assert_equal, contents, debris, end, finish, start, write_inputs

pytestmark = pytest.mark.slow
# Kills before a command may run to its end.
IN_A_ROW = 3


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> Path:
    return write_inputs(tmp_path_factory.mktemp("kills") / "inputs")


def copy(inputs: Path, folder: Path) -> Path:
    return Path(shutil.copytree(inputs, folder))


def entries(folder: Path) -> set[str]:
    # Unlike `rglob`, it accepts that folders vanish.
    return {os.path.join(parent, name) for parent, folders, files in os.walk(folder) for name in folders + files}


def wait_for_moment(process, folder: Path, seconds: float, rng: np.random.Generator) -> None:
    """Wait for a random moment of a command that takes `seconds`: any, or one at which it writes."""
    before, deadline = entries(folder), time.monotonic() + 2 * seconds
    if rng.random() < 0.3:
        deadline = time.monotonic() + rng.uniform(0, seconds)
        before = set()
    changes = rng.integers(1, 12)
    while process.poll() is None and time.monotonic() < deadline:
        if before and len(entries(folder) - before) >= changes:
            time.sleep(rng.exponential(0.02))
            return
        time.sleep(0.001 if before else 0.01)


@pytest.mark.parametrize("name", COMMANDS)
def test_killed_commands(name, inputs, tmp_path, request):
    rng = np.random.default_rng(zlib.crc32(name.encode()) + request.config.getoption("--kill-seed"))
    reference = copy(inputs, tmp_path / "unbroken")
    finish(name, reference)  # compiles
    shutil.rmtree(reference / "out")
    seconds = finish(name, reference)
    expected = contents(reference)
    assert expected
    assert debris(reference) == []
    left, rounds = request.config.getoption("--kills") // len(COMMANDS) or 1, 0
    while left:
        folder, rounds = copy(inputs, tmp_path / f"killed{rounds}"), rounds + 1
        for _ in range(min(left, IN_A_ROW)):
            process = start(name, folder)
            wait_for_moment(process, folder, seconds, rng)
            end(process, signal.SIGKILL, group=bool(rng.random() < 0.5))
            left -= 1
            complete = contents(folder)  # every file is complete
            if process.returncode == 0 or name == "train":
                continue
            complete.pop("manifest.json", None)  # it grows with every file
            assert_equal(complete, {file: expected[file] for file in complete})
        if name == "export":
            shutil.rmtree(folder / "out" / "bundle", ignore_errors=True)  # it refuses to replace a bundle
        finish(name, folder)
        assert_equal(contents(folder), expected)
        assert debris(folder) == []
        shutil.rmtree(folder)


@pytest.mark.parametrize("name", COMMANDS)
def test_terminated_commands_clean_up(name, inputs, tmp_path):
    reference = copy(inputs, tmp_path / "unbroken")
    finish(name, reference)  # compiles
    shutil.rmtree(reference / "out")
    seconds = finish(name, reference)
    for share in (0.1, 0.4, 0.6, 0.8, 0.95):
        folder = copy(inputs, tmp_path / f"terminated{share}")
        process = start(name, folder)
        time.sleep(share * seconds)
        errors = end(process, signal.SIGTERM, group=False)
        if process.returncode != 0:  # it was not finished
            assert process.returncode in (128 + signal.SIGTERM, -signal.SIGTERM)
            # Progress and warnings are left out.
            lines = [line for line in errors.splitlines() if not re.match(r"[\w ,.]+: (\d|done)|warning: ", line)]
            assert len(lines) <= 1, errors
            assert all(line == "stopped by SIGTERM" for line in lines)
        left = [path for path in debris(folder) if name != "prepare" or "-tracks" not in path]
        assert left == []  # the finished tracks of `prepare` wait for its next run
        contents(folder)
