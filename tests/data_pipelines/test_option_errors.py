"""Everything that tyro refuses is one line, also in the versions whose boxes look different."""

import dataclasses
import os
import re
from typing import Annotated, Literal

import pytest
import tyro

from data_pipelines import console
from data_pipelines.option_errors import one_line


@dataclasses.dataclass(frozen=True)
class Inner:
    """Inner options.

    Attributes:
      steps: Number of steps, in a help text that is long enough to be wrapped on a terminal of the usual width.
    """

    steps: int = 3
    mode: Literal["a", "b"] = "a"
    gain: tuple[float, float] = (0.0, 1.0)
    numbers: tuple[int, ...] = ()

    def __post_init__(self):
        if self.steps < 0:
            raise ValueError(f"steps must be 0 or more, not {self.steps}")


@dataclasses.dataclass(frozen=True)
class Options:
    """Options of a test."""

    model: str
    inner: Inner = Inner()


@dataclasses.dataclass(frozen=True)
class Urmp:
    """One corpus."""

    source: str


@dataclasses.dataclass(frozen=True)
class Chamber:
    """Another corpus."""


@dataclasses.dataclass(frozen=True)
class Corpora:
    """Options with sub-commands."""

    corpus: Annotated[Urmp, tyro.conf.subcommand("urmp")] | Annotated[Chamber, tyro.conf.subcommand("chamber")]


MODEL = ("--model", "x")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((*MODEL, "--inner.stepz", "4"), "unknown option '--inner.stepz'; did you mean '--inner.steps'?"),
        (
            (*MODEL, "--inner.stepz", "4", "--inner.moed", "a"),
            "unknown option '--inner.stepz'; did you mean '--inner.steps'?",
        ),
        ((*MODEL, "--quite-another", "4"), "unknown option '--quite-another'; see test --help"),
        ((*MODEL, "extra"), "unknown argument 'extra'; see test --help"),
        ((), "missing: --model STR; see test --help"),
        (("--modl", "x"), "unknown option '--modl'; did you mean '--model'?"),
        (("--model",), "--model needs a value"),
        ((*MODEL, "--inner.gain", "1"), "--inner.gain needs 2 values"),
        ((*MODEL, "--inner.gain", "1", "x"), "--inner.gain takes FLOAT FLOAT, not '1', 'x'"),
        ((*MODEL, "--inner.steps", "many"), "--inner.steps must be an integer, not 'many'"),
        ((*MODEL, "--inner.steps", "-1"), "steps must be 0 or more, not -1"),
        ((*MODEL, "--inner.mode", "c"), "--inner.mode must be one of 'a', 'b', not 'c'"),
        ((*MODEL, "--inner.numbers", "1", "b"), "--inner.numbers takes [INT [INT ...]], not '1', 'b'"),
    ],
)
@pytest.mark.parametrize(("columns", "frames"), [("40", True), ("", True), ("", False)])
def test_what_tyro_refuses_is_one_line(arguments, message, columns, frames, monkeypatch, capsys):
    if columns:
        monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setitem(tyro._experimental_options, "utf8_boxes", frames)
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        console.parse(Options, "test", "test --model x", arguments)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "missing: one of corpus:urmp, corpus:chamber"),
        (("corpus:chambre",), "unknown argument 'corpus:chambre'; did you mean 'corpus:chamber'?"),
        (("other",), "unknown argument 'other'; choose one of corpus:urmp, corpus:chamber"),
        (("corpus:urmp",), "missing: --corpus.source STR; see test --help"),
    ],
)
def test_refused_sub_commands_are_one_line(arguments, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        console.parse(Corpora, "test", "test urmp", arguments)


@pytest.mark.parametrize(
    ("box", "line"),
    [
        ("", ""),
        ("a sentence\nof two lines", "a sentence of two lines"),
        ("- A title ----\n--------------\n  A sentence.\n  ------------\n  And another.", "A sentence."),
        ("\x1b[31m╭─ A title ─╮\x1b[0m\n│ \x1b[1mBold\x1b[0m text │\n╰───────────╯", "Bold text"),
    ],
)
def test_a_box_of_another_form_loses_its_frame_only(box, line):
    assert one_line(box, "test") == line


def test_the_width_of_the_terminal_is_left_as_it_is(monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    console.parse(Options, "test", "test --model x", MODEL)
    assert "COLUMNS" not in os.environ
    monkeypatch.setenv("COLUMNS", "40")
    console.parse(Options, "test", "test --model x", MODEL)
    assert os.environ["COLUMNS"] == "40"
