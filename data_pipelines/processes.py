"""What worker processes have in common: how they end, and what glibc does with memory that they freed.

Memory that glibc gives back to the system is faulted in anew, page by page, when the next array of that size is made;
for arrays that come and go with every batch this can take a fifth of the time. Other C libraries are left as they are.
"""

import contextlib
import ctypes
import multiprocessing
import os
import signal
import threading

# Of malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3


def end_with_parent(*_: int) -> None:
    """End this process once the one that started it is gone: a killed command cannot end its workers itself."""
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def ignore_termination(*_: int) -> None:
    """`end_with_parent`, and not before: whoever asks all processes of a run to end means the one that can save it."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    end_with_parent()


def keep_freed_memory() -> None:
    """Keep up to 256 MiB.

    Every batch is as large as the last. Faulting its memory in anew takes as long as mixing it.
    """
    _set_malloc({_MMAP_THRESHOLD: 32 << 20, _TRIM_THRESHOLD: 256 << 20})


def return_freed_memory() -> None:
    """Return large arrays to the system when they are freed.

    Left to itself glibc keeps what one call freed and puts the next one's large matrix beside it.
    """
    _set_malloc({_MMAP_THRESHOLD: 8 << 20, _TRIM_THRESHOLD: 256 << 20})


def _set_malloc(options: dict[int, int]) -> None:
    with contextlib.suppress(OSError, AttributeError, TypeError):  # another C library
        library = ctypes.CDLL(None)
        for option, value in options.items():
            library.mallopt(option, value)
