"""Progress of long work: a bar on a terminal, plain lines elsewhere."""

import math
import sys
import time
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Self, TypeVar

from tqdm import tqdm

T = TypeVar("T")


class Progress:
    """Report progress on stderr: `with Progress("rendering", total) as progress: progress.advance(…)`.

    Where stderr is no terminal, it prints a line at the start, at most one line every `every` seconds, and one at the
    end; the time left is in hours and minutes. A total of 0 means that it is unknown. `silent` prints nothing.
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
            self._print_state("")

    def advance(self, count: int = 1, note: str = "") -> None:
        """Count `count` further items as done, and show `note` beside them."""
        self._done += count
        if self._bar is not None:
            if note:
                self._bar.set_postfix_str(note, refresh=False)
            self._bar.update(count)
        elif time.monotonic() - self._printed >= self._every and self._done != self._total:
            self._print_state(note)

    def over(self, items: Iterable[T]) -> Iterator[T]:
        """Yield the items and count each as done when the next is requested."""
        for item in items:
            yield item
            self.advance()

    def _print_state(self, note: str) -> None:
        self._printed = time.monotonic()
        done, seconds = self._done - self._initial, self._printed - self._start
        total = f"/{self._total}" if self._total else ""
        left = (
            f", {hours_and_minutes(seconds / done * (self._total - self._done))} left" if done and self._total else ""
        )
        self._print(f"{self._done}{total}{left}{', ' + note if note else ''}")

    def _print(self, text: str) -> None:
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
            self._print(f"done, {self._done} in {seconds:.1f} s")


def hours_and_minutes(seconds: float) -> str:
    """`1:05 h` for an hour and five minutes; the last minute counts as one."""
    minutes = math.ceil(seconds / 60)
    return f"{minutes // 60}:{minutes % 60:02d} h"
