"""The console script `qsep`: every command as a sub-command, `qsep train --config …`.

`qsep separate …` imports the module of that command only, and runs the same `main` as `python -m qsep_jax.separate …`.
"""

import importlib
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

from qsep_jax import __version__
from qsep_jax.command_line import huge_pages

EXAMPLE = "qsep train --config configs/quickstart.py --workdir runs/quickstart"
DESCRIPTION = f"""Conditioned music source separation.

`qsep COMMAND --help` lists the options of a command, `qsep --version` prints the version, and `qsep
--tyro-print-completion SHELL` prints a script that completes commands and options in bash, zsh or fish.

Example: {EXAMPLE}"""

SHELLS = ("bash", "zsh", "fish")


class Command(NamedTuple):
    """A sub-command.

    Attributes:
      module: Module whose `main` runs the command.
      options: Where the class of its options is defined, `module:Class`.
      summary: What the command does, in one line.
    """

    module: str
    options: str
    summary: str


COMMANDS = {
    "prepare": Command("data_pipelines.prepare", "data_pipelines.prepare:Prepare", "prepare a corpus for training"),
    "train": Command(
        "qsep_jax.train", "qsep_jax.command_line.train_options:TrainOptions", "train a system, or continue a run"
    ),
    "evaluate": Command("qsep_jax.evaluate", "qsep_jax.evaluate:Evaluate", "score a run or folders of estimates"),
    "separate": Command("qsep_jax.separate", "qsep_jax.separate:Separate", "separate audio files into sources"),
    "transcribe": Command("qsep_jax.transcribe", "qsep_jax.transcribe:Transcribe", "transcribe the notes of a source"),
    "synthesize": Command(
        "qsep_jax.synthesize", "qsep_jax.synthesize:Synthesize", "play a score with the timbre of a source"
    ),
    "adapt": Command("qsep_jax.adapt", "qsep_jax.adapt:Adapt", "fine-tune a model on one song"),
    "frame-features": Command(
        "qsep_jax.frame_features",
        "qsep_jax.frame_features:FrameFeatures",
        "compute the features of all video frames of a corpus",
    ),
    "export": Command("qsep_jax.export", "qsep_jax.export:Export", "export a run as a bundle"),
    "doctor": Command("qsep_jax.doctor", "qsep_jax.doctor:Doctor", "check a run, a bundle or a corpus for damage"),
}


def main() -> None:
    name, *arguments = sys.argv[1:] or ["--help"]
    command = COMMANDS.get(name.replace("_", "-"))
    if name == "--version":
        print(f"qsep-jax {__version__}")
        return
    if command is not None and not {"-h", "--help"} & {*arguments}:
        huge_pages.enable()
    from data_pipelines.console import run

    if command is None:
        completes = name.startswith("--tyro-")
        run(lambda: application(completes, [name, *arguments] if completes else [name]))
    else:
        del sys.argv[1]
        command_main = importlib.import_module(command.module).main
        if command.module.startswith("qsep_jax."):
            from qsep_jax.command_line.console import run
        run(command_main)


def application(completes: bool, arguments: list[str]) -> None:
    """Print the help text or a completion script, or refuse arguments that name no command.

    Args:
      completes: Whether the options of all commands are imported, as a completion script needs them.

    Raises:
      ValueError: For an unknown command, with the most similar known one, and for an unknown shell.
    """
    from tyro.extras import SubcommandApp

    from data_pipelines.console import one_line_errors

    if completes:
        _check_completion(*arguments)
    app = SubcommandApp()
    for name, command in COMMANDS.items():
        app.command(name=name, help=command.summary)(_options(command) if completes else _nothing)
    with one_line_errors("qsep", arguments):
        app.cli(prog="qsep", description=DESCRIPTION, args=arguments)


def _check_completion(option: str, shell: str = "", *files: str) -> None:
    if shell not in SHELLS:
        remedy = f", not {shell}" if shell else f": give {option} SHELL"
        raise ValueError(f"a completion script is for one of {', '.join(SHELLS)}{remedy}")
    if option == "--tyro-write-completion" and not files:
        raise ValueError(f"a file is missing: give {option} SHELL FILE")


def _options(command: Command) -> Callable[..., Any]:
    """The class of a command's options, from which tyro knows what to complete."""
    module, _, name = command.options.partition(":")
    return getattr(importlib.import_module(module), name)


def _nothing() -> None:
    """Stand in for a command whose options do not matter."""
