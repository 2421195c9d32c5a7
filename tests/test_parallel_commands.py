"""Several processes of a command at once, on one run folder, one corpus and one output folder: nothing is lost.

Four processes; with `--long`, also two and eight.
"""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.writing_commands import COMMANDS, assert_equal, contents, debris, finish, start, write_inputs

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> Path:
    return write_inputs(tmp_path_factory.mktemp("parallel") / "inputs")


@pytest.fixture(scope="module")
def unbroken(inputs, tmp_path_factory):
    """What one process of a command writes."""
    folder = tmp_path_factory.mktemp("unbroken")

    def write(name: str) -> dict:
        if not (folder / name).exists():
            finish(name, Path(shutil.copytree(inputs, folder / name)))
        return contents(folder / name)

    return write


@pytest.fixture(params=[2, 4, 8])
def count(request) -> int:
    if request.param != 4 and not request.config.getoption("--long"):
        pytest.skip("needs --long")
    return request.param


def run_at_once(name: str, folder: Path, count: int) -> list[tuple[int, list[str]]]:
    """The exit code of each process, and the lines that it wrote to stderr."""
    processes = [start(name, folder) for _ in range(count)]
    errors = [process.communicate(timeout=600)[1] for process in processes]
    return [(process.returncode, text.splitlines()) for process, text in zip(processes, errors, strict=True)]


def test_one_of_several_trainings_works_on_a_run_folder(inputs, unbroken, tmp_path, count):
    folder = Path(shutil.copytree(inputs, tmp_path / "training"))
    results = run_at_once("train", folder, count)
    codes = sorted(code for code, _ in results)
    # A process that starts after the first one has ended finds a finished run.
    assert set(codes) <= {0, 2}
    assert 0 in codes
    for code, lines in results:
        if code:
            assert re.fullmatch(r"error: .*/out/run: process \d+ on .* is at work here: wait for .*", lines[-1])
    assert_equal(contents(folder), unbroken("train"))
    assert debris(folder) == []


def test_several_processes_prepare_one_corpus(inputs, unbroken, tmp_path, count):
    folder = Path(shutil.copytree(inputs, tmp_path / "preparing"))
    results = run_at_once("prepare", folder, count)
    assert [code for code, _ in results] == [0] * count
    assert_equal(contents(folder), unbroken("prepare"))
    assert debris(folder) == []


def test_several_processes_write_to_one_output_folder(inputs, tmp_path, count, monkeypatch):
    folder, rng = Path(shutil.copytree(inputs, tmp_path / "separating")), np.random.default_rng(0)
    processes = []
    for number in range(count):
        samples = rng.uniform(-0.9, 0.9, (16_000, 2))
        soundfile.write(folder / f"song{number}.wav", samples, 16_000, "PCM_16")
        options = ("qsep_jax.separate", f"song{number}.wav", "--query", "query.wav", "--model", "run", "--out", "out")
        monkeypatch.setitem(COMMANDS, "separate", options)
        processes.append(start("separate", folder))
    errors = "".join(process.communicate(timeout=600)[1] for process in processes)
    assert [process.returncode for process in processes] == [0] * count, errors
    entries = json.loads((folder / "out" / "manifest.json").read_text())
    paths = {output["path"] for entry in entries for item in entry["separated"] for output in item["outputs"]}
    assert len(entries) == len(paths) == count
    assert all(soundfile.info(folder / path).frames == 16_000 for path in paths)
    assert debris(folder) == []
