"""glibc keeps freed memory for the next array of the same size, or returns it to the system."""

import platform
import subprocess
import sys

import pytest

from tests.experiments import ROOT

PROGRAM = """
import resource, threading
import numpy as np
from data_pipelines import processes
processes.{setting}()

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones({mib} << 17)  # 8 bytes each, freed at once
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def report():
    first = faults()
    print(first, min(faults() for _ in range(3)))

thread = threading.Thread(target=report)
thread.start()
thread.join()
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the settings are those of glibc")
@pytest.mark.parametrize(
    ("setting", "mib", "kept_by_glibc"), [("keep_freed_memory", 20, True), ("return_freed_memory", 20, False)]
)
def test_page_faults_after_memory_was_freed(setting, mib, kept_by_glibc):
    program = [sys.executable, "-c", PROGRAM.format(setting=setting, mib=mib)]
    output = subprocess.run(program, capture_output=True, text=True, check=True, cwd=ROOT).stdout
    first, later = map(int, output.split())
    pages = (mib << 20) // 4096
    assert first > pages / 600  # a huge page replaces 512 pages
    assert later < first / 10 if kept_by_glibc else later > first / 2
