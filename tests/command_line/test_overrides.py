"""Options that select the class of a field, and entries of a dictionary."""

import dataclasses
import typing
from typing import Any

import pytest

from data_pipelines.recipes.mixing import RandomSplit, Remix
from data_pipelines.streams import Recipe
from qsep_jax.command_line.train_options import parse
from qsep_jax.models.resnet import ResNetSize
from qsep_jax.runs.experiment import Experiment
from qsep_jax.systems.slizovskaia2021 import Slizovskaia2021
from qsep_jax.systems.visual import Visual
from tests.experiments import ROOT


def experiment_of(config: str, *options: str) -> Experiment:
    return parse(["--config", str(ROOT / "configs" / config), "--workdir", "run", *options])[1]


def recipe_of(*options: str) -> Any:
    return experiment_of("lee2019.py", *options).data.streams["cvae"].recipe


@pytest.mark.parametrize("kind", typing.get_args(Recipe))
def test_a_recipe_of_another_class_is_selected_by_name(kind):
    kebab = "".join(f"-{letter.lower()}" if letter.isupper() else letter for letter in kind.__name__).lstrip("-")
    expected = RandomSplit(presence=0.5) if kind is RandomSplit else kind()
    for name in (kebab, kind.__name__, kebab.replace("-", "_")):
        assert recipe_of("--data.streams.cvae.recipe", name) == expected
    assert recipe_of(f"--data.streams.cvae.recipe={kebab}") == expected


def test_fields_of_a_selected_recipe_follow_in_any_order():
    selected, songs = ("--data.streams.cvae.recipe", "remix"), ("--data.streams.cvae.recipe.songs", "2")
    assert recipe_of(*selected, *songs) == recipe_of(*songs, *selected) == Remix(songs=2)
    assert recipe_of("--data.streams.cvae.recipe.presence", "0.8") == RandomSplit(presence=0.8)


def visual_of(variant: str, *options: str) -> Visual | None:
    system = experiment_of(f"slizovskaia2021.py:{variant}", *options).system
    assert isinstance(system, Slizovskaia2021)
    return system.visual


def test_an_optional_object_is_added_and_removed():
    assert visual_of("exp9") is None
    assert visual_of("exp9", "--system.visual", "visual") == Visual()
    assert visual_of("exp9", "--system.visual.frames", "5") == Visual(frames=5)
    assert visual_of("exp9", "--system.visual.resnet.width=32") == Visual(resnet=ResNetSize(width=32))
    assert visual_of("exp12", "--system.visual.frames", "5") == Visual(frames=5)
    assert visual_of("exp12", "--system.visual", "none") is None
    # Without conditioning the system refuses a video, unless another option sets one.
    assert visual_of("exp6", "--system.visual", "visual", "--system.conditioning", "final") == Visual()


def weights_of(config: str, *options: str) -> dict[str, str]:
    return experiment_of(config, *options).train.weights


def test_entries_of_dictionaries_are_added_replaced_and_removed():
    assert weights_of("cantisani2021.py", "--train.weights", "tasnet", "a.th") == {"tasnet": "a.th"}
    assert weights_of("lee2019.py", "--train.weights.query-net", "a", "--train.weights.b=c") == {
        "query_net": "a",
        "b": "c",
    }
    assert weights_of("slizovskaia2021.py:exp12") == {"resnet": "resnet50.safetensors"}
    assert weights_of("slizovskaia2021.py:exp12", "--train.weights.resnet", "a") == {"resnet": "a"}
    assert weights_of("slizovskaia2021.py:exp12", "--train.weights") == {}
    assert weights_of("slizovskaia2021.py:exp12", "--train.weights", "a", "b", "c", "d") == {"a": "b", "c": "d"}
    flags = experiment_of("lee2019.py", "--train.xla-flags.xla_gpu_x", "true", "--train.steps", "3").train.xla_flags
    assert flags == {"xla_gpu_x": "true"}


def test_views_have_stems_of_any_name_and_number():
    options = ("--data.streams.cvae.view.electric guitar", "a", "b", "--data.streams.cvae.view.vocals", "c", "d")
    view = experiment_of("lee2019.py", *options).data.streams["cvae"].view
    assert view["electric guitar"] == ("a", "b")
    assert view["vocals"] == ("c", "d")
    assert experiment_of("lee2019.py", "--data.streams.cvae.view").data.streams["cvae"].view == {}


def test_a_stream_of_validation_starts_as_that_of_training():
    data = experiment_of("lee2019.py", "--data.validation.cvae.corpus", "other").data
    assert data.validation == {"cvae": dataclasses.replace(data.streams["cvae"], corpus="other")}
    assert data.streams["cvae"].corpus == "musdb18"


def test_a_recipe_of_the_users_own_class_keeps_its_options(tmp_path):
    file = tmp_path / "own.py"
    file.write_text(OWN_RECIPE)
    path, (stream,) = f"{file}:debug", ("--data.streams.cvae.recipe",)

    def recipe(*options: str) -> Any:
        return parse(["--config", path, "--workdir", "run", *options])[1].data.streams["cvae"].recipe

    assert recipe().loudness == 1.0
    assert recipe(f"{stream}.loudness", "2").loudness == 2.0
    assert recipe(stream, "own", f"{stream}.loudness", "2").loudness == 2.0
    assert recipe(stream, "remix") == Remix()


OWN_RECIPE = f"""
import dataclasses

from data_pipelines.streams import Data, Stream
from qsep_jax.runs.experiment import Experiment, load_config


@dataclasses.dataclass(frozen=True)
class Own:
    loudness: float = 1.0


def get_config(variant=""):
    experiment = load_config({str(ROOT / "configs" / "quickstart.py")!r})
    return dataclasses.replace(experiment, data=Data(streams={{"cvae": Stream("chamber", Own())}}))
"""
