"""Numbers, names and sizes that no system accepts, in the papers' systems and in one of a user."""

import dataclasses
import time
import typing

import jax
import numpy as np
import pytest

from data_pipelines.schema import check_name
from qsep_jax.models.resnet import ResNetSize
from qsep_jax.runs.experiment_json import from_json, to_json
from qsep_jax.systems import registry
from qsep_jax.systems.base import Optimizer, System
from qsep_jax.systems.bounds import bounded, check_fields
from qsep_jax.systems.shapes import check_tree, variable_shapes
from qsep_jax.systems.slizovskaia2021 import Slizovskaia2021
from qsep_jax.systems.visual import Visual
from tests.experiments import CONFIGS, debug

SYSTEMS = [registry.find_system(name, {}, None) for name in registry.BUILT_IN]


def whole_numbers(kind):
    """The fields of a system that hold whole numbers or tuples of them, with a replacement of the right form."""
    for field in dataclasses.fields(kind):
        annotation = typing.get_type_hints(kind)[field.name]
        if annotation is int:
            yield field, lambda number: number
        elif annotation == tuple[int, ...]:
            yield field, lambda number: (number,)


CASES = [(kind, field, form) for kind in SYSTEMS for field, form in whole_numbers(kind)]


@pytest.mark.parametrize(("kind", "field", "form"), CASES, ids=lambda value: getattr(value, "__name__", None))
@pytest.mark.parametrize("number", [0, -1, -(10**9), 10**12, 10**400])
def test_no_number_is_out_of_bounds(kind, field, form, number):
    """Every system refuses it at once, by its name; 0 only where it has no meaning."""
    start = time.monotonic()
    if field.default == 0 or field.metadata.get("least") == 0:
        number = number or -2
    with pytest.raises(ValueError, match=rf"system\.{field.name} must be at (least|most) \d+, not") as refusal:
        kind(**{field.name: form(number)})
    assert "\n" not in str(refusal.value)
    assert time.monotonic() - start < 1


def test_there_are_many_cases():
    assert len(CASES) > 50
    assert {kind.__name__ for kind, _, _ in CASES} == {*registry.BUILT_IN}


@dataclasses.dataclass(frozen=True)
class Part:
    width: int = 4
    padding: int = 0
    ratio: float = 0.5


@dataclasses.dataclass(frozen=True)
class OfAUser(System):
    """A system of a user, with checks of its own that would not end for a hop of 0."""

    cues: typing.ClassVar[tuple[str, ...]] = ()
    stems: tuple[str, ...] = ("a", "b")
    sample_rate: int = 8_000
    hop: int = 4
    offset: int = -3
    gain: float = 1
    free: int = bounded(2, least=0)
    widths: tuple[int, ...] = (1, 2)
    extra: tuple[int, ...] = ()
    part: Part = Part()
    maybe: int | None = None
    optimizer: Optimizer = Optimizer()
    compute_dtype: str = "float32"
    chunk: typing.ClassVar[int] = 100

    def __post_init__(self):
        position = 0
        while position < 100:
            position += self.hop

    @property
    def chunk_samples(self):
        return self.chunk

    init = phases = validate = preview = condition = separate = lambda self, *arguments: None


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"hop": 0}, r"^system.hop must be at least 1, not 0$"),
        ({"hop": np.int32(0)}, "system.hop must be at least 1, not 0"),
        ({"offset": -4}, "system.offset must be at least -3, not -4"),
        ({"widths": (1, 0)}, "system.widths must be at least 1, not 0"),
        ({"widths": ()}, "system.widths must have at least one element"),
        ({"widths": (1,) * 10_000}, "system.widths must have at most 4096 elements, not 10000"),
        ({"part": Part(width=0)}, "system.part.width must be at least 1, not 0"),
        ({"part": Part(ratio=float("nan"))}, "system.part.ratio must be a finite number, not nan"),
        ({"gain": float("inf")}, "system.gain must be a finite number, not inf"),
        ({"maybe": 0}, "system.maybe must be at least 1, not 0"),
        ({"optimizer": Optimizer(drop_every=0)}, "system.optimizer.drop_every must be at least 1, not 0"),
        ({"sample_rate": 2**30}, r"sample_rate of the system must be 1 to \d+, not"),
        ({"stems": ("a", "a")}, "system.stems has a name twice: a, a"),
        ({"stems": ("../a",)}, r"the name of a stem in system.stems is '../a'"),
    ],
)
def test_a_system_of_a_user_is_checked_before_its_own_checks(fields, message):
    with pytest.raises(ValueError, match=message):
        OfAUser(**fields)


