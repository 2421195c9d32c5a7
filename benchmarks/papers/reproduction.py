"""Reproduce a paper by one command: the jobs that prepare, train, score and tabulate, in order, each done only once.

`python -m benchmarks.papers.PAPER --data DIR --out DIR` runs every job as a process of its own, as the commands that
the documentation shows. A job is complete when its result exists, so the same command continues after a kill at any
moment, and a result that was copied from another machine counts.
"""

import contextlib
import dataclasses
import fcntl
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from data_pipelines import console
from data_pipelines.files import read_json, write_json
from data_pipelines.progress import hours_and_minutes

# The file of `--data` with which papers render their small test corpora, and where it can be found.
FLUID = {"FluidR3_GM.sf2": "it is in Debian's package fluid-soundfont-gm, as /usr/share/sounds/sf2/FluidR3_GM.sf2"}


@dataclasses.dataclass(frozen=True)
class Reproduction:
    """Reproduce the tables and figures of a paper: prepare, train, score and tabulate. The same command continues.

    Attributes:
      data: Folder with the published corpora as they were downloaded. With --small it is only needed for a SoundFont,
        by those papers whose small corpora are rendered with one that is not part of this package.
      out: Folder of the prepared corpora, the runs, the records and the tables; required.
      small: Whether to train systems that two CPU cores can train, on the built-in corpora.
      seeds: Number of trainings of each system, with the seeds 0, 1, …
      only: Names of jobs, or parts of names between slashes, to run (by default, all): `--only train table`.
      list: Whether to print the jobs and how long they take, and to run none.
    """

    data: Path | None = None
    out: Path | None = None
    small: bool = False
    seeds: int = 1
    only: tuple[str, ...] = ()
    list: bool = False


@dataclasses.dataclass(frozen=True)
class Job:
    """A part of a reproduction.

    Attributes:
      name: Name, with a slash between the kind of job and what it is about: `train/msi-0`.
      commands: Modules with their arguments, run in order: `("qsep_jax.train", "--config", …)`.
      result: File or folder that exists once the job is complete, and not before.
      hours: How long it takes on two cores of an AMD EPYC.
      after: Names of jobs, or parts of names, whose new results make this job run again.
      needs: Files that the user has to provide; a job that lacks one is named at the beginning and left out.
    """

    name: str
    commands: tuple[tuple[str, ...], ...]
    result: Path
    hours: float
    after: tuple[str, ...] = ()
    needs: tuple[Path, ...] = ()

    def is_named(self, names: Sequence[str]) -> bool:
        """Whether one of the names is the name of this job, or a part of it between slashes."""
        return any(name == self.name or name in self.name.split("/") for name in names)


def main(
    paper: str, plan: Callable[[Reproduction], list[Job]], small_needs: Mapping[str, str] = MappingProxyType({})
) -> None:
    """Run the command `python -m benchmarks.papers.PAPER` with the jobs of `plan`.

    Args:
      small_needs: The files of `--data` that the jobs of `--small` read, and where each can be found.
    """
    data = " --data DIR" if small_needs else ""
    example = f"python -m benchmarks.papers.{paper} --small{data} --out reproduction/{paper}"
    options = console.parse(Reproduction, f"python -m benchmarks.papers.{paper}", example)
    if options.out is None:
        raise ValueError(f"--out is needed. Example: {example}")
    if options.data is None and not options.small:
        without = f"--small needs only {', '.join(small_needs)} of it" if small_needs else "--small does without"
        raise ValueError(f"--data is needed, the folder with the published corpora; {without}")
    console.need_positive(options, "seeds")
    jobs = plan(options)
    chosen = [job for job in jobs if not options.only or job.is_named(options.only)]
    for name in options.only:
        if not any(job.is_named([name]) for job in jobs):
            raise ValueError(f"no job is named '{name}'; there are {', '.join(job.name for job in jobs)}")
    lacking = left_out(chosen)
    for missing, names in lacking.items():
        print(f"left out for lack of {', '.join(map(str, missing))}: {', '.join(names)}", flush=True)
    names = {name for group in lacking.values() for name in group}
    jobs, chosen = ([job for job in group if job.name not in names] for group in (jobs, chosen))
    print(overview(jobs, read_times(options.out)), flush=True)
    if not options.list:
        if options.small:
            check_files(options.data, small_needs, [job for job in chosen if not job.result.exists()])
        with locked(options.out):
            run_all(chosen, options.out)


