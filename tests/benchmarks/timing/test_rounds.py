"""Tests of contestants: they get their environment, and they are timed when they are warm."""

import os
import time

import pytest

from benchmarks.timing.rounds import Contestant, in_turns
from qsep_jax.command_line.huge_pages import VARIABLE


def make_slow_at_first():
    calls = []

    def run():
        time.sleep(0.0 if calls else 1.0)
        calls.append(1)

    return run, {"tunables": os.environ.get(VARIABLE)}


def test_of_two_runs_the_second_is_timed():
    before = dict(os.environ)
    with Contestant("slow", make_slow_at_first, environment={VARIABLE: "glibc.malloc.check=0"}) as contestant:
        assert contestant.facts["tunables"] == "glibc.malloc.check=0"
        assert contestant.seconds() < 0.5
    assert os.environ == before


def make_work():
    return lambda: time.sleep(0.01), {}


def make_work_that_hangs():
    time.sleep(1000)


def make_work_that_hangs_in_its_third_turn():
    calls = []

    def run():
        calls.append(1)
        time.sleep(1000 if len(calls) > 4 else 0.01)

    return run, {}


def make_work_that_fails():
    raise RuntimeError("no kernel for this convolution")


FAILING = {
    "hangs": (make_work_that_hangs, "the process of 'hangs' has not answered for 8 s"),
    "stops": (make_work_that_hangs_in_its_third_turn, "the process of 'stops' has not answered for 8 s"),
    "fails": (make_work_that_fails, "fails: RuntimeError: no kernel for this convolution"),
}


@pytest.mark.slow
def test_a_peer_that_fails_or_hangs_is_left_out_by_name(capsys):
    failing = [Contestant(name, make, limit_s=8.0) for name, (make, _) in FAILING.items()]
    times = in_turns([Contestant("work", make_work), *failing], rounds=3, peers=FAILING)
    assert [len(seconds) for seconds in times.values()] == [3]
    assert list(times) == ["work"]
    errors = capsys.readouterr().err.splitlines()
    for name, (_, message) in FAILING.items():
        assert f"warning: {name} is left out: {message}" in errors
    assert errors[0] == "preparing work"
    assert errors[-1] == "round 3 of 3"
    assert not any(contestant._process.is_alive() for contestant in failing)


def test_a_contestant_that_is_no_peer_raises_its_error():
    with pytest.raises(ValueError, match="no kernel for this convolution"):
        in_turns([Contestant("fails", make_work_that_fails)], rounds=1)
