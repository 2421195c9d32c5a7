"""Signals end a command as an exception, with one line and the exit code that a shell expects."""

import gc
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from data_pipelines import console, signals
from data_pipelines.files import atomic_write


@pytest.mark.parametrize("number", signals.ENDING)
def test_a_signal_cleans_up_and_ends_with_its_code(number, tmp_path, capsys):
    before = signal.getsignal(number)

    def main() -> None:
        with atomic_write(tmp_path / "a.txt") as unfinished:
            unfinished.write_text("half")
            os.kill(os.getpid(), number)

    with pytest.raises(SystemExit) as exit_info:
        console.run(main)
    assert exit_info.value.code == 128 + number
    assert capsys.readouterr().err == f"stopped by {number.name}\n"
    assert list(tmp_path.iterdir()) == []
    assert signal.getsignal(number) == before


def test_a_second_signal_does_not_interrupt_the_cleanup():
    cleaned = []

    def work() -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
            cleaned.append(True)

    with pytest.raises(signals.Ended), signals.as_exits():
        work()
    assert cleaned


def test_a_signal_in_a_callback_of_the_garbage_collector_ends_the_command_later(capsys):
    """There, Python only reports an exception; JAX has such a callback, and its import collects garbage often."""
    calls = []

    def callback(phase: str, info: dict[str, int]) -> None:
        calls.append(phase)
        if len(calls) == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    def main() -> None:
        gc.callbacks.append(callback)
        deadline = time.monotonic() + 20
        gc.collect()
        while time.monotonic() < deadline:
            time.sleep(0.001)

    before = sys.unraisablehook
    try:
        with pytest.raises(SystemExit) as exit_info:
            console.run(main)
    finally:
        gc.callbacks.remove(callback)
    assert exit_info.value.code == 128 + signal.SIGTERM
    assert capsys.readouterr().err == "stopped by SIGTERM\n"
    assert sys.unraisablehook is before


def test_a_library_that_turns_the_end_into_its_own_error(capsys):
    def main() -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except BaseException as error:
            raise RuntimeError("the work failed") from error

    with pytest.raises(SystemExit) as exit_info:
        console.run(main)
    assert exit_info.value.code == 128 + signal.SIGTERM
    assert capsys.readouterr().err == "stopped by SIGTERM\n"


def test_an_ignored_signal_stays_ignored(monkeypatch):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as `nohup` does
    try:
        with signals.as_exits():
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_in_another_thread_nothing_changes():
    seen = []
    thread = threading.Thread(target=lambda: console.run(lambda: seen.append(signal.getsignal(signal.SIGTERM))))
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGTERM)]


LEAKING = """
import os, signal
from multiprocessing import get_context
from data_pipelines import console
def main():
    context = get_context("spawn")
    lock = context.Semaphore(1)
    os.kill(os.getpid(), signal.SIGKILL)
console.run(main)
"""


def test_the_tracker_of_semaphores_is_silent_after_a_kill():
    process = subprocess.run([sys.executable, "-c", LEAKING], capture_output=True, text=True, check=False, timeout=60)
    assert process.returncode == -signal.SIGKILL
    assert process.stderr == ""
