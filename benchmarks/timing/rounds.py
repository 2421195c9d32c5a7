"""Time several implementations of the same work fairly: in turns, each in a process of its own.

Machines are noisy, and their speed changes within minutes. Therefore the contestants take turns, and the result is the
ratio within a round. Each runs in its own process, so that the threads and the memory of a waiting contestant do not
disturb the one that runs. In its turn, each runs twice, and only the second run is timed: the steps of a training
follow one another without a pause, but a first step after a pause was seen to take up to twice as long, presumably
because the virtual machine had returned pages to its host.
"""

import multiprocessing
import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from multiprocessing.connection import Connection
from typing import Any

from qsep_jax.command_line import huge_pages

# Prepares a contestant in its process: `make(*arguments) → (run, facts)`. Calls of `run` are timed; `run` returns when
# its work is done. `facts` are sent back once.
Make = Callable[..., tuple[Callable[[], None], dict[str, Any]]]

# Pause between turns: thread pools spin for a moment after their last work before they sleep.
PAUSE_S = 0.05


class Contestant:
    """A process that prepares some work (`make`) and then runs it on demand.

    Args:
      environment: Environment variables to add in the process; by default those that give it huge pages, which the
        commands have as well.

    Raises:
      ValueError: if the process raised an error, or if it ended; from `facts` and `seconds`.
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
        """The facts that `make` returned in the process; waits for them."""
        facts = self._receive() if self._facts is None else self._facts
        self._facts = facts
        return facts

    def seconds(self) -> float:
        """Run twice and return the time of the second run."""
        self._ours.send("run")
        return self._receive()

    def close(self) -> None:
        self._ours.close()  # ends the process when it next waits for work
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
            message = self._ours.recv()
        except EOFError:
            self._process.join()
            code = self._process.exitcode
            hint = ": is there enough memory?" if code == -9 else ""
            raise ValueError(f"the process of '{self.name}' ended with exit code {code}{hint}") from None
        if isinstance(message, Exception):
            raise ValueError(f"{self.name}: {message}") from message
        return message


def facts_of(name: str, make: Make, *arguments: Any) -> dict[str, Any]:
    """The facts that `make` returns in a process of its own; the work is not run."""
    with Contestant(name, make, *arguments) as contestant:
        return contestant.facts


def in_turns(contestants: list[Contestant], rounds: int, warm_up: int = 1) -> dict[str, list[float]]:
    """The seconds of `rounds` runs of each contestant, by name, in turns, after `warm_up` rounds that do not count.

    Every second round has the reverse order, so that no contestant always follows the same one.
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
            run()  # restores what the turns of the others displaced, such as caches and pages
            start = time.perf_counter()
            run()
            pipe.send(time.perf_counter() - start)
    except EOFError:
        pass  # the other process has closed the pipe
    except Exception as error:  # the other process raises it
        pipe.send(ValueError(f"{type(error).__name__}: {error}"))
