"""Time several implementations of the same work fairly: in turns, each in a process of its own.

Machines are noisy, and their speed changes within minutes. Therefore the contestants take turns, and the result is the
ratio within a round. Each runs in its own process, so that the threads and the memory of a waiting contestant do not
disturb the one that runs. In its turn, each runs twice, and only the second run is timed: the steps of a training
follow one another without a pause, but a first step after a pause was seen to take up to twice as long, presumably
because the virtual machine had returned pages to its host.
"""

import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Collection
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection
from typing import Any

from qsep_jax.command_line import huge_pages

# Prepares a contestant in its process: `make(*arguments) → (run, facts)`. Calls of `run` are timed; `run` returns when
# its work is done. `facts` are sent back once.
Make = Callable[..., tuple[Callable[[], None], dict[str, Any]]]

# Pause between turns: thread pools spin for a moment after their last work before they sleep.
PAUSE_S = 0.05
# Seconds after which a process that has not answered is taken for one that never will.
LIMIT_S = 3600.0


class Contestant:
    """A process that prepares some work (`make`) and then runs it on demand. It starts when its facts are first needed.

    Args:
      environment: Environment variables to add in the process; by default those that give it huge pages, which the
        commands have as well.
      limit_s: Seconds that the preparation, and each turn, may take.

    Raises:
      ValueError: if the process raised an error, ended, or has not answered within the limit; from `facts` and
        `seconds`.
    """

    def __init__(
        self,
        name: str,
        make: Make,
        *arguments: Any,
        environment: dict[str, str] | None = None,
        limit_s: float = LIMIT_S,
    ):
        self.name = name
        self._environment, self._limit_s = environment, limit_s
        context = multiprocessing.get_context("spawn")
        self._ours, self._theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(self._theirs, make, arguments), daemon=True)
        self._facts: dict[str, Any] | None = None

    @property
    def facts(self) -> dict[str, Any]:
        """The facts that `make` returned in the process; waits for them."""
        facts = self._facts
        if facts is None:
            self._start()
            facts = self._facts = self._receive()
        return facts

    def seconds(self) -> float:
        """Run twice and return the time of the second run."""
        _ = self.facts
        self._ours.send("run")
        return self._receive()

    def close(self) -> None:
        """End the process; one that is at work is killed after some seconds."""
        self._ours.close()  # ends the process when it next waits for work
        if self._process.pid is None:
            return
        self._process.join(timeout=5)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    def _start(self) -> None:
        before = dict(os.environ)
        os.environ.update(huge_pages.variables() if self._environment is None else self._environment)
        try:
            self._process.start()
        finally:
            os.environ.clear()
            os.environ.update(before)
        self._theirs.close()

    def __enter__(self) -> "Contestant":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def _receive(self) -> Any:
        try:
            if not self._ours.poll(self._limit_s):
                raise ValueError(f"the process of '{self.name}' has not answered for {self._limit_s:g} s")
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


def in_turns(
    contestants: list[Contestant], rounds: int, warm_up: int = 1, peers: Collection[str] = ()
) -> dict[str, list[float]]:
    """The seconds of `rounds` runs of each contestant, by name, in turns, after `warm_up` rounds that do not count.

    Every second round has the reverse order, so that no contestant always follows the same one. The contestants prepare
    their work one after the other. What happens is printed to stderr.

    Args:
      peers: Names of contestants that are left out if they fail or do not answer; the error is printed as a warning.

    Raises:
      ValueError: if another contestant fails or does not answer.
    """
    times: dict[str, list[float]] = {contestant.name: [] for contestant in contestants}
    with ExitStack() as stack:
        for contestant in contestants:
            stack.callback(contestant.close)
        for contestant in contestants:
            _say(f"preparing {contestant.name}")
            with _left_out_if_it_fails(contestant, times, peers):
                _ = contestant.facts
        for number in range(warm_up + rounds):
            _say("round to warm up" if number < warm_up else f"round {number - warm_up + 1} of {rounds}")
            for contestant in contestants if number % 2 == 0 else reversed(contestants):
                if contestant.name not in times:
                    continue
                time.sleep(PAUSE_S)
                with _left_out_if_it_fails(contestant, times, peers):
                    seconds = contestant.seconds()
                    if number >= warm_up:
                        times[contestant.name].append(seconds)
    return times


@contextmanager
def _left_out_if_it_fails(contestant: Contestant, times: dict[str, list[float]], peers: Collection[str]):
    """Remove a peer that raises an error from `times`, and end it."""
    try:
        yield
    except ValueError as error:
        if contestant.name not in peers:
            raise
        _say(f"warning: {contestant.name} is left out: {error}")
        del times[contestant.name]
        contestant.close()


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


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