def test_what_a_system_of_a_user_may_have():
    system = OfAUser(offset=-3, gain=0, free=0, extra=(5,), part=Part(padding=0), maybe=3)
    assert dataclasses.replace(system, hop=2).hop == 2


def test_a_chunk_of_no_samples_is_refused(monkeypatch):
    monkeypatch.setattr(OfAUser, "chunk", 0)
    with pytest.raises(ValueError, match="chunk_samples of the system must be 1 to 67108864, not 0"):
        OfAUser()


@pytest.mark.parametrize(
    ("visual", "message"),
    [
        (Visual(frames=0), "system.visual.frames must be at least 1, not 0"),
        (Visual(size=10**5), "system.visual.size must be at most 4096, not 100000"),
        (Visual(resnet=ResNetSize((10**6,))), "system.visual.resnet.blocks must be at most 256"),
        (Visual(spacing=float("nan")), "system.visual.spacing must be a finite number"),
    ],
)
def test_the_parts_of_a_system_are_checked(visual, message):
    with pytest.raises(ValueError, match=message):
        Slizovskaia2021(conditioning="final", visual=visual)


@pytest.mark.parametrize("config", CONFIGS)
def test_configs_are_within_their_bounds(config):
    check_fields(debug(config).system)
    from_json(to_json(debug(config)), "config.json")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"query_hidden": 10**9}, r"parameters, [\d,]+ GB, more than the \d+ GB of this machine: correct its config"),
        (
            {"frames": 2**16, "window_length": 2**17},
            r"one example of this Lee2019 takes|sizes of this Lee2019|parameters",
        ),
        ({"channels": (2**20,) * 4}, "more than the"),
    ],
)
def test_sizes_are_computed_before_memory_is_taken(fields, message):
    system = dataclasses.replace(debug("lee2019.py").system, **fields)
    with pytest.raises(ValueError, match=message) as refusal:
        variable_shapes(system)
    assert "\n" not in str(refusal.value)


def test_sizes_that_do_not_fit_together_are_one_line():
    system = dataclasses.replace(debug("lee2019.py").system, query_channels=(4,) * 30)
    with pytest.raises(ValueError, match=r"^the sizes of this Lee2019 do not fit together \(.*\): correct its config$"):
        variable_shapes(system)


def test_arrays_are_compared_with_shapes():
    like = {"params": {"net": {"w": np.zeros((2, 3), np.float32)}}}
    check_tree(like, like, "file")
    for array, message in (
        (np.zeros((3, 2), np.float32), r"file/params/net/w has shape \(3, 2\), this model expects \(2, 3\)"),
        (np.zeros((2, 3)), "file/params/net/w has dtype float64, this model expects float32"),
        (np.full((2, 3), np.inf, np.float32), "file/params/net/w holds values that are not finite"),
    ):
        with pytest.raises(ValueError, match=message):
            check_tree({"params": {"net": {"w": array}}}, like, "file")
    with pytest.raises(ValueError, match="file is of another form: 'params/net/v' is in only one of file and model"):
        check_tree({"params": {"net": {"v": np.zeros(1)}}}, like, "file")


def test_the_state_of_a_training_may_be_infinite_but_not_nan():
    """The lowest loss of a curriculum is infinite until the first validation."""
    like = {"curriculum": {"mixtures": {"lowest": jax.ShapeDtypeStruct((), np.float32)}}}
    check_tree({"curriculum": {"mixtures": {"lowest": np.float32(np.inf)}}}, like, "file")
    with pytest.raises(ValueError, match="file/curriculum/mixtures/lowest holds values that are not finite"):
        check_tree({"curriculum": {"mixtures": {"lowest": np.float32(np.nan)}}}, like, "file")


@pytest.mark.parametrize("name", ["violin", "Schlagzeug (groß)", "вокал", "cafe\u0301", "ヴァイオリン", "a.b_c-d+e 2"])
def test_plain_names(name):
    check_name(name, "here")


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../a", "a/b", "a\\b", "a@b", "a\x00", "a\n", " a", "a ", "\u202ea", ".a", "a" * 300, None, 3],
)
def test_other_names(name):
    with pytest.raises(ValueError, match=r"^here is ") as refusal:
        check_name(name, "here")
    assert "\n" not in str(refusal.value)