def check_files(data: Path | None, needs: Mapping[str, str], jobs: Sequence[Job]) -> None:
    """Check that the folder of `--data` has the files that the commands of jobs name, before the first one starts.

    Args:
      needs: Names of files in the folder, and where each can be found.

    Raises:
      ValueError: if the folder is not given, or a file is missing.
    """
    words = {word for job in jobs for command in job.commands for word in command}
    for name, source in needs.items():
        path = (data or Path()) / name
        if str(path) in words and not (data and path.is_file()):
            problem = f"{data} has no {name}" if data else f"--small needs --data, a folder with {name}"
            raise ValueError(f"{problem}: {source}")


def run_all(jobs: Sequence[Job], out: Path) -> None:
    """Run the jobs that are not complete, in order, and say after each how much is left.

    Raises:
      ValueError: if a job fails.
    """
    renewed: list[str] = []
    for index, job in enumerate(jobs):
        if job.result.exists() and not any(name in job.after for done in renewed for name in (done, *done.split("/"))):
            continue
        print(f"job {job.name}", flush=True)
        start = time.monotonic()
        for command in job.commands:
            _run(job, command)
        if not job.result.exists():
            raise ValueError(f"the job {job.name} ended without its result, {job.result}")
        renewed.append(job.name)
        seconds = time.monotonic() - start
        times = {**read_times(out), job.name: seconds}
        write_json(out / "times.json", times)
        left = [other for other in jobs[index + 1 :] if not other.result.exists()]
        print(f"job {job.name} took {hours_and_minutes(seconds)}; {left_text(left, jobs, times)}", flush=True)


def left_out(jobs: Sequence[Job]) -> dict[tuple[Path, ...], list[str]]:
    """The names of the jobs that lack files that the user has to provide, by these files.

    A job that is complete needs nothing any more.
    """
    names: dict[tuple[Path, ...], list[str]] = {}
    for job in jobs:
        missing = tuple(path for path in job.needs if not path.exists())
        if missing and not job.result.exists():
            names.setdefault(missing, []).append(job.name)
    return names


def overview(jobs: Sequence[Job], times: dict[str, float]) -> str:
    """The names of the jobs that are complete and of those that are left, with the time that they take."""
    complete = [job for job in jobs if job.result.exists()]
    left = [job for job in jobs if not job.result.exists()]
    lines = [f"complete: {', '.join(job.name for job in complete)}"] if complete else []
    for job in left:
        time_text = hours_and_minutes(job.hours * 3600 * speed(jobs, times))
        lines.append(f"left: {job.name}, about {time_text}")
    return "\n".join([*lines, left_text(left, jobs, times)])


def left_text(left: Sequence[Job], jobs: Sequence[Job], times: dict[str, float]) -> str:
    """How many jobs are left, and how long they take."""
    if not left:
        return "nothing is left"
    seconds = sum(job.hours for job in left) * 3600 * speed(jobs, times)
    measured = any(job.name in times for job in jobs)
    basis = "at the pace of the jobs so far" if measured else "on two cores of an AMD EPYC"
    return f"{len(left)} of {len(jobs)} jobs left, about {hours_and_minutes(seconds)} {basis}"


def speed(jobs: Sequence[Job], times: dict[str, float]) -> float:
    """The time of the jobs that have run here, divided by what they were expected to take; 1 without such a job."""
    measured = [job for job in jobs if job.name in times and job.hours]
    expected = 3600 * sum(job.hours for job in measured)
    return sum(times[job.name] for job in measured) / expected if expected else 1.0


def read_times(out: Path) -> dict[str, float]:
    """The seconds that each job took in this folder."""
    path = out / "times.json"
    return read_json(path, "delete the file; only the estimates of the time left need it") if path.exists() else {}


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Reserve a folder for this process and the jobs that it starts, until the last of them has ended.

    Raises:
      ValueError: if another process has reserved it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / ".lock"
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ValueError(
                f"{folder} is in use by another process, or by a job that a killed one has left: "
                f"wait for it, or stop it (`fuser {path}` names it)"
            ) from None
        os.set_inheritable(file.fileno(), True)  # a job that outlives this process keeps the folder reserved
        yield


def _run(job: Job, command: Sequence[str]) -> None:
    """Run a command of a job; SIGTERM is passed on, so that a training saves its state.

    Raises:
      ValueError: if the command fails.
      SystemExit: if it ends after SIGTERM.
    """
    print(f"python -m {shlex.join(command)}", flush=True)
    process = subprocess.Popen([sys.executable, "-m", *command], close_fds=False)
    previous = signal.signal(signal.SIGTERM, lambda number, _: process.send_signal(number))
    try:
        code = process.wait()
    except BaseException:
        process.terminate()
        process.wait()
        raise
    finally:
        signal.signal(signal.SIGTERM, previous)
    if code in (-signal.SIGTERM, 128 + signal.SIGTERM):
        raise SystemExit(128 + signal.SIGTERM)
    if code:
        raise ValueError(
            f"the job {job.name} failed with exit code {code}: mend what its last line names and run again"
        )
