"""What glibc does with memory that was freed: give it back to the system, or keep it for the next of the same size.

Given back, it is faulted in anew, page by page: of a training step on a CPU, whose arrays come and go with it, that can
take a fifth. With another C library nothing of this happens.
"""

import contextlib
import ctypes

# Of malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -3, -4, -8
_keeps_all = False


def keep_some() -> None:
    """Keep up to 256 MiB.

    Every batch is as large as the last. Faulting its memory in anew takes as long as mixing it.
    """
    if not _keeps_all:
        _set({_MMAP_THRESHOLD: 32 << 20, _TRIM_THRESHOLD: 256 << 20})


def keep_all() -> None:
    """Keep everything, for programs that compute the same again and again; as long as `give_back` does not undo it.

    Threads then share one arena, which costs small steps more than the page faults did.

    To be called before there are threads: one that has an arena of its own maps what is large in any case.
    """
    global _keeps_all
    _keeps_all = True
    _set({_ARENA_MAX: 1, _MMAP_MAX: 0, _TRIM_THRESHOLD: -1})


def give_back() -> None:
    """Return large arrays to the system when they are freed.

    Left to itself glibc keeps what one call freed and puts the next one's large matrix beside it.
    """
    global _keeps_all
    _keeps_all = False
    _set({_MMAP_MAX: 65_536, _MMAP_THRESHOLD: 8 << 20, _TRIM_THRESHOLD: 256 << 20})


def _set(options: dict[int, int]) -> None:
    with contextlib.suppress(OSError, AttributeError, TypeError):  # another C library
        library = ctypes.CDLL(None)
        for option, value in options.items():
            library.mallopt(option, value)
