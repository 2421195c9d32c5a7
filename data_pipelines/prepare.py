"""Build a corpus: `python -m data_pipelines.prepare chamber --out data --sample-rate 22050`.

A killed run is continued by the same command: every finished track waits in a staging folder. A corpus appears under
its name only when it is whole, and knows what it was made from: the same command again does nothing, unless the
options or the input have changed.
"""

import dataclasses
import multiprocessing
import os
import re
import shutil
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from data_pipelines import console
from data_pipelines.audio.reading import HIGHEST_RATE, LOWEST_RATE, fit_channels
from data_pipelines.corpora.band import Band
from data_pipelines.corpora.base import CorpusBuilder, Stem, Track
from data_pipelines.corpora.ccmixter import Ccmixter
from data_pipelines.corpora.chamber import Chamber
from data_pipelines.corpora.dsd100 import Dsd100
from data_pipelines.corpora.folder import Folder
from data_pipelines.corpora.ikala import Ikala
from data_pipelines.corpora.medleydb import Medleydb
from data_pipelines.corpora.musdb18 import Musdb18
from data_pipelines.corpora.solos import Solos
from data_pipelines.corpora.urmp import Urmp
from data_pipelines.prepared import store
from data_pipelines.processes import end_with_parent
from data_pipelines.progress import Progress
from data_pipelines.schema import BUILT_IN, SPLITS
from data_pipelines.video import frames

DEFAULT_ROOT = Path("data")


def build(
    corpus: CorpusBuilder,
    root: Path | str = DEFAULT_ROOT,
    *,
    name: str = "",
    sample_rate: int = 0,
    overwrite: bool = False,
    workers: int = 0,
) -> Path:
    """Build `corpus` under `root`, unless it is there already; its folder.

    Args:
      name: what the corpus is called from then on; its kind by default.
      sample_rate: Hz to store; the corpus's own, at most 44,100, by default.
      overwrite: replace one of this name and rate that was made from other options or another input.
      workers: processes that load tracks; as many as there are cores by default.

    Raises:
      ValueError: if the input is missing or unreadable, or a different corpus of this name is there already.
    """
    name, sample_rate = name or corpus.kind, sample_rate or corpus.sample_rate()
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise ValueError(f"the name '{name}' of a corpus may hold small letters, digits and '_' only")
    if not LOWEST_RATE <= sample_rate <= HIGHEST_RATE:
        raise ValueError(f"--sample-rate {sample_rate} is outside {LOWEST_RATE} to {HIGHEST_RATE} Hz")
    folder = store.corpus_folder(root, name, sample_rate)
    mark = store.fingerprint(corpus, sample_rate)
    if _is_current(folder, mark, overwrite):
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    staging = folder.with_name(f".{folder.name}-{mark}-tracks")
    for stale in folder.parent.glob(f".{folder.name}-*"):
        if stale != staging:
            shutil.rmtree(stale)
    staging.mkdir(exist_ok=True)
    with _pool(workers) as ordered_map:
        tracks = corpus.tracks(partial(_watched, f"{name}, reading", ordered_map))
        if not tracks:
            raise ValueError(f"the corpus '{name}' has no tracks")
        paths = _stage(corpus, tracks, sample_rate, staging, ordered_map, f"{name}, {sample_rate} Hz")
    _write(folder, name, sample_rate, mark, corpus, tracks, paths)
    shutil.rmtree(staging)
    return folder


def _is_current(folder: Path, mark: str, overwrite: bool) -> bool:
    try:
        metadata = store.Metadata.load(folder)
    except FileNotFoundError:
        return False
    except ValueError:
        if overwrite:
            return False
        raise
    if metadata.fingerprint == mark:
        return True
    if overwrite:
        return False
    raise ValueError(
        f"{folder} was built from other options or another input ({metadata.options}): "
        "give --overwrite to replace it, or --name to keep both"
    )


class _pool:
    """`with _pool(workers) as ordered_map`: a map over processes that keeps the order and can be left early."""

    def __init__(self, workers: int):
        self._workers = workers or os.cpu_count() or 1

    def __enter__(self) -> Callable[[Callable, Iterable], Iterable]:
        # Spawned, not forked: the caller may hold threads of jax.
        spawn = multiprocessing.get_context("spawn")
        self._executor = ProcessPoolExecutor(self._workers, spawn, initializer=end_with_parent)
        return partial(_bounded_map, self._executor, 4 * self._workers)

    def __exit__(self, *_: object) -> None:
        self._executor.shutdown(cancel_futures=True)


def _bounded_map(executor: ProcessPoolExecutor, ahead: int, function: Callable, items: Iterable) -> Iterator:
    waiting, items = [], iter(items)
    for item in items:
        waiting.append(executor.submit(function, item))
        if len(waiting) > ahead:
            yield waiting.pop(0).result()
    while waiting:
        yield waiting.pop(0).result()


def _watched(label: str, ordered_map: Callable, function: Callable, items: Iterable) -> Iterator:
    with Progress(label, 0, unit="score") as progress:
        yield from progress.over(ordered_map(function, items))


def _stage(
    corpus: CorpusBuilder, tracks: list[Track], sample_rate: int, staging: Path, ordered_map, label: str
) -> list[Path]:
    """Load every track into a file of `staging`, those left by a killed run excepted; the files, in order."""
    paths = [staging / f"{number:05d}.npz" for number in range(len(tracks))]
    missing = [(track, path) for track, path in zip(tracks, paths, strict=True) if not path.exists()]
    with Progress(label, len(tracks), initial=len(tracks) - len(missing), unit="track") as progress:
        said = []
        for messages in ordered_map(partial(_stage_track, corpus, sample_rate), missing):
            said += messages
            progress.advance()
    if said:
        warnings.warn(f"{len(said)} of {len(tracks)} tracks are not quite clean; the first: {said[0]}", stacklevel=2)
    return paths


