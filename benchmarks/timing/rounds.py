"""Timing several implementations of one thing fairly: in turns, each in a process of its own.

Machines are noisy and get slower and faster within minutes. So the contestants take turns, and what counts is the ratio
within a round. Each lives in its own process, so that one's threads and memory are not in the other's way while it
waits. And each runs twice in its turn, of which the second is timed: the steps of a training follow one another, but
a first one after a pause was seen to take up to twice as long, presumably for pages that a virtual machine has given
back to its host.
"""

import multiprocessing
import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from multiprocessing.connection import Connection
from typing import Any

from qsep_jax.command_line import huge_pages

# Makes a contestant in its process: `make(*arguments) → (run, facts)`. A call of `run` is what is timed; it returns
# when its work is done. `facts` come back once.
Make = Callable[..., tuple[Callable[[], None], dict[str, Any]]]

# Between turns: thread pools spin for a moment after their last work before they go to sleep.
PAUSE_S = 0.05


class Contestant:
    """A process that makes something and then runs it on demand.

    Args:
      environment: what else it finds there; what gives it huge pages, as the commands have them, if left out.

    Raises:
      ValueError: what its process raised, or that it ended.
    """

    def __init__(self, name: str, make: Make, *arguments: Any, environment: dict[str, str] | None = None):
        self.name = name
        context = multiprocessing.get_context("spawn")
        self._ours, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, make, arguments), daemon=True)
        before = dict(os.environ)
        os.environ.update(huge_pages.variables() if environment is None else environment)
        self._process.start()
        os.environ.clear()
        os.environ.update(before)
        theirs.close()
        self._facts: dict[str, Any] | None = None

    @property
    def facts(self) -> dict[str, Any]:
        """What the making said; waits for it."""
        facts = self._receive() if self._facts is None else self._facts
        self._facts = facts
        return facts

    def seconds(self) -> float:
        """Run twice; how long the second took."""
        self._ours.send("run")
        return self._receive()

    def close(self) -> None:
        self._ours.close()  # ends the process when it next looks for work
        self._process.join(timeout=5)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    def __enter__(self) -> "Contestant":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def _receive(self) -> Any:
        try:
            said = self._ours.recv()
        except EOFError:
            self._process.join()
            code = self._process.exitcode
            hint = ": is there enough memory?" if code == -9 else ""
            raise ValueError(f"the process of '{self.name}' ended with exit code {code}{hint}") from None
        if isinstance(said, Exception):
            raise ValueError(f"{self.name}: {said}") from said
        return said


def facts_of(name: str, make: Make, *arguments: Any) -> dict[str, Any]:
    """The facts of something that is made, in a process of its own, and then never run."""
    with Contestant(name, make, *arguments) as contestant:
        return contestant.facts


def in_turns(contestants: list[Contestant], rounds: int, warm_up: int = 1) -> dict[str, list[float]]:
    """Seconds of `rounds` runs of each, by name, taken in turns; the first `warm_up` rounds are not counted.

    Every second round goes the other way round, so that nobody always follows the same one.
    """
    times: dict[str, list[float]] = {contestant.name: [] for contestant in contestants}
    with ExitStack() as stack:
        for contestant in contestants:
            stack.callback(contestant.close)
        for contestant in contestants:
            _ = contestant.facts
        for number in range(warm_up + rounds):
            for contestant in contestants if number % 2 == 0 else reversed(contestants):
                time.sleep(PAUSE_S)
                seconds = contestant.seconds()
                if number >= warm_up:
                    times[contestant.name].append(seconds)
    return times


def _serve(pipe: Connection, make: Make, arguments: tuple[Any, ...]) -> None:
    try:
        run, facts = make(*arguments)
        pipe.send(facts)
        while pipe.recv() == "run":
            run()  # what the others' turns undid
            start = time.perf_counter()
            run()
            pipe.send(time.perf_counter() - start)
    except EOFError:
        pass  # nobody asks any more
    except Exception as error:  # said by the process that asked
        pipe.send(ValueError(f"{type(error).__name__}: {error}"))
