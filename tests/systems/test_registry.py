"""How the class of a system is found again in another process, and which code is never executed."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import cloudpickle
import pytest

from qsep_jax import cli, export
from qsep_jax.command_line import console
from qsep_jax.command_line.train_options import parse
from qsep_jax.runs.bundle import bundled_models
from qsep_jax.runs.experiment import Experiment, load_config
from qsep_jax.runs.experiment_json import check_readable, from_json, read_config, to_json, write_config
from qsep_jax.systems import registry, source_files
from qsep_jax.systems.lee2019 import Lee2019
from tests.experiments import debug

SYSTEM = """
import dataclasses
from pathlib import Path

from qsep_jax.systems.lee2019 import Lee2019

Path({mark!r}).touch()


@dataclasses.dataclass(frozen=True)
class Part:
    gain: float = 2.0


@dataclasses.dataclass(frozen=True)
class Mine(Lee2019):
    part: Part = Part()
"""
CONFIG = """
from tests.experiments import debug


def get_config(variant=""):
    experiment = debug("lee2019.py")
    fields = {field.name: getattr(experiment.system, field.name) for field in dataclasses.fields(experiment.system)}
    return dataclasses.replace(experiment, system=Mine(**fields, part=Part(3.0)))
"""


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    """A file that appears when the code of the system is executed."""
    return tmp_path / "executed"


@pytest.fixture
def config(tmp_path: Path, mark: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A config file with a system, on a machine where it was never used."""
    monkeypatch.setattr(source_files, "_trusted_folder", lambda: tmp_path / "trusted")
    monkeypatch.setattr(source_files, "_executed", {})
    monkeypatch.setattr(source_files, "_named", [])
    path = tmp_path / "mine.py"
    path.write_text(SYSTEM.format(mark=str(mark)) + CONFIG)
    return path


def in_another_process(mark: Path) -> None:
    """Forget what this process has executed."""
    source_files._executed.clear()
    source_files._named.clear()
    mark.unlink()


def written(config: Path) -> Path:
    """The `config.json` of a run of a config."""
    path = config.parent / "run" / "config.json"
    write_config(path, load_config(str(config)))
    return path


def test_the_systems_of_this_project_have_two_names():
    for name, module in registry.BUILT_IN.items():
        kind = registry.find_system(name, {}, None)
        assert (kind.__name__, kind.__module__) == (name, module)
        assert registry.find_system(registry.name_of(kind), {}, None) is kind


def test_plain_names_of_older_files_are_read():
    (bundle,) = bundled_models().values()
    assert json.loads(bundle.config.read_text())["system"]["name"] == "Lee2019"
    assert type(bundle.experiment().system) is Lee2019


def test_systems_are_imported_when_they_are_needed():
    check = "import sys, qsep_jax.runs.experiment_json; print([name for name in sys.modules if 'lee2019' in name])"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_system_of_a_config_file_is_found_by_another_process(config, mark):
    path = written(config)
    first = load_config(str(config))
    assert load_config(str(config)) == first  # one class for one content
    assert json.loads(path.read_text())["system"]["name"] == "mine:Mine"
    assert (path.parent / "sources" / "mine.py").read_bytes() == config.read_bytes()
    in_another_process(mark)
    config.unlink()  # the run does not need it any more
    again = read_config(path)
    assert mark.exists()
    assert type(again.system) is not type(first.system)
    assert dataclasses.asdict(again.system) == dataclasses.asdict(first.system)
    check_readable(again)


def test_an_edited_config_file_does_not_change_what_a_run_was_made_of(config, mark):
    path = written(config)
    in_another_process(mark)
    config.write_text(config.read_text().replace("gain: float = 2.0", "gain: float = 2.0\n    more: int = 1"))
    edited = load_config(str(config))
    assert {field.name for field in dataclasses.fields(edited.system.part)} == {"gain", "more"}
    assert {field.name for field in dataclasses.fields(read_config(path).system.part)} == {"gain"}


