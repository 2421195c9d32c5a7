"""Tests of contestants: they get their environment, and they are timed when they are warm."""

import os
import time

from benchmarks.timing.rounds import Contestant
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
