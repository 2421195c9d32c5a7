"""The console of the commands that compile: what `data_pipelines.console` offers, and a compilation cache."""

import os
import textwrap
from collections.abc import Callable
from pathlib import Path

import jax

from data_pipelines import console
from data_pipelines.console import message_of, need_positive, one_line_errors, parse, report
from qsep_jax.inference.model import cache_compilations

__all__ = [
    "cache_compilations",
    "compile_without_devices",
    "message_of",
    "need_positive",
    "one_line_errors",
    "parse",
    "report",
    "run",
]

# Variables by which JAX compiles for accelerators without one, and by which their compilers print less.
_WITHOUT_DEVICES = {"JAX_SKIP_CUDA_CONSTRAINTS_CHECK": "1", "TPU_SKIP_MDS_QUERY": "1"}
_WITHOUT_DEVICES |= {"TPU_MIN_LOG_LEVEL": "3", "TPU_STDERR_LOG_LEVEL": "3", "TF_CPP_MIN_LOG_LEVEL": "3"}
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


def compile_without_devices() -> None:
    """Let JAX compile for accelerators that are not here; it uses no other device than the CPU from then on."""
    for name, value in _WITHOUT_DEVICES.items():
        os.environ.setdefault(name, value)
    jax.config.update("jax_platforms", "cpu")


def _load_systems() -> None:
    files = os.environ.get(SYSTEM_FILES, "")
    if files:
        from qsep_jax.systems.source_files import load_named

        for file in files.split(os.pathsep):
            load_named(Path(file))