def test_code_that_was_never_named_here_is_not_executed(config, mark, monkeypatch):
    path = written(config)
    in_another_process(mark)
    monkeypatch.setattr(source_files, "_trusted_folder", lambda: config.parent / "another machine")
    copy = path.parent / "sources" / "mine.py"
    with pytest.raises(ValueError, match=rf"config.json: the class Mine is defined .* set QSEP_SYSTEMS={copy}$"):
        read_config(path)
    copy.unlink()
    with pytest.raises(ValueError, match=r"the class Mine is defined in mine.py, .*: set QSEP_SYSTEMS to that file"):
        read_config(path)
    assert not mark.exists()
    source_files.load_named(config)
    assert read_config(path).system.part.gain == 3.0
    in_another_process(mark)
    assert read_config(path).system.part.gain == 3.0  # named once


RECIPE = """
import dataclasses

from data_pipelines.recipes.mixing import RandomSplit
from tests.experiments import debug


@dataclasses.dataclass(frozen=True)
class Quieter(RandomSplit):
    level: float = 0.5


def get_config(variant=""):
    experiment = debug("lee2019.py")
    stream = dataclasses.replace(experiment.data.streams["cvae"], recipe=Quieter())
    return dataclasses.replace(experiment, data=dataclasses.replace(experiment.data, streams={"cvae": stream}))
"""


def test_a_recipe_of_a_config_file_is_stored_overridden_and_sent_to_workers(config, mark):
    config.write_text(RECIPE)
    path = written(config)
    options = ("--config", str(config), "--workdir", str(path.parent), "--data.streams.cvae.recipe.level", "0.25")
    recipe = parse(options)[1].data.streams["cvae"].recipe
    assert (type(recipe).__name__, recipe.level, recipe.presence) == ("Quieter", 0.25, 0.5)
    assert json.loads(path.read_text())["data"]["streams"]["cvae"]["recipe"]["name"] == "mine:Quieter"
    mark.touch()
    in_another_process(mark)
    check_readable(read_config(path))
    (config.parent / "pickled").write_bytes(cloudpickle.dumps(recipe))
    load = f"import pickle; print(pickle.load(open({str(config.parent / 'pickled')!r}, 'rb')).level)"
    done = subprocess.run([sys.executable, "-c", load], capture_output=True, text=True, check=True)
    assert done.stdout == "0.25\n"


@pytest.mark.parametrize("content", [b"", b"tampered"])
def test_the_cache_is_checked(config, mark, content):
    path = written(config)
    in_another_process(mark)
    for kept in (config.parent / "trusted").iterdir():
        kept.write_bytes(content)
    with pytest.raises(ValueError, match="not executed"):
        read_config(path)


def test_a_named_file_stands_in_for_another(config, mark, tmp_path):
    path = written(config)
    in_another_process(mark)
    other = tmp_path / "repaired.py"
    other.write_text(config.read_text().replace("float = 2.0", "float = 5.0"))
    source_files.load_named(other)
    assert type(read_config(path).system.part)().gain == 5.0


@pytest.mark.parametrize("module", ["../mine", "/mine", ""])
def test_names_of_copies_are_no_paths(config, mark, module):
    path = written(config)
    in_another_process(mark)
    content = json.loads(path.read_text())
    content["sources"] = {module: "0" * 64}
    content["system"]["name"] = f"{module}:Mine"
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="not executed"):
        read_config(path)
    assert not mark.exists()


def module_of_a_user(folder: Path, mark: Path, name: str = "module_of_a_user") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.py"
    path.write_text(SYSTEM.format(mark=str(mark)))
    return path


def named(name: str) -> str:
    """The JSON of an experiment with another name of its system."""
    content = json.loads(to_json(debug("lee2019.py")))
    content["system"]["name"] = name
    return json.dumps(content)


