"""Progress of long work: a bar on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Self, TypeVar

from tqdm import tqdm

T = TypeVar("T")


class Progress:
    """`with Progress("rendering", total) as progress: progress.advance(…)`; writes to stderr.

    Away from a terminal it prints a line when it starts, at most one every `every` seconds, and one at the end.
    A total of 0 means that it is not known; `silent` prints nothing.
    """

    def __init__(
        self, label: str, total: int, *, initial: int = 0, unit: str = "it", every: float = 15.0, silent: bool = False
    ):
        self._label, self._total, self._done, self._every, self._silent = label, total, initial, every, silent
        self._start, self._initial = time.monotonic(), initial
        self._printed = self._start
        self._bar = None
        if sys.stderr.isatty() and not silent:
            self._bar = tqdm(total=total or None, desc=label, initial=initial, unit=unit, dynamic_ncols=True)
        else:
            self._print("")

    def advance(self, count: int = 1, note: str = "") -> None:
        self._done += count
        if self._bar is not None:
            if note:
                self._bar.set_postfix_str(note, refresh=False)
            self._bar.update(count)
        elif time.monotonic() - self._printed >= self._every and self._done != self._total:
            self._print(note)

    def over(self, items: Iterable[T]) -> Iterator[T]:
        """The items, counted as they pass."""
        for item in items:
            yield item
            self.advance()

    def _print(self, note: str) -> None:
        self._printed = time.monotonic()
        done, seconds = self._done - self._initial, self._printed - self._start
        whole = f"/{self._total}" if self._total else ""
        left = f", {seconds / done * (self._total - self._done):.0f} s left" if done and self._total else ""
        self._say(f"{self._done}{whole}{left}{', ' + note if note else ''}")

    def _say(self, text: str) -> None:
        if not self._silent:
            print(f"{self._label}: {text}", file=sys.stderr, flush=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()
        elif kind is None:
            seconds = time.monotonic() - self._start
            self._say(f"done, {self._done} in {seconds:.1f} s")
