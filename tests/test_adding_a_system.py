"""The example of docs/adding_a_system.md: a system in a config file, through every command."""

import json
import re
import shutil
from pathlib import Path

import pytest

import qsep_jax
from qsep_jax import evaluate, export, separate
from qsep_jax.runs.experiment import load_config
from qsep_jax.runs.experiment_json import read_config, write_config
from qsep_jax.runs.folder import RunFolder
from qsep_jax.systems import source_files
from tests.commands import command, refused
from tests.experiments import ROOT, write_corpora
from tests.processes import arrays, finish, losses, start
from tests.training.test_kill import kill_at, lines

STEPS = 60
STEMS = {"vocals", "drums", "bass", "other"}
OPTIONS = ("--train.steps", str(STEPS), "--train.save-every", "10", "--train.validate-every", "20")
OPTIONS += ("--train.log-every", "1", "--train.summary-every", "0")


def example() -> str:
    """The Python of the page."""
    page = (ROOT / "docs" / "adding_a_system.md").read_text()
    (code,) = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    return code


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The example as a config file, on a machine that has never seen it, and corpora for it."""
    path = tmp_path / "frame_masks.py"
    path.write_text(example())
    with monkeypatch.context() as patch:
        patch.setattr(source_files, "trust", lambda source: None)
        write_corpora(load_config(f"{path}:debug"), tmp_path / "data")
    forget()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return path


def forget() -> None:
    """Let this process not know the files that it has executed."""
    source_files._executed.clear()
    source_files._named.clear()


@pytest.mark.slow
def test_a_system_in_a_config_file_goes_through_every_command(config, tmp_path, capsys, sounds, monkeypatch):
    run, data, bundle = tmp_path / "run", tmp_path / "data", tmp_path / "bundle"
    kill_at(start(run, data, *OPTIONS, config=str(config)), lambda: lines(run) >= 12)
    assert 12 <= len(losses(run, "separation")) < STEPS
    finish(start(run, data, *OPTIONS, config=str(config)))
    assert list(losses(run, "separation")) == list(range(1, STEPS + 1))
    assert any("outer" in path for path in arrays(run))
    code = config.read_bytes()
    config.unlink()  # the run has all that it needs

    assert type(RunFolder(run).experiment().system).__name__ == "FrameMasks"
    assert command(evaluate, "--workdir", run) == 0
    rows = json.loads((run / "evaluation" / "results.json").read_text())
    assert {row["stem"] for row in rows} >= STEMS
    assert command(separate, sounds / "mix.wav", "--model", run, "--out", tmp_path / "by_run") == 0
    assert command(export, "--workdir", run, "--out", bundle) == 0
    shutil.rmtree(run)
    forget()
    assert command(separate, sounds / "mix.wav", "--model", bundle, "--out", tmp_path / "by_bundle") == 0
    written = sorted(path.relative_to(tmp_path / "by_run") for path in (tmp_path / "by_run").rglob("*.wav"))
    assert {path.stem for path in written} == STEMS
    for path in written:
        assert (tmp_path / "by_run" / path).read_bytes() == (tmp_path / "by_bundle" / path).read_bytes()

    # On the machine of somebody else.
    forget()
    monkeypatch.setenv("HOME", str(tmp_path / "another_home"))
    copy = bundle / "sources" / "frame_masks.py"
    assert copy.read_bytes() == code
    options = (sounds / "mix.wav", "--model", bundle, "--out", tmp_path / "elsewhere")
    refused(capsys, "the class FrameMasks is defined in frame_masks.py, which was not used", separate, *options)
    monkeypatch.setenv("QSEP_SYSTEMS", str(copy))
    assert command(separate, *options) == 0
    assert (tmp_path / "elsewhere" / written[0]).read_bytes() == (tmp_path / "by_run" / written[0]).read_bytes()
    monkeypatch.delenv("QSEP_SYSTEMS")
    forget()
    assert read_config(bundle / "config.json").system == load_config(f"{copy}:debug").system


def test_the_python_interface_takes_the_file_of_a_system(config, tmp_path, monkeypatch):
    folder = tmp_path / "bundle"
    folder.mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(source_files, "trust", lambda source: None)
        write_config(folder / "config.json", load_config(f"{config}:debug"))
    forget()
    with pytest.raises(ValueError, match=r"the class FrameMasks is defined in frame_masks\.py"):
        qsep_jax.load(folder)
    assert set(qsep_jax.load(folder, source=folder / "sources" / "frame_masks.py").stems) == STEMS