def test_a_system_of_a_module_is_imported(tmp_path, mark, monkeypatch):
    module_of_a_user(tmp_path / "package", mark, "models")
    (tmp_path / "package" / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    experiment = from_json(named("package.models:Mine"), "config.json", tmp_path / "run")
    assert (type(experiment.system).__module__, mark.exists()) == ("package.models", True)
    check_readable(experiment)
    assert json.loads(to_json(experiment))["system"]["name"] == "package.models:Mine"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("nowhere_at_all:Mine", "the class Mine of the module nowhere_at_all is missing: .* PYTHONPATH"),
        ("json.nowhere:Mine", "the class Mine of the module json.nowhere is missing"),
        ("module_of_a_user:Other", "the module module_of_a_user .* defines no class Other"),
        ("antigravity:Mine", "the module antigravity .* defines no class Mine"),
        ("qsep_jax.systems.base:Phase", "qsep_jax.systems.base:Phase is no System"),
        ("sys:Mine", ".*(defines no class Mine|is missing)"),
    ],
)
def test_a_module_without_the_class_is_not_executed(name, says, tmp_path, mark, monkeypatch):
    module_of_a_user(tmp_path / "path", mark)
    monkeypatch.syspath_prepend(str(tmp_path / "path"))
    with pytest.raises(ValueError, match=f"^config.json: {says}"):
        from_json(named(name), "config.json", tmp_path / "run")
    assert not mark.exists()
    assert "antigravity" not in sys.modules


@pytest.mark.parametrize("package", [True, False])
def test_a_module_within_a_bundle_is_not_executed(package, tmp_path, mark, monkeypatch):
    bundle = tmp_path / "bundles" / "strange"
    path = module_of_a_user(bundle, mark)
    if package:
        (path.parent / "__init__.py").write_text(f"from pathlib import Path\nPath({str(mark)!r}).touch()\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ValueError, match=r"the class Mine is defined within .*strange: move its module out of it"):
        from_json(named("bundles.strange.module_of_a_user:Mine"), "config.json", bundle)
    assert not mark.exists()


def test_classes_that_no_process_could_find_are_refused(monkeypatch):
    @dataclasses.dataclass(frozen=True)
    class Local(Lee2019):
        pass

    experiment = debug("lee2019.py")
    fields = {field.name: getattr(experiment.system, field.name) for field in dataclasses.fields(experiment.system)}
    local = Experiment(Local(**fields), experiment.data)
    with pytest.raises(ValueError, match="Local is defined within a function: move it to the top level"):
        check_readable(local)
    monkeypatch.setattr(Local, "__module__", "__main__")
    with pytest.raises(ValueError, match="Local is defined in a script: move it to a module or a config file"):
        check_readable(local)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("import nowhere_at_all", "ModuleNotFoundError"),
        ("def f(:", "SyntaxError"),
        ("raise ValueError('mine')", "mine"),
    ],
)
def test_a_config_that_fails_is_one_line(content, says, tmp_path):
    (tmp_path / "failing.py").write_text(content)
    with pytest.raises(ValueError, match=says):
        load_config(str(tmp_path / "failing.py"))


@pytest.mark.parametrize("start", ["qsep", "module"])
def test_commands_execute_the_files_that_the_environment_names(start, config, mark, monkeypatch, capsys):
    monkeypatch.setenv("QSEP_SYSTEMS", f"{config}{os.pathsep}{config.parent / 'nowhere.py'}")
    monkeypatch.setattr("qsep_jax.command_line.huge_pages.enable", lambda: None)  # it would start this process again
    monkeypatch.setattr(sys, "argv", ["qsep", "export"] if start == "qsep" else ["export"])
    with pytest.raises(SystemExit) as stopped:
        cli.main() if start == "qsep" else console.run(export.main)
    assert stopped.value.code == 2
    assert "nowhere.py: No such file or directory" in capsys.readouterr().err
    assert mark.exists()
