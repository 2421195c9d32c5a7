"""Every command that writes files, in a process of its own, which a test can kill; and comparison of what it wrote."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from array_record.python.array_record_module import ArrayRecordReader
from safetensors import safe_open

from data_pipelines.annotations.note_files import write_midi
from data_pipelines.prepared import records
from tests.commands import config_of, train_debug
from tests.data_pipelines.signals import write_tracks
from tests.experiments import ROOT, debug, write_corpora
from tests.processes import arrays
from tests.test_adapt import write_bundle

# What two runs of a command need not have in common: times, the run's number, the folder of its inputs, and digests of
# records, whose fields protobuf writes in a varying order.
VOLATILE = {"time", "examples_per_second", "id", "inputs", "digests"}
QUICK = ("--epochs", "1", "--hop", "1.0", "--rate", "1e-3", "--split", "l4")
TRAIN = ("--train.steps", "20", "--train.save-every", "4", "--train.validate-every", "4", "--train.log-every", "1")

# The arguments of each command, run in a copy of the inputs; every output is below `out`.
COMMANDS: dict[str, tuple[str, ...]] = {
    "prepare": ("data_pipelines.prepare", "folder", "--source", "source", "--out", "out", "--workers", "1"),
    "train": (
        *("qsep_jax.train", "--config", config_of("lee2019.py"), "--workdir", "out/run", "--data.root", "data"),
        *TRAIN,
    ),
    "separate": (
        *("qsep_jax.separate", "a.wav", "b.wav", "--query", "query.wav", "--model", "run", "--out", "out"),
        *("--clip", "rescale", "--residual"),
    ),
    "transcribe": (
        *("qsep_jax.transcribe", "a.wav", "b.wav", "--query", "query.wav", "--model", "score_run", "--out", "out"),
    ),
    "synthesize": (
        *("qsep_jax.synthesize", "a.wav", "--query", "query.wav", "--score", "score.mid", "--model", "score_run"),
        *("--out", "out/x.wav", "--iterations", "3", "--transpose", "0"),
    ),
    "adapt": ("qsep_jax.adapt", "a.wav", "--activations", "a.csv", "--model", "tasnet", "--out", "out", *QUICK),
    "evaluate": ("qsep_jax.evaluate", "excerpts", "--workdir", "run", "--root", "data", "--out", "out"),
    "export": ("qsep_jax.export", "--workdir", "run", "--out", "out/bundle"),
}


def write_inputs(folder: Path) -> Path:
    """Write the inputs of all commands: corpora, sounds, annotations and trained models."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    write_corpora(debug("lee2019.py"), folder / "data")
    for name, config in (("run", "lee2019.py"), ("score_run", "lin2021.py")):
        train_debug(config, folder / "training" / name).rename(folder / name)
    write_bundle("cantisani2021.py:debug", folder / "tasnet")
    write_tracks(folder / "source", {f"train/{name}": ["bass", "drums"] for name in "abcdef"} | {"test/g": ["bass"]})
    for name in ("a", "b"):
        soundfile.write(folder / f"{name}.wav", rng.uniform(-0.9, 0.9, (24_000, 2)), 16_000, "PCM_16")
    soundfile.write(folder / "query.wav", rng.uniform(-0.5, 0.5, 30_000), 16_000)
    (folder / "a.csv").write_text("stem,start,end\ndrums,0.2,1.0\nvocals,,\n")
    write_midi(folder / "score.mid", np.float32([[0.1, 0.5, 60], [0.5, 0.9, 64]]))
    return folder


