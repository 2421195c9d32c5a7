"""Huge pages for what malloc gets: Linux grants them to who asks, and glibc asks if told so before a process begins.

The arrays of a step on a CPU come and go with it, and the kernel hands out gigabytes anew, in pieces of 4 KiB: up
to a third of the time of a step (docs/scaling.md). In pieces of 2 MiB that takes next to none.
"""

import os
import platform
import sys
import threading
from pathlib import Path

VARIABLE, OPTION = "GLIBC_TUNABLES", "glibc.malloc.hugetlb"
# Of glibc: the first version with the option. Older ones leave it unread.
SINCE = (2, 35)
KERNEL = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def variables() -> dict[str, str]:
    """What a process has to find in its environment in order to get them.

    Empty where it says already whether it wants them, and where nothing would come of it: with another C library, or
    with a kernel that gives them to nobody, or to everybody.
    """
    given = os.environ.get(VARIABLE, "")
    library, version = platform.libc_ver()
    if OPTION in given or library != "glibc" or tuple(map(int, version.split(".")[:2])) < SINCE:
        return {}
    if not KERNEL.is_file() or "[madvise]" not in KERNEL.read_text():
        return {}
    return {VARIABLE: ":".join(filter(None, (given, f"{OPTION}=1")))}


def ask() -> None:
    """Begin this process anew where that gives it huge pages; to be called before what takes long to import.

    It stays the same process, with the same arguments. One that runs threads, as a notebook does, is left alone.
    """
    missing = variables()
    if missing and sys.executable and threading.active_count() == 1:
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, **missing})
