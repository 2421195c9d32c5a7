"""Measure the memory of this process, on Linux."""

import ctypes
import gc
from pathlib import Path

MIB = 2.0**20


def check_memory() -> None:
    """Raise ValueError where the memory of a process cannot be measured."""
    if not Path("/proc/self/clear_refs").exists():
        raise ValueError("memory is read from /proc/self, which this system does not have: measure on Linux")


def memory(field: str = "VmRSS") -> float:
    """The memory of this process in MiB, now (`VmRSS`) or at its peak (`VmHWM`)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:")) * 1024 / MIB


def settle() -> float:
    """Return freed memory to the kernel, reset the peak (`VmHWM`), and return the memory of the process, MiB.

    Otherwise the next work would first use what earlier work had freed, and would seem to need no memory.
    """
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc only
    if trim:
        trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    return memory()
