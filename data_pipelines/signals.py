"""Signals that end a command: they become an exception, so that unfinished files and worker processes are removed."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

# What schedulers and service managers send, and what a closed terminal sends.
ENDING = (signal.SIGTERM, signal.SIGHUP)


class Ended(BaseException):
    """A signal ended the command.

    Attributes:
      name: Name of the signal.
      code: Exit code of a process that this signal ends.
    """

    def __init__(self, number: int):
        super().__init__(number)
        self.name, self.code = signal.Signals(number).name, 128 + number


@contextlib.contextmanager
def as_exits() -> Iterator[None]:
    """Within this context, SIGTERM and SIGHUP raise `Ended` in the main thread.

    A second signal does not interrupt the removal of unfinished files. A signal that the process ignores, as under
    `nohup`, stays ignored, and in another thread nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in ENDING}
    changed = [number for number, handler in before.items() if handler == signal.SIG_DFL]

    def end(number: int, frame: FrameType | None) -> None:
        for other in changed:
            signal.signal(other, signal.SIG_IGN)
        raise Ended(number)

    for number in changed:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in changed:
            signal.signal(number, before[number])
