"""The console script: help texts, the version, refused commands and shell completion."""

import importlib
import os
import subprocess
import sys

import pytest

from data_pipelines import console
from qsep_jax import __version__, cli
from tests.experiments import ROOT

# Options that a completion script must offer.
OPTIONS = {
    "prepare": ("--out", "--sample-rate"),
    "prepare chamber": ("--shifts",),
    "train": ("--config", "--train.steps", "--evaluation.mixtures"),
    "evaluate tracks": ("--workdir", "--protocol"),
    "separate": ("--query", "--out"),
    "adapt": ("--activations", "--template"),
    "frame-features": ("--model", "--corpus"),
}
# Prints the modules that the console script imports.
PROGRAM = """
import sys
from qsep_jax.cli import main
try:
    main()
finally:
    print(*sys.modules)
"""


def run(monkeypatch, *arguments: str) -> int:
    """Exit code of `qsep` with these arguments, within this process."""
    monkeypatch.setattr(sys, "argv", ["qsep", *arguments])
    monkeypatch.setattr("qsep_jax.command_line.huge_pages.enable", lambda: None)
    try:
        cli.main()
    except SystemExit as exit_:
        return int(exit_.code or 0)
    return 0


def complete(script: str, *words: str) -> list[str]:
    """What bash offers for the last of these words."""
    program = f"source {script}; COMP_WORDS=({' '.join(map(repr, words))}); COMP_CWORD={len(words) - 1}; _tyro_qsep"
    environment = {**os.environ, "PATH": f"{os.path.dirname(sys.executable)}{os.pathsep}{os.environ['PATH']}"}
    command = ["bash", "-c", f'{program}; printf "%s\\n" "${{COMPREPLY[@]}}"']
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.split()


@pytest.mark.parametrize("arguments", [(), ("--help",), ("-h",)])
def test_help_lists_every_command(arguments, monkeypatch, capsys):
    assert run(monkeypatch, *arguments) == 0
    text = capsys.readouterr().out
    assert text.startswith("usage: qsep [-h] {prepare,train,")
    assert "Example: qsep train --config" in text
    assert all(name in text and command.summary in text for name, command in cli.COMMANDS.items())


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_help_of_a_command_names_the_sub_command(name, monkeypatch, capsys):
    assert run(monkeypatch, name, "--help") == 0
    by_script = capsys.readouterr().out
    assert by_script.startswith(f"usage: qsep {name} [-h]")
    assert f"Example: qsep {name} " in by_script
    assert "python -m" not in by_script
    monkeypatch.setattr(sys, "argv", ["a module", "--help"])
    with pytest.raises(SystemExit) as exit_:
        console.run(importlib.import_module(cli.COMMANDS[name].module).main)
    assert exit_.value.code == 0
    assert capsys.readouterr().out == by_script


def test_names_of_commands_may_have_underscores(monkeypatch, capsys):
    assert run(monkeypatch, "frame_features", "--help") == 0
    assert "usage: qsep frame-features" in capsys.readouterr().out


def test_the_version(monkeypatch, capsys):
    assert run(monkeypatch, "--version") == 0
    assert capsys.readouterr().out == f"qsep-jax {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("seperate", "mix.wav", "--help"), "unknown argument 'seperate'; did you mean 'separate'?"),
        (("another",), "unknown argument 'another'; choose one of prepare, train, "),
        (("--verison",), "unknown option '--verison'; see qsep --help"),
        (("separate", "--qery", "x"), "unknown option '--qery'; did you mean '--query'?"),
        (("train",), "--config is missing. Example: qsep train --config "),
        (("--tyro-print-completion", "csh"), "a completion script is for one of bash, zsh, fish, not csh"),
        (
            ("--tyro-print-completion",),
            "a completion script is for one of bash, zsh, fish: give --tyro-print-completion",
        ),
        (("--tyro-write-completion", "zsh"), "a file is missing: give --tyro-write-completion SHELL FILE"),
    ],
)
def test_mistakes_are_one_line(arguments, message, monkeypatch, capsys):
    assert run(monkeypatch, *arguments) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith(f"error: {message}")
    assert output.err.count("\n") == 1


def test_help_and_version_import_no_backend():
    for option in ("--help", "--version"):
        command = [sys.executable, "-c", PROGRAM, option]
        output = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout
        assert "qsep_jax.cli" in output
        assert not {"jax", "grain", "numpy", "qsep_jax.separate"} & set(output.split())


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_know_every_command_and_its_options(shell, monkeypatch, capsys, tmp_path):
    assert run(monkeypatch, "--tyro-print-completion", shell) == 0
    script = capsys.readouterr().out
    assert all(name in script for name in cli.COMMANDS)
    assert run(monkeypatch, "--tyro-write-completion", shell, str(tmp_path / "script")) == 0
    assert capsys.readouterr().out == ""
    assert (tmp_path / "script").read_text().strip() == script.strip()


def test_bash_completes_commands_options_and_choices(monkeypatch, tmp_path):
    script = str(tmp_path / "qsep.bash")
    assert run(monkeypatch, "--tyro-write-completion", "bash", script) == 0
    assert complete(script, "qsep", "sep") == ["separate"]
    for command, options in OPTIONS.items():
        assert set(options) <= set(complete(script, "qsep", *command.split(), "--")), command
    assert complete(script, "qsep", "train", "--train.precision", "") == ["float32", "bfloat16"]
