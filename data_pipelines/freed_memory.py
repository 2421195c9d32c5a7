"""What glibc does with memory that was freed: give it back to the system, or keep it for the next of the same size.

Given back, it is faulted in anew, page by page: of a training step on a CPU, whose arrays come and go with it, that can
take a fifth. With another C library nothing of this happens.
"""

import contextlib
import ctypes

# Of malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3


def keep_some() -> None:
    """Keep up to 256 MiB.

    Every batch is as large as the last. Faulting its memory in anew takes as long as mixing it.
    """
    _set({_MMAP_THRESHOLD: 32 << 20, _TRIM_THRESHOLD: 256 << 20})


def give_back() -> None:
    """Return large arrays to the system when they are freed.

    Left to itself glibc keeps what one call freed and puts the next one's large matrix beside it.
    """
    _set({_MMAP_THRESHOLD: 8 << 20, _TRIM_THRESHOLD: 256 << 20})


def _set(options: dict[int, int]) -> None:
    with contextlib.suppress(OSError, AttributeError, TypeError):  # another C library
        library = ctypes.CDLL(None)
        for option, value in options.items():
            library.mallopt(option, value)
