"""Memory that was freed is kept for the next of the same size, or given back."""

import platform
import subprocess
import sys

import pytest

from tests.experiments import ROOT

PROGRAM = """
import resource, threading
import numpy as np
from data_pipelines import processes
processes.{how}()

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones({mib} << 17)  # of 8 bytes each, freed at once
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def told():
    first = faults()
    print(first, min(faults() for _ in range(3)))

thread = threading.Thread(target=told)
thread.start()
thread.join()
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is glibc that keeps or gives back")
@pytest.mark.parametrize(("how", "mib", "kept"), [("keep_freed_memory", 20, True), ("return_freed_memory", 20, False)])
def test_pages_are_faulted_in_anew_or_not(how, mib, kept):
    program = [sys.executable, "-c", PROGRAM.format(how=how, mib=mib)]
    said = subprocess.run(program, capture_output=True, text=True, check=True, cwd=ROOT).stdout
    first, later = map(int, said.split())
    pages = (mib << 20) // 4096
    assert first > pages / 600  # huge pages are 512
    assert later < first / 10 if kept else later > first / 2