def _stage_track(corpus: CorpusBuilder, sample_rate: int, item: tuple[Track, Path]) -> list[str]:
    """Load one track into a file; what was remarked on while it was loaded, at most one thing."""
    track, path = item
    with warnings.catch_warnings(record=True) as remarks:
        warnings.simplefilter("always")
        stems = corpus.load(track, sample_rate)
    if len({stem.audio.shape for stem in stems}) != 1:
        raise ValueError(f"the stems of '{track.name}' differ in length or channels: {[s.audio.shape for s in stems]}")
    content: dict[str, Any] = {"names": [stem.name for stem in stems], "parents": [stem.parent for stem in stems]}
    for number, stem in enumerate(stems):
        content |= {f"audio{number}": stem.audio, f"notes{number}": stem.notes}
        if stem.frames:
            content |= {f"frames{number}": frames.pack(stem.frames), f"frame_rate{number}": stem.frame_rate}
    unfinished = path.with_suffix(f".{os.getpid()}.part")
    with unfinished.open("wb") as file:
        np.savez(file, **content)
    os.replace(unfinished, path)
    return [f"{track.name}: {remark.message}" for remark in remarks if remark.category is UserWarning][:1]


def _staged(path: Path) -> list[Stem]:
    found = []
    with np.load(path) as content:
        for number, (name, parent) in enumerate(zip(content["names"], content["parents"], strict=True)):
            stem = Stem(str(name), content[f"audio{number}"], str(parent), content[f"notes{number}"])
            if f"frames{number}" in content:
                seen, rate = frames.unpack(content[f"frames{number}"].tobytes()), float(content[f"frame_rate{number}"])
                stem = dataclasses.replace(stem, frames=tuple(seen), frame_rate=rate)
            found.append(stem)
    return found


def _form(path: Path) -> tuple[int, bool]:
    """Channels of a staged track, and whether any of its stems has frames."""
    with np.load(path) as content:
        return content["audio0"].shape[1], any(name.startswith("frames") for name in content.files)


def _write(
    folder: Path, name: str, sample_rate: int, mark: str, corpus: CorpusBuilder, tracks: list[Track], paths: list[Path]
):
    forms = [_form(path) for path in paths]
    channels, with_frames = max(channels for channels, _ in forms), any(has_frames for _, has_frames in forms)
    options = {field.name: str(getattr(corpus, field.name)) for field in dataclasses.fields(corpus)}  # pyright: ignore

    def records_of(split: str) -> Iterator[list[store.Record]]:
        for track, path in zip(tracks, paths, strict=True):
            if track.split == split:
                stems = [dataclasses.replace(stem, audio=fit_channels(stem.audio, channels)) for stem in _staged(path)]
                yield store.segments(track.name, stems, sample_rate, with_frames=with_frames)
                progress.advance()

    present = [split for split in SPLITS if any(track.split == split for track in tracks)]
    by_split = {split: records_of(split) for split in present}
    with Progress(f"{name}, writing", len(tracks), unit="track") as progress:
        about: dict[str, Any] = {
            "fingerprint": mark,
            "options": {"kind": corpus.kind, **options},
            "with_frames": with_frames,
        }
        store.write(folder, name, sample_rate, channels, by_split, **about)


def built_in_corpus(name: str) -> CorpusBuilder | None:
    """The corpus `name` as `schema.BUILT_IN` describes it, if it is one that needs no source."""
    if name not in BUILT_IN:
        return None
    kind, options = BUILT_IN[name]
    return {Chamber.kind: Chamber, Band.kind: Band}[kind](**options)


AnyCorpus = (
    Annotated[Chamber, tyro.conf.subcommand("chamber")]
    | Annotated[Band, tyro.conf.subcommand("band")]
    | Annotated[Musdb18, tyro.conf.subcommand("musdb18")]
    | Annotated[Urmp, tyro.conf.subcommand("urmp")]
    | Annotated[Solos, tyro.conf.subcommand("solos")]
    | Annotated[Dsd100, tyro.conf.subcommand("dsd100")]
    | Annotated[Medleydb, tyro.conf.subcommand("medleydb")]
    | Annotated[Ikala, tyro.conf.subcommand("ikala")]
    | Annotated[Ccmixter, tyro.conf.subcommand("ccmixter")]
    | Annotated[Folder, tyro.conf.subcommand("folder")]
)


@dataclasses.dataclass(frozen=True)
class Prepare:
    """Build a corpus for training: OUT/NAME/RATE. A killed run is continued by the same command.

    Attributes:
      corpus: which one, and its own options.
      out: folder that holds all prepared corpora.
      name: what configs call it; its kind if left out.
      sample_rate: Hz to store; the corpus's own, at most 44,100, if left out.
      overwrite: replace a corpus of this name and rate that was made from other options or another input.
      workers: processes; as many as there are cores if left out.
    """

    corpus: AnyCorpus
    out: Path = DEFAULT_ROOT
    name: str = ""
    sample_rate: int = 0
    overwrite: bool = False
    workers: int = 0


def main() -> None:
    options = console.parse(
        Prepare,
        "python -m data_pipelines.prepare",
        "python -m data_pipelines.prepare chamber --out data --sample-rate 22050",
        config=(tyro.conf.CascadeSubcommandArgs, tyro.conf.OmitSubcommandPrefixes, tyro.conf.OmitArgPrefixes),
    )
    folder = build(
        options.corpus,
        options.out,
        name=options.name,
        sample_rate=options.sample_rate,
        overwrite=options.overwrite,
        workers=options.workers,
    )
    print(folder)


if __name__ == "__main__":
    console.run(main)
