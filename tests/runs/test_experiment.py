"""Experiments as config files, as JSON and as options of a command."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from qsep_jax.command_line import console
from qsep_jax.runs.experiment import load_config, variant_words
from qsep_jax.runs.experiment_json import RUN_FORMAT, check_readable, from_json, to_json
from qsep_jax.runs.folder import RunFolder
from qsep_jax.systems.lee2019 import Lee2019
from qsep_jax.train import train
from qsep_jax.training.settings import Train

ROOT = Path(__file__).parents[2]
CONFIG = str(ROOT / "configs" / "quickstart.py")


@pytest.mark.parametrize("variant", ["", ":debug"])
def test_json_is_read_back_as_the_same_experiment(variant):
    experiment = load_config(CONFIG + variant)
    text = to_json(experiment)
    again = from_json(text, "config.json")
    assert again == experiment
    assert hash(again.system) == hash(experiment.system)
    assert to_json(again) == text
    assert json.loads(text)["system"]["name"] == "qsep_jax.systems.lee2019:Lee2019"
    assert load_config(CONFIG) != load_config(CONFIG + ":debug")


def test_the_earlier_name_of_a_field_is_read():
    """`pitch_copies` of an adaptation was called `shifts`."""
    experiment: Any = load_config(f"{ROOT / 'configs' / 'cantisani2021.py'}:debug")
    adaptation = dataclasses.replace(experiment.system.adaptation, pitch_copies=2)
    experiment = dataclasses.replace(experiment, system=dataclasses.replace(experiment.system, adaptation=adaptation))
    text = to_json(experiment)
    assert from_json(text, "config.json") == experiment
    assert text.count('"pitch_copies": 2') == 1
    assert from_json(text.replace('"pitch_copies"', '"shifts"'), "config.json") == experiment
    with pytest.raises(ValueError, match=r"run/config.json is damaged .*copies"):
        from_json(text.replace('"pitch_copies"', '"copies"'), "run/config.json")


def changed(change) -> str:
    content = json.loads(to_json(load_config(CONFIG + ":debug")))
    change(content)
    return json.dumps(content)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["train"].update(stepz=3), r"run/config.json is damaged or of another version: .*stepz.*train"),
        (lambda c: c["system"].update(stepz=3), r"run/config.json is damaged or of another version: .*stepz"),
        (lambda c: c["system"]["optimizer"].update(stepz=3), r"stepz.*optimizer"),
        (lambda c: c["system"].update(name="Lee2020"), r"unknown system 'Lee2020'; there are Lee2019"),
        (lambda c: c["train"].update(steps="many"), r"run/config.json is damaged .*steps"),
        (lambda c: c["train"].update(precision="float16"), r"run/config.json is damaged .*float16"),
        (lambda c: c["train"].update(steps=-1), r"train.steps must be 0 or more, not -1"),
        (lambda c: c.pop("system"), r"run/config.json is damaged .*system"),
        (
            lambda c: c.update(format=RUN_FORMAT + 1),
            rf"run/config.json has format {RUN_FORMAT + 1}, .* reads format {RUN_FORMAT}",
        ),
        (lambda c: c.pop("format"), r"run/config.json has format None"),
    ],
)
def test_json_of_another_version_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        from_json(changed(change), "run/config.json")


@pytest.mark.parametrize("text", ["", "{", "[1]", "3", "null", to_json(load_config(CONFIG))[:100]])
def test_other_json_is_refused_as_damaged(text):
    with pytest.raises(ValueError, match=r"run/config.json is damaged"):
        from_json(text, "run/config.json")


@dataclasses.dataclass(frozen=True)
class Part:
    size: int = 1


@dataclasses.dataclass
class Thawed:
    size: int = 1


@dataclasses.dataclass(frozen=True)
class Fields(Lee2019):
    """A system with fields that a config must not have."""

    part: Part = Part()
    any: Any = None


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"stems": ["a", "b"]}, r"^system.stems is a list, which config.json cannot hold: fields of a config are"),
        ({"channels": ((64, [128]), 256)}, r"^system.channels.0.1 is a list"),
        ({"kl_weight": np.float32(0.1)}, r"^system.kl_weight is a float32"),
        ({"kl_weight": float("nan")}, r"^system.kl_weight must be a finite number, not nan"),
        ({"channels": (8.5, 16)}, r"^system.channels = \(8.5, 16\) is read back from config.json as \(8, 16\)"),
        ({"any": {"a": 1}}, r"^system.any is a dict"),
        ({"any": jnp.float32}, r"^system.any is a .*, which config.json cannot hold"),
        ({"any": Thawed()}, r"^system.any is a Thawed, which is not frozen"),
        ({"any": Part()}, r"^system.any = Part\(size=1\) is read back from config.json as \{'size': 1\}"),
        ({"part": 3}, r"^system.part must be a Part, not 3"),
    ],
)
def test_a_field_that_cannot_be_read_back_is_named(fields, message):
    experiment = load_config(CONFIG + ":debug")
    system = Fields(**{field.name: getattr(experiment.system, field.name) for field in dataclasses.fields(Lee2019)})
    check_readable(dataclasses.replace(experiment, system=system))
    with pytest.raises(ValueError, match=message):
        check_readable(dataclasses.replace(experiment, system=dataclasses.replace(system, **fields)))


def test_training_refuses_such_a_field_before_it_creates_the_run_folder(tmp_path):
    experiment = load_config(CONFIG + ":debug")
    system = dataclasses.replace(experiment.system, stems=list(experiment.system.stems))
    with pytest.raises(ValueError, match=r"^system.stems is a list"):
        train(RunFolder(tmp_path / "run"), dataclasses.replace(experiment, system=system))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("members", "message"),
    [
        (
            {"tasks": ("separate", "transcribe")},
            r"has 'transcribe' in its tasks and lacks transcribe \(protocol",
        ),
        ({"cues": ("frames",)}, r"has 'frames' in its cues and lacks visual \(protocol ConditionedOnVideo\)"),
    ],
)
def test_a_declared_capability_without_its_members_is_refused(members, message):
    experiment = load_config(CONFIG + ":debug")
    kind = type("Declares", (Lee2019,), members)
    system = kind(**{field.name: getattr(experiment.system, field.name) for field in dataclasses.fields(Lee2019)})
    with pytest.raises(ValueError, match=message):
        check_readable(dataclasses.replace(experiment, system=system))


def test_variants():
    assert variant_words("", ("a",)) == set()
    assert variant_words(" a ,debug", ("a", "b")) == {"a", "debug"}
    with pytest.raises(ValueError, match="unknown variant 'c'; there are a, b, debug"):
        variant_words("a,c", ("a", "b"))
    with pytest.raises(ValueError, match="unknown variant 'large'; there are debug"):
        load_config(CONFIG + ":large")


def test_a_missing_config_is_refused_with_the_known_ones(monkeypatch):
    monkeypatch.chdir(ROOT)
    with pytest.raises(ValueError, match=r"no config file 'configs/quick.py'; the configs of .* are .*quickstart"):
        load_config("configs/quick.py")


@pytest.mark.parametrize("name", ["configs", "config.txt", "config.py"])
def test_files_that_are_no_configs_are_refused(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").mkdir()
    (tmp_path / "config.txt").write_text("get_config = None")
    (tmp_path / "config.py").write_text("experiment = 3")
    with pytest.raises(ValueError, match=r"there is no config file|has no get_config"):
        load_config(name)


@pytest.mark.parametrize("field", ["batch_size", "log_every", "save_every", "keep", "most_skipped"])
def test_settings_refuse_impossible_values(field):
    with pytest.raises(ValueError, match=f"train.{field} must be at least 1, not 0"):
        Train(**{field: 0})


SETTINGS = Train()


@dataclasses.dataclass(frozen=True)
class Options:
    """Options of a test.

    Attributes:
      train: Settings.
      batches: Number of batches.
    """

    train: Train = SETTINGS
    batches: int = 3


def parse(*arguments: str) -> Options:
    return console.parse(Options, "test", "python -m test --batches 4", arguments)


def test_options_fill_nested_fields():
    assert parse("--train.steps", "7", "--batches", "2") == Options(Train(steps=7), 2)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--train.stepz", r"unknown option '--train.stepz'; did you mean '--train.steps'\?"),
        ("--batchs", r"unknown option '--batchs'; did you mean '--batches'\?"),
        ("--quite-another", r"unknown option '--quite-another'; see test --help"),
    ],
)
def test_an_unknown_option_is_refused_with_the_nearest(option, message):
    with pytest.raises(ValueError, match=message):
        parse(option, "3")


def test_help_shows_an_example(capsys):
    with pytest.raises(SystemExit) as stopped:
        parse("--help")
    assert stopped.value.code == 0
    assert "python -m test --batches 4" in capsys.readouterr().out


@pytest.mark.parametrize("error", [ValueError("two\nlines of it"), FileNotFoundError(2, "No such file", "x.wav")])
def test_an_error_of_the_user_is_one_line_and_exit_code_2(error, capsys, monkeypatch):
    monkeypatch.delenv("QSEP_TRACEBACK", raising=False)

    def main():
        raise error

    with pytest.raises(SystemExit) as stopped:
        console.run(main)
    assert stopped.value.code == 2
    errors = capsys.readouterr().err
    assert errors.startswith("error: ")
    assert "Traceback" not in errors
