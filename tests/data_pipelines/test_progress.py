"""Progress: plain lines where there is no terminal."""

import re

import pytest

from data_pipelines.progress import Progress


def lines(capsys) -> list[str]:
    out, err = capsys.readouterr()
    assert out == ""
    assert "\r" not in err
    return err.splitlines()


def test_a_line_at_the_start_and_one_at_the_end(capsys):
    with Progress("reading", 3) as progress:
        for _ in progress.over(range(3)):
            pass
    first, last = lines(capsys)
    assert first == "reading: 0/3"
    assert re.fullmatch(r"reading: done, 3 in \d+\.\d s", last)


def test_lines_in_between_are_few(capsys, monkeypatch):
    now = 0.0
    monkeypatch.setattr("data_pipelines.progress.time.monotonic", lambda: now)
    with Progress("reading", 100, every=15.0) as progress:
        for _ in range(100):
            now += 1.0
            progress.advance(note="loss 1")
    printed = lines(capsys)
    assert [line.removeprefix("reading: ") for line in printed[1:-1]] == [
        f"{n}/100, 0:0{1 if n >= 40 else 2} h left, loss 1" for n in (15, 30, 45, 60, 75, 90)
    ]
    assert printed[-1] == "reading: done, 100 in 100.0 s"


@pytest.mark.parametrize(
    ("seconds", "left"), [(1, "0:01"), (60, "0:01"), (61, "0:02"), (3_600, "1:00"), (3_900, "1:05"), (90_000, "25:00")]
)
def test_the_time_left_is_in_hours_and_minutes(seconds, left, capsys, monkeypatch):
    now = 0.0
    monkeypatch.setattr("data_pipelines.progress.time.monotonic", lambda: now)
    with Progress("training", 2, every=1.0) as progress:
        now = float(seconds)
        progress.advance()
    assert lines(capsys)[1] == f"training: 1/2, {left} h left"


def test_what_was_done_before_is_not_counted_as_speed(capsys, monkeypatch):
    now = 0.0
    monkeypatch.setattr("data_pipelines.progress.time.monotonic", lambda: now)
    with Progress("training", 100, initial=90, every=1.0) as progress:
        now = 100.0
        progress.advance()
    assert lines(capsys)[:2] == ["training: 90/100", "training: 91/100, 0:15 h left"]


def test_an_unknown_total(capsys):
    with Progress("reading", 0, every=0.0) as progress:
        progress.advance()
    assert [line.split(",")[0] for line in lines(capsys)] == ["reading: 0", "reading: 1", "reading: done"]


def test_silent(capsys):
    with Progress("reading", 2, silent=True, every=0.0) as progress:
        progress.advance()
    assert lines(capsys) == []


def test_no_end_is_claimed_after_an_error(capsys):
    with pytest.raises(KeyError), Progress("reading", 2):
        raise KeyError
    assert lines(capsys) == ["reading: 0/2"]


def test_a_bar_on_a_terminal(capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with Progress("reading", 3) as progress:
        progress.advance(3, "loss 1")
    error = capsys.readouterr().err
    assert "\r" in error
    assert "3/3" in error
    assert "done" not in error
