"""Commands as a user runs them, within the test process."""

import json
import sys
from pathlib import Path

import pytest

from qsep_jax import train
from qsep_jax.command_line import console
from qsep_jax.runs.folder import RunFolder
from tests.data_pipelines.pictures import write_video
from tests.experiments import ROOT, debug, write_corpora


def command(module, *options: object) -> int:
    """Run a command; its exit code."""
    before, sys.argv = sys.argv, [module.__name__, *map(str, options)]
    try:
        console.run(module.main)
    except SystemExit as exit_:
        return int(exit_.code or 0)
    finally:
        sys.argv = before
    return 0


def config_of(config: str) -> str:
    """The debug variant of `configs/config`, as --config names it."""
    path, _, variant = config.partition(":")
    return f"{ROOT / 'configs' / path}:{variant},debug"


def train_debug(config: str, folder: Path) -> Path:
    """Train a config's debug variant to its end on generated corpora; the run folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("data_pipelines.console._set_up", lambda: None)
        # The generated corpora have the names of those that the config would prepare.
        patch.setattr("qsep_jax.train.prepare_missing", lambda experiment: None)
        write_corpora(debug(config), folder / "data")
        options = ("--config", config_of(config), "--workdir", folder / "run", "--data.root", folder / "data")
        options += ("--train.batch-size", 8)  # simulated devices
        assert command(train, *options) == 0
    return folder / "run"


def refused(capsys, message: str, module, *options: object) -> None:
    """Check that a command ends with exit code 2 and one line on stderr that contains `message`."""
    capsys.readouterr()
    assert command(module, *options) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert message in errors[0], errors[0]


def separation_options(run: Path, sounds: Path) -> tuple[str, tuple[object, ...]]:
    """The name of an output of a model, and the options with which `separate` writes it."""
    system = RunFolder(run).experiment().system
    if "query" in system.cues:
        return "query", ("--query", sounds / "query.wav")
    stem, options = system.stems[0], ()
    if "labels" in system.cues:
        options = ("--label", stem)
    elif "frames" in system.cues:
        (sounds / "boxes.json").write_text(json.dumps({stem: [8, 8, 32, 32]}))
        options = ("--video", write_video(sounds / "clip.mp4", 20), "--boxes", sounds / "boxes.json")
    return stem, options
