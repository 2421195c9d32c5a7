"""Huge pages for the memory that malloc allocates: glibc requests them if an environment variable says so at its start.

On a CPU, the arrays of a training step are allocated and freed in every step, and the kernel maps gigabytes in pages of
4 KiB each time, which takes up to a third of the time of a step (docs/scaling.md). With pages of 2 MiB it takes next to
none.
"""

import os
import platform
import sys
import threading
from pathlib import Path

VARIABLE, OPTION = "GLIBC_TUNABLES", "glibc.malloc.hugetlb"
# The first version of glibc that has the option; older ones ignore it.
SINCE = (2, 35)
KERNEL = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def variables() -> dict[str, str]:
    """The environment variables with which a process gets huge pages.

    Empty if the environment sets the option already, to any value, or if it would have no effect: with another C
    library, and with a kernel that grants huge pages to no process or to every process.
    """
    tunables = os.environ.get(VARIABLE, "")
    library, version = platform.libc_ver()
    if OPTION in tunables or library != "glibc" or tuple(map(int, version.split(".")[:2])) < SINCE:
        return {}
    if not KERNEL.is_file() or "[madvise]" not in KERNEL.read_text():
        return {}
    return {VARIABLE: ":".join(filter(None, (tunables, f"{OPTION}=1")))}


def enable() -> None:
    """Execute the program of this process again with huge pages, where that has an effect.

    Call it before slow imports. The process keeps its id and its arguments. A process that runs threads, such as a
    notebook, is left as it is.
    """
    missing = variables()
    if missing and sys.executable and threading.active_count() == 1:
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, **missing})
