"""The import law: which package may import which, what only commands may touch, no cycles, and what an import costs."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# A package imports only those to its left. A module directly in `qsep_jax` is a command, but for the Python interface.
ORDER = (
    *("dsp", "nn", "models", "losses", "systems", "on_device", "training", "inference", "metrics", "figures", "runs"),
    *("evaluation", "command_line", "api", "commands"),
)
# Packages that may touch what belongs to commands.
CONSOLE = ("command_line", "commands")
MODELS = {"nn", "models", "systems", "training", "inference"}
# Further than the order: what a package must not know, though it stands to its left.
NOT = {"losses": MODELS, "metrics": MODELS}
COMMANDS_ONLY = {"argparse", "tyro", "os.environ", "os.getenv", "sys.argv", "jax.distributed", "print", "input"}
# `data_pipelines` has a command, what its console shares, and the progress bar.
PIPELINE_COMMANDS = {"prepare", "console", "progress"}

FILES = sorted([*(ROOT / "qsep_jax").rglob("*.py"), *(ROOT / "data_pipelines").rglob("*.py")])


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imports(tree: ast.AST) -> set[str]:
    """Everything that is imported, at the top or within functions, as far as the names go."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{'.' * node.level}{node.module or ''}.{alias.name}" for alias in node.names}
    return found


def touched(tree: ast.AST) -> set[str]:
    """Names and attributes such as `print` and `os.environ`, imported or used."""
    used = {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Name | ast.Attribute)}
    return {name for name in used | imports(tree) if name in COMMANDS_ONLY or name.split(".")[0] in COMMANDS_ONLY}


def package_of(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in ORDER else "commands"


def offences(module: str, source: str) -> list[str]:
    """What a module does against the law."""
    tree = ast.parse(source)
    asked = imports(tree)
    found = [f"relative import of {name}" for name in asked if name.startswith(".")]
    found += [f"assert in line {node.lineno}" for node in ast.walk(tree) if isinstance(node, ast.Assert)]
    if module.split(".")[0] == "data_pipelines":
        found += [
            f"imports {name}" for name in asked if name.split(".")[0] in {"qsep_jax", "jax", "flax", "optax", "orbax"}
        ]
        is_command = module.split(".")[1:2] and module.split(".")[1] in PIPELINE_COMMANDS
    else:
        package = package_of(module)
        is_command = package in CONSOLE
        left = {*ORDER[: ORDER.index(package) + 1]} - NOT.get(package, set()) | {package}
        for name in sorted(asked):
            if name.split(".")[0] != "qsep_jax":
                continue
            if package_of(name) not in left:
                found.append(f"imports {name}")
            if (
                package == "training"
                and package_of(name) == "systems"
                and not f"{name}.".startswith("qsep_jax.systems.base.")
            ):
                found.append(f"imports the paper {name}")
    return found + ([] if is_command else [f"touches {name}" for name in sorted(touched(tree))])


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_the_law(path):
    assert offences(module_of(path), path.read_text()) == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("qsep_jax.dsp.stft", "from qsep_jax.nn.conv import conv"),
        ("qsep_jax.dsp.stft", "def f():\n    import qsep_jax.metrics.ratios"),
        ("qsep_jax.losses.l", "from qsep_jax.models import unet"),
        ("qsep_jax.metrics.m", "from qsep_jax.systems.base import System"),
        ("qsep_jax.training.loop", "from qsep_jax.systems.lee2019 import Lee2019"),
        ("qsep_jax.training.loop", "from qsep_jax.systems import lee2019"),
        ("qsep_jax.inference.i", "from qsep_jax.metrics.ratios import si_sdr"),
        ("qsep_jax.inference.i", "from qsep_jax import console"),
        ("qsep_jax.nn.conv", "from . import norms"),
        ("qsep_jax.nn.conv", "print(3)"),
        ("qsep_jax.training.loop", "from os import environ"),
        ("qsep_jax.training.loop", "import os\nos.environ['A'] = '1'"),
        ("qsep_jax.training.loop", "import jax\njax.distributed.initialize()"),
        ("qsep_jax.train", "assert True"),
        ("data_pipelines.recipes.mixing", "import jax.numpy as jnp"),
        ("data_pipelines.prepare", "from qsep_jax import console"),
        ("data_pipelines.recipes.mixing", "import tyro"),
    ],
)
def test_the_law_catches(module, source):
    assert len(offences(module, source)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("qsep_jax.metrics.oracles", "from qsep_jax.dsp.stft import stft"),
        ("qsep_jax.training.loop", "from qsep_jax.systems.base import System\nfrom qsep_jax.training import step"),
        ("qsep_jax.train", "import tyro\nfrom qsep_jax.metrics import ratios\nprint(3)"),
        ("data_pipelines.prepare", "import tyro\nfrom data_pipelines import store"),
    ],
)
def test_the_law_allows(module, source):
    assert offences(module, source) == []


def modules_of_import(module: str, source: str, known: set[str]) -> set[str]:
    """The project's modules that a module imports, also under TYPE_CHECKING and within functions."""
    targets = set()
    for name in imports(ast.parse(source)):
        while name and name not in known:
            name = name.rpartition(".")[0]
        targets.add(name)
    return targets - {module, ""}


def cycles(arrows: dict[str, set[str]]) -> list[str]:
    """The modules that can be reached from themselves along the imports."""
    reachable = {module: set(targets) for module, targets in arrows.items()}
    for through in arrows:
        for targets in reachable.values():
            if through in targets:
                targets |= reachable[through]
    return sorted(module for module, targets in reachable.items() if module in targets)


def test_no_module_imports_itself_through_others():
    sources = {module_of(path): path.read_text() for path in FILES}
    assert cycles({module: modules_of_import(module, source, {*sources}) for module, source in sources.items()}) == []


def test_a_cycle_is_found():
    assert cycles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}) == ["b", "c"]
    hidden = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from a.b import c"
    assert modules_of_import("a.d", hidden, {"a", "a.b", "a.d"}) == {"a.b"}


def test_a_file_beside_the_packages_is_a_command_or_the_interface():
    from qsep_jax.cli import COMMANDS

    files = {path.stem for path in (ROOT / "qsep_jax").glob("*.py")}
    assert files == {"__init__", "api", "cli"} | {name.replace("-", "_") for name in COMMANDS} - {"prepare"}


def test_files_of_tests_have_names_of_their_own():
    """pytest imports them by their base name."""
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert sorted(names) == sorted({*names})


IMPORT = """
import time, jax
import jax.numpy
start = time.perf_counter()
import qsep_jax
{more}
print(time.perf_counter() - start)
from jax._src import xla_bridge
assert not xla_bridge.backends_are_initialized()
"""
# The parts that a user puts together. `training` brings orbax, grain and TensorBoard, which take seconds.
PARTS = sorted(module_of(path) for path in FILES if package_of(module_of(path)) not in ("training", "commands"))


def seconds_to_import(more: str) -> float:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed package is compiled to bytecode once
    command = [sys.executable, "-c", IMPORT.format(more=more)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=120)
    assert done.returncode == 0, done.stderr
    return float(done.stdout)


@pytest.mark.parametrize("more", ["", f"import {', '.join(PARTS)}"], ids=["package", "parts"])
def test_importing_is_quick_and_starts_no_backend(more):
    assert min(seconds_to_import(more) for _ in range(2)) < 1.0


def test_importing_the_commands_starts_no_backend():
    seconds_to_import("import qsep_jax.train, qsep_jax.evaluate, qsep_jax.separate, data_pipelines.prepare")
