"""Signals that end a command: they become an exception, so that unfinished files and worker processes are removed."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType

# What schedulers and service managers send, and what a closed terminal sends.
ENDING = (signal.SIGTERM, signal.SIGHUP)
# Seconds until a signal is sent again whose exception was lost.
_PAUSE = 0.01


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

    Python may run the handler within a callback, such as that of the garbage collector, where an exception is lost; the
    signal is then sent again. If a library turns `Ended` into an exception of its own, it becomes `Ended` again.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in ENDING}
    changed = [number for number, handler in before.items() if handler == signal.SIG_DFL]
    hook_before, received = sys.unraisablehook, []

    def end(number: int, frame: FrameType | None) -> None:
        for other in changed:
            signal.signal(other, signal.SIG_IGN)
        received.append(number)
        sys.unraisablehook = hook
        raise Ended(number)

    def hook(lost: "sys.UnraisableHookArgs") -> None:
        # What the end interrupts may report that it was not completed, which nobody needs to know.
        if isinstance(lost.exc_value, Ended):
            for number in changed:
                signal.signal(number, end)
            threading.Timer(_PAUSE, send_again).start()

    def send_again() -> None:
        if sys.unraisablehook is hook:  # the context has not ended
            os.kill(os.getpid(), received[0])

    for number in changed:
        signal.signal(number, end)
    try:
        yield
    except Exception as error:
        if received:
            raise Ended(received[0]) from error
        raise
    finally:
        sys.unraisablehook = hook_before
        for number in changed:
            signal.signal(number, before[number])
