"""What worker processes have in common."""

import multiprocessing
import os
import signal
import threading


def end_with_parent(*_: int) -> None:
    """End this process once the one that started it is gone: a killed command cannot end its workers itself."""
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def outlast_requests(*_: int) -> None:
    """`end_with_parent`, and not before: whoever asks all processes of a run to end means the one that can save it."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    end_with_parent()
