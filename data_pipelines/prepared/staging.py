"""Loading of tracks by worker processes into a folder, one file per track, so that a killed run can continue."""

import contextlib
import dataclasses
import multiprocessing
import os
import re
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from data_pipelines.corpora.base import CorpusBuilder, OrderedMap, Stem, Track
from data_pipelines.files import atomic_write
from data_pipelines.processes import KILLED, end_with_parent
from data_pipelines.progress import Progress
from data_pipelines.schema import check_name
from data_pipelines.signals import Ended
from data_pipelines.video import frames

_FEWER = "give fewer --workers, and the same command continues"


@contextlib.contextmanager
def worker_pool(workers: int) -> Iterator[OrderedMap]:
    """Yield a map over `workers` processes that keeps the order of its items and need not be exhausted.

    Args:
      workers: number of processes; 0 starts one per core.

    Raises:
      ChildProcessError: if a worker process is killed.
    """
    workers = workers or os.cpu_count() or 1
    # The processes are spawned, not forked, because the caller may have threads of jax.
    spawn = multiprocessing.get_context("spawn")
    executor = ProcessPoolExecutor(workers, spawn, initializer=end_with_parent)
    others = {*multiprocessing.active_children()}
    try:
        yield partial(_bounded_map, executor, 4 * workers)
    except BrokenProcessPool:
        raise ChildProcessError(f"a worker process that reads tracks {KILLED}: {_FEWER}") from None
    except (Ended, KeyboardInterrupt):
        for worker in {*multiprocessing.active_children()} - others:
            worker.terminate()  # a track can take a minute
        raise
    finally:
        executor.shutdown(cancel_futures=True)


def _bounded_map(executor: ProcessPoolExecutor, ahead: int, function: Callable, items: Iterable) -> Iterator:
    """Yield the results in order, with at most `ahead` items submitted in advance."""
    waiting = []
    for item in items:
        waiting.append(executor.submit(function, item))
        if len(waiting) > ahead:
            yield waiting.pop(0).result()
    while waiting:
        yield waiting.pop(0).result()


def stage_tracks(
    corpus: CorpusBuilder, tracks: list[Track], sample_rate: int, folder: Path, ordered_map: OrderedMap, label: str
) -> list[Path]:
    """Load each track into a file of `folder`, except for tracks that a killed run has loaded.

    Warnings of the tracks are summed up in one.

    Args:
      label: name of this work in the progress display.

    Returns:
      The files in the order of the tracks.

    Raises:
      ValueError: if a track cannot be loaded, or its stems differ in length or channels.
    """
    paths = [folder / f"{number:05d}.npz" for number in range(len(tracks))]
    missing = [(track, path) for track, path in zip(tracks, paths, strict=True) if not path.exists()]
    with Progress(label, len(tracks), initial=len(tracks) - len(missing), unit="track") as progress:
        messages: list[str] = []
        for track_messages in ordered_map(partial(_stage_track, corpus, sample_rate), missing):
            messages += track_messages
            progress.advance()
    if messages:
        warnings.warn(
            f"{len(messages)} of {len(tracks)} tracks caused warnings; the first: {messages[0]}", stacklevel=2
        )
    return paths


def _stage_track(corpus: CorpusBuilder, sample_rate: int, item: tuple[Track, Path]) -> list[str]:
    """Load one track into a file; return the first warning that loading caused, if there was one."""
    track, path = item
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        stems = corpus.load(track, sample_rate)
    if len({stem.audio.shape for stem in stems}) != 1:
        raise ValueError(f"the stems of '{track.name}' differ in length or channels: {[s.audio.shape for s in stems]}")
    for stem in stems:
        # The name of a variant in another pitch, `violin@+2`, is that of its parent with the shift.
        name = stem.parent if re.fullmatch(re.escape(stem.parent) + r"@[+-]\d+", stem.name) else stem.name
        check_name(name, f"'{track.name}': the name of a stem")
    content: dict[str, Any] = {"names": [stem.name for stem in stems], "parents": [stem.parent for stem in stems]}
    for number, stem in enumerate(stems):
        content |= {f"audio{number}": stem.audio, f"notes{number}": stem.notes}
        if stem.frames:
            content |= {f"frames{number}": frames.pack(stem.frames), f"frame_rate{number}": stem.frame_rate}
    with atomic_write(path) as unfinished, unfinished.open("wb") as file:
        np.savez(file, **content)
    return [f"{track.name}: {warning.message}" for warning in caught if warning.category is UserWarning][:1]


def read_staged(path: Path) -> list[Stem]:
    """The stems of a staged track."""
    stems = []
    with np.load(path) as content:
        for number, (name, parent) in enumerate(zip(content["names"], content["parents"], strict=True)):
            stem = Stem(str(name), content[f"audio{number}"], str(parent), content[f"notes{number}"])
            if f"frames{number}" in content:
                jpegs, rate = frames.unpack(content[f"frames{number}"].tobytes()), float(content[f"frame_rate{number}"])
                stem = dataclasses.replace(stem, frames=tuple(jpegs), frame_rate=rate)
            stems.append(stem)
    return stems


def channels_and_video(path: Path) -> tuple[int, bool]:
    """The number of audio channels of a staged track, and whether any of its stems has video frames."""
    with np.load(path) as content:
        return content["audio0"].shape[1], any(name.startswith("frames") for name in content.files)
