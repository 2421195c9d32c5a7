"""Runs a parser on damaged files and reports what it does beyond returning or raising a ValueError of one line."""

import dataclasses
import os
import random
import resource
import tempfile
import threading
import time
import traceback
import warnings
from pathlib import Path

from tests.fuzz.mutation import mutate
from tests.fuzz.parsers import Parser

# Seconds that one file may take, bytes that the process may grow, and characters of a message.
MOST_SECONDS, MOST_GROWTH, LONGEST_MESSAGE = 10.0, 2**30, 2_000


@dataclasses.dataclass
class Result:
    """What a parser did.

    Attributes:
      read, refused: Number of files that were read, and refused.
      failures: For each file on which the parser failed, its case `SEED/NUMBER` and what happened.
    """

    read: int = 0
    refused: int = 0
    failures: list[tuple[str, str]] = dataclasses.field(default_factory=list)

    @property
    def cases(self) -> int:
        return self.read + self.refused + len(self.failures)


def damaged(content: bytes, case: str) -> bytes:
    """Return the file of a case `SEED/NUMBER`, which is always the same."""
    return mutate(content, random.Random(case))


def run(parser: Parser, seed: int, *, cases: int = 0, seconds: float = 0.0, first: int = 0) -> Result:
    """Run a parser on `cases` damaged files, or for `seconds`; a file that takes too long ends the process."""
    result, start = Result(), time.monotonic()
    with tempfile.TemporaryDirectory() as name, _Watchdog() as watchdog, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folder = Path(name)
        parser.make(folder)
        path = folder / parser.file
        content = path.read_bytes()
        parser.parse(path)  # the file is valid before it is damaged
        resident, number = _most_resident(), first
        while number < first + cases if cases else time.monotonic() - start < seconds:
            case = f"{seed}/{number}"
            path.write_bytes(damaged(content, case))
            watchdog.start(case)
            _parse(parser, path, case, result)
            watchdog.stop()
            if _most_resident() - resident > MOST_GROWTH:
                result.failures.append((case, f"the process grew by {(_most_resident() - resident) / 2**20:.0f} MiB"))
                resident = _most_resident()
            number += 1
    return result


def _parse(parser: Parser, path: Path, case: str, result: Result) -> None:
    try:
        parser.parse(path)
        result.read += 1
    except ValueError as error:
        message = str(error)
        if type(error).__module__ != "builtins" and not isinstance(error, ValueError):
            result.failures.append((case, repr(error)))
        elif "\n" in message or not message or len(message) > LONGEST_MESSAGE:
            result.failures.append((case, f"not one line: {message[:300]!r}\n{_where(error)}"))
        else:
            result.refused += 1
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        result.failures.append((case, f"{type(error).__name__}: {str(error)[:300]}\n{_where(error)}"))


def _where(error: BaseException) -> str:
    return "".join(traceback.format_tb(error.__traceback__)[-3:])


def _most_resident() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


class _Watchdog:
    """Ends the process with exit code 3 if a file takes too long, even within a library that never returns."""

    def __init__(self):
        self._case, self._deadline, self._ended = "", float("inf"), threading.Event()

    def start(self, case: str) -> None:
        self._case, self._deadline = case, time.monotonic() + MOST_SECONDS

    def stop(self) -> None:
        self._deadline = float("inf")

    def __enter__(self) -> "_Watchdog":
        threading.Thread(target=self._watch, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()

    def _watch(self) -> None:
        while not self._ended.wait(0.5):
            if time.monotonic() > self._deadline:
                os.write(2, f"\nFAILED case {self._case}: it takes more than {MOST_SECONDS:g} s\n".encode())
                os._exit(3)
