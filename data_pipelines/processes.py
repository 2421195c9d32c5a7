"""Settings of worker processes: when they end, and whether glibc returns freed memory to the system.

If glibc returns memory to the system, the next array of the same size causes a page fault for each page. For arrays
that are allocated and freed with every batch, this can take a fifth of the time. These functions change nothing where
the C library is not glibc.
"""

import contextlib
import ctypes
import multiprocessing
import os
import signal
import threading

# What happened to a worker process that ended without an error of its own.
KILLED = "was killed, which the system does if memory runs out"

# Constants of malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3


def end_with_parent(*_: int) -> None:
    """End this process when its parent has ended, since a killed command cannot end its workers itself."""
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def ignore_termination(*_: int) -> None:
    """Ignore SIGTERM, and end this process when its parent has ended.

    A scheduler sends SIGTERM to all processes of a run, but the main process still needs its workers to save a
    checkpoint.
    """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    end_with_parent()


def keep_freed_memory() -> None:
    """Keep up to 256 MiB of freed memory for the next batch, which is as large as the last one.

    The page faults of new memory would take as long as mixing the batch.
    """
    _set_malloc({_MMAP_THRESHOLD: 32 << 20, _TRIM_THRESHOLD: 256 << 20})


def return_freed_memory() -> None:
    """Return large arrays to the system when they are freed.

    By default, glibc keeps the memory of one call and allocates the large matrix of the next call beside it.
    """
    _set_malloc({_MMAP_THRESHOLD: 8 << 20, _TRIM_THRESHOLD: 256 << 20})


def _set_malloc(options: dict[int, int]) -> None:
    with contextlib.suppress(OSError, AttributeError, TypeError):  # another C library
        library = ctypes.CDLL(None)
        for option, value in options.items():
            library.mallopt(option, value)