def start(name: str, folder: Path) -> subprocess.Popen:
    """Start a command in a folder with the inputs, in a session of its own."""
    flags = re.sub(r"(?<=device_count=)\d+", "1", os.environ["XLA_FLAGS"])
    environment = {**os.environ, "XLA_FLAGS": flags, "PYTHONPATH": str(ROOT)}
    module, *options = COMMANDS[name]
    return subprocess.Popen(
        [sys.executable, "-m", module, *options],
        cwd=folder,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finish(name: str, folder: Path) -> float:
    """Run a command to its end, which must be without an error: the seconds that it took."""
    before = time.monotonic()
    process = start(name, folder)
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors
    return time.monotonic() - before


def end(process: subprocess.Popen, number: signal.Signals, group: bool) -> str:
    """Send a signal to a command, or to all of its processes, and wait for their end: what it wrote to stderr."""
    if process.poll() is None:
        (os.killpg if group else os.kill)(process.pid, number)
    _, errors = process.communicate(timeout=300)
    deadline = time.monotonic() + 60
    while members(process.pid):
        assert time.monotonic() < deadline, f"processes of {process.args} are left"
        time.sleep(0.05)
    return errors


def members(session: int) -> list[int]:
    """Processes of a session that still run; zombies do not count."""
    running = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, of_process = path.read_text().rsplit(")", 1)[1].split()[:4]
        except OSError:
            continue
        if int(of_process) == session and state != "Z":
            running.append(int(path.parent.name))
    return running


def debris(folder: Path) -> list[str]:
    """Everything in a folder with inputs and outputs that is hidden or unfinished."""
    names = (str(path.relative_to(folder)) for path in folder.rglob("*"))
    return sorted(name for name in names if Path(name).name.startswith(".") or "tmp" in Path(name).name)


def contents(folder: Path) -> dict[str, Any]:
    """What a command wrote: the content of every complete file by its path, without times.

    Raises an error if a file is incomplete. Checkpoints are left out, except for the newest, which is read as arrays.
    """
    out, files = folder / "out", {}
    hidden = (".", "environment.json", "events.out")
    for path in sorted(out.rglob("*")):
        name = str(path.relative_to(out))
        parts = Path(name).parts
        if path.is_dir() or "checkpoints" in parts or any(part.startswith(hidden) for part in parts):
            continue
        files[name] = _content(path)
    if any((out / "run" / "checkpoints").glob("step_*[0-9]")):
        files |= arrays(out / "run")
    return files


def _content(path: Path) -> Any:
    readers: dict[str, Callable[[Path], Any]] = {
        ".json": lambda path: _without_times(json.loads(path.read_text())),
        ".jsonl": lambda path: [_without_times(json.loads(line)) for line in path.read_text().splitlines()],
        ".npz": lambda path: {name: leaf.tobytes() for name, leaf in np.load(path).items()},
        ".safetensors": _tensors,
        ".wav": lambda path: soundfile.read(path, dtype="int32")[0].tobytes(),
    }
    if path.name == "manifest.json":  # it lists all commands, the last of which is compared
        return readers[".json"](path)[-1]
    if "array_record" in path.name:
        reader = ArrayRecordReader(str(path))  # protobuf writes the fields of a record in a varying order
        return [records.fields(reader.read([number])[0]) for number in range(reader.num_records())]
    return readers.get(path.suffix, Path.read_bytes)(path)


def _tensors(path: Path) -> dict[str, Any]:
    with safe_open(path, "numpy") as file:
        arrays = {name: file.get_tensor(name).tobytes() for name in file.keys()}  # noqa: SIM118
        return {**arrays, "": _without_times({name: _json(text) for name, text in (file.metadata() or {}).items()})}


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _without_times(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _without_times(value) for key, value in content.items() if key not in VOLATILE}
    return [_without_times(value) for value in content] if isinstance(content, list) else content


def assert_equal(contents: dict[str, Any], expected: dict[str, Any]) -> None:
    """Check that two runs of a command wrote the same."""
    assert contents.keys() == expected.keys()
    for name, content in contents.items():
        if isinstance(content, np.ndarray):
            np.testing.assert_array_equal(content, expected[name], err_msg=name)
        else:
            assert content == expected[name], name
