"""A command begins with huge pages where they are to be had for the asking."""

import os
import subprocess
import sys

import pytest

from qsep_jax.command_line import huge_pages
from tests.experiments import ROOT

# Says which process it is, what it was given, and how many page faults 64 MiB take it.
PROGRAM = """
import os, resource, sys
from qsep_jax import huge_pages
huge_pages.ask()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
bytearray(64 << 20)
print(os.getpid(), sys.argv[1], resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.fixture
def kernel(tmp_path, monkeypatch):
    """A machine whose kernel gives huge pages to who asks, and a process that has not."""
    monkeypatch.setattr(huge_pages, "KERNEL", tmp_path / "enabled")
    monkeypatch.setattr(huge_pages.platform, "libc_ver", lambda: ("glibc", "2.36"))
    monkeypatch.delenv(huge_pages.VARIABLE, raising=False)
    huge_pages.KERNEL.write_text("always [madvise] never\n")
    return huge_pages.KERNEL


def test_asked_for_beside_what_else_is_asked(kernel, monkeypatch):
    assert huge_pages.variables() == {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.check=3")
    assert huge_pages.variables() == {"GLIBC_TUNABLES": "glibc.malloc.check=3:glibc.malloc.hugetlb=1"}


def test_who_has_said_is_left_alone(kernel, monkeypatch):
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.hugetlb=0")
    assert huge_pages.variables() == {}


@pytest.mark.parametrize("library", [("glibc", "2.31"), ("musl", "1.2.4"), ("", "")])
def test_not_of_another_library(kernel, monkeypatch, library):
    monkeypatch.setattr(huge_pages.platform, "libc_ver", lambda: library)
    assert huge_pages.variables() == {}


def test_not_of_a_kernel_that_does_not_listen(kernel):
    for said in ("[always] madvise never\n", "always madvise [never]\n"):
        kernel.write_text(said)
        assert huge_pages.variables() == {}
    kernel.unlink()
    assert huge_pages.variables() == {}


def test_a_process_with_threads_goes_on(kernel, monkeypatch):
    monkeypatch.setattr(huge_pages.threading, "active_count", lambda: 2)
    monkeypatch.setattr(os, "execve", lambda *_: pytest.fail("begun anew"))
    huge_pages.ask()


@pytest.mark.skipif(not huge_pages.variables(), reason="nothing is to be had for the asking here")
def test_the_same_process_begins_anew_and_has_them():
    environment = {name: value for name, value in os.environ.items() if name != huge_pages.VARIABLE}
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "given"], env=environment, cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    pid, argument, faults = process.communicate()[0].split()
    assert int(pid) == process.pid
    assert argument == "given"
    assert int(faults) < (64 << 20) // 4096 / 10
