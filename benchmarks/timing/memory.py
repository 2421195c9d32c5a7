"""What a process holds in memory, on Linux."""

import ctypes
import gc
from pathlib import Path

MIB = 2.0**20


def check_memory() -> None:
    """Raise ValueError where the memory of a process cannot be told."""
    if not Path("/proc/self/clear_refs").exists():
        raise ValueError("memory is read from /proc/self, which this system does not have: measure on Linux")


def memory(field: str = "VmRSS") -> float:
    """What this process holds (`VmRSS`) or held at its most (`VmHWM`), MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:")) * 1024 / MIB


def settle() -> float:
    """Give back what is free and let `VmHWM` begin anew: what the process holds then, MiB.

    Without this, work would first fill what earlier work left free, and seem to need nothing.
    """
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # of glibc
    if trim:
        trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    return memory()
