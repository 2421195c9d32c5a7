"""A process starts again with huge pages where the kernel and the C library grant them on request."""

import os
import subprocess
import sys

import pytest

from qsep_jax.command_line import huge_pages
from tests.experiments import ROOT

# Prints its process id, its argument, and the page faults that it takes to write 64 MiB.
PROGRAM = """
import os, resource, sys
from qsep_jax.command_line import huge_pages
huge_pages.enable()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
bytearray(64 << 20)
print(os.getpid(), sys.argv[1], resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.fixture
def kernel(tmp_path, monkeypatch):
    """A machine whose kernel grants huge pages on request, and a process that has not requested them."""
    monkeypatch.setattr(huge_pages, "KERNEL", tmp_path / "enabled")
    monkeypatch.setattr(huge_pages.platform, "libc_ver", lambda: ("glibc", "2.36"))
    monkeypatch.delenv(huge_pages.VARIABLE, raising=False)
    huge_pages.KERNEL.write_text("always [madvise] never\n")
    return huge_pages.KERNEL


def test_other_tunables_are_kept(kernel, monkeypatch):
    assert huge_pages.variables() == {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.check=3")
    assert huge_pages.variables() == {"GLIBC_TUNABLES": "glibc.malloc.check=3:glibc.malloc.hugetlb=1"}


def test_a_setting_of_the_user_is_left_alone(kernel, monkeypatch):
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.hugetlb=0")
    assert huge_pages.variables() == {}


@pytest.mark.parametrize("library", [("glibc", "2.31"), ("musl", "1.2.4"), ("", "")])
def test_other_c_libraries_do_not_have_the_option(kernel, monkeypatch, library):
    monkeypatch.setattr(huge_pages.platform, "libc_ver", lambda: library)
    assert huge_pages.variables() == {}


def test_a_kernel_that_grants_all_or_none_is_not_asked(kernel):
    for mode in ("[always] madvise never\n", "always madvise [never]\n"):
        kernel.write_text(mode)
        assert huge_pages.variables() == {}
    kernel.unlink()
    assert huge_pages.variables() == {}


def test_a_process_with_threads_does_not_restart(kernel, monkeypatch):
    monkeypatch.setattr(huge_pages.threading, "active_count", lambda: 2)
    monkeypatch.setattr(os, "execve", lambda *_: pytest.fail("restarted"))
    huge_pages.enable()


@pytest.mark.skipif(not huge_pages.variables(), reason="the kernel or the C library grants none on request")
def test_the_same_process_restarts_with_huge_pages():
    environment = {name: value for name, value in os.environ.items() if name != huge_pages.VARIABLE}
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "argument"], env=environment, cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    pid, argument, faults = process.communicate()[0].split()
    assert int(pid) == process.pid
    assert argument == "argument"
    assert int(faults) < (64 << 20) // 4096 / 10
