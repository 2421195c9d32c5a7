"""The console of the commands that compile: what `data_pipelines.console` offers, and a compilation cache."""

import os
import textwrap
from collections.abc import Callable
from pathlib import Path

import jax

from data_pipelines import console
from data_pipelines.console import message_of, need_positive, one_line_errors, parse, report
from qsep_jax.inference.model import cache_compilations

__all__ = ["cache_compilations", "message_of", "need_positive", "one_line_errors", "parse", "report", "run"]

# Files of Python, joined by `:`, that define the systems of runs and bundles.
SYSTEM_FILES = "QSEP_SYSTEMS"


def run(main: Callable[[], None]) -> None:
    """Run a command as `data_pipelines.console.run` does, after the files that `QSEP_SYSTEMS` names were executed.

    If a device runs out of memory, this is one line, too.
    """

    def run_main() -> None:
        _load_systems()
        try:
            main()
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            reason = str(error).partition("RESOURCE_EXHAUSTED:")[2].strip().split("\n")[0]
            raise MemoryError(textwrap.shorten(reason, 200) or "RESOURCE_EXHAUSTED") from error

    console.run(run_main)


def _load_systems() -> None:
    files = os.environ.get(SYSTEM_FILES, "")
    if files:
        from qsep_jax.systems.source_files import load_named

        for file in files.split(os.pathsep):
            load_named(Path(file))
