"""Prepare a corpus: `qsep prepare chamber --out data --sample-rate 22050`.

The same command continues a killed run, because each finished track is kept in a staging folder. A corpus appears under
its name only when it is complete. It stores a fingerprint of its options and its input, so that the same command does
nothing as long as these are unchanged; with `--overwrite`, it prepares the corpus again in any case.
"""

import contextlib
import dataclasses
import re
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import tyro

from data_pipelines import console
from data_pipelines.audio.reading import HIGHEST_RATE, LOWEST_RATE
from data_pipelines.audio.samples import fit_channels
from data_pipelines.checks import Check
from data_pipelines.corpora import pitch_shift
from data_pipelines.corpora.band import Band
from data_pipelines.corpora.base import CorpusBuilder, Track
from data_pipelines.corpora.ccmixter import Ccmixter
from data_pipelines.corpora.chamber import Chamber
from data_pipelines.corpora.dsd100 import Dsd100
from data_pipelines.corpora.folder import Folder
from data_pipelines.corpora.ikala import Ikala
from data_pipelines.corpora.medleydb import Medleydb
from data_pipelines.corpora.musdb18 import Musdb18
from data_pipelines.corpora.solos import Solos
from data_pipelines.corpora.urmp import Urmp
from data_pipelines.files import locked
from data_pipelines.prepared import store
from data_pipelines.prepared.staging import channels_and_video, read_staged, stage_tracks, worker_pool
from data_pipelines.prepared.verify import checks_of_corpus, corpora_below
from data_pipelines.progress import Progress
from data_pipelines.schema import BUILT_IN, SPLITS, check_track_name

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
    """Prepare `corpus` under `root`, unless it is there and up to date; return its folder.

    Args:
      name: name of the prepared corpus; by default its kind.
      sample_rate: sample rate in Hz to store; by default that of the source, at most 44,100.
      overwrite: prepare the corpus again and replace the existing copy of this name and sample rate, also if its
        options and its input are unchanged. Every track is loaded again, except for those that a killed run with
        `overwrite` has loaded.
      workers: number of processes that load tracks; by default one per core.

    Raises:
      ValueError: if the input is missing or unreadable, or if a corpus of this name was prepared from other options or
        another input and `overwrite` is not set.
    """
    name, sample_rate = name or corpus.kind, sample_rate or corpus.sample_rate()
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise ValueError(
            f"the name '{name}' of a corpus must hold only lower-case letters, digits and '_', and begin with a letter"
        )
    if not LOWEST_RATE <= sample_rate <= HIGHEST_RATE:
        raise ValueError(f"--sample-rate {sample_rate} is outside {LOWEST_RATE} to {HIGHEST_RATE} Hz")
    folder = store.corpus_folder(root, name, sample_rate)
    fingerprint = store.fingerprint(corpus, sample_rate)
    if not overwrite and _is_current(folder, fingerprint):
        return folder
    with _alone(folder):
        # Another process may have prepared the corpus meanwhile.
        if overwrite or not _is_current(folder, fingerprint):
            _build(folder, name, sample_rate, fingerprint, corpus, overwrite, workers)
    return folder


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Let no other process prepare the corpus in `folder`; wait for one that is at work, and say so."""
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(locked(folder, wait=False))
        except ValueError as error:
            print(f"waiting, since {error}", file=sys.stderr, flush=True)
            stack.enter_context(locked(folder))
        yield


def _build(
    folder: Path,
    name: str,
    sample_rate: int,
    fingerprint: str,
    corpus: CorpusBuilder,
    overwrite: bool,
    workers: int,
) -> None:
    """Prepare a corpus in `folder`, from the tracks that a killed run has loaded and the others."""
    # The tracks of a killed run without `overwrite` may be older than a change that the fingerprint does not show.
    staging = folder.with_name(f".{folder.name}-{fingerprint}-{'overwrite-' if overwrite else ''}tracks")
    for stale in folder.parent.glob(f".{folder.name}-*"):
        if stale != staging:
            shutil.rmtree(stale)
    staging.mkdir(exist_ok=True)
    with worker_pool(workers) as ordered_map:
        tracks = corpus.tracks(partial(_with_progress, f"{name}, reading", ordered_map))
        if not tracks:
            raise ValueError(f"the corpus '{name}' has no tracks")
        for track in tracks:
            for part in track.name.split("/"):  # `chamber` names its tracks by the path of the score
                check_track_name(part, "the name of a track")
        paths = stage_tracks(corpus, tracks, sample_rate, staging, ordered_map, f"{name}, {sample_rate} Hz")
    _write(folder, name, sample_rate, fingerprint, corpus, tracks, paths)
    # A later run with `overwrite` must not take these tracks, even if this one is killed while it deletes them.
    shutil.rmtree(staging.rename(staging.with_name(f"{staging.name}-done")))


def _is_current(folder: Path, fingerprint: str) -> bool:
    """Whether the folder holds a corpus with this fingerprint.

    Raises:
      ValueError: if it holds a corpus with another fingerprint or a damaged one.
    """
    try:
        metadata = store.Metadata.load(folder)
    except FileNotFoundError:
        return False
    if metadata.fingerprint == fingerprint:
        return True
    raise ValueError(
        f"{folder} was prepared from other options or another input ({metadata.options}): "
        "give --overwrite to replace it, or --name to keep both"
    )


def _with_progress(label: str, ordered_map: Callable, function: Callable, items: Iterable) -> Iterator:
    with Progress(label, 0, unit="score") as progress:
        yield from progress.over(ordered_map(function, items))


def _write(
    folder: Path,
    name: str,
    sample_rate: int,
    fingerprint: str,
    corpus: CorpusBuilder,
    tracks: list[Track],
    paths: list[Path],
) -> None:
    """Write the staged tracks as a corpus, all with the largest number of channels of any track."""
    forms = [channels_and_video(path) for path in paths]
    channels, with_frames = max(channels for channels, _ in forms), any(has_frames for _, has_frames in forms)
    options = {field.name: str(getattr(corpus, field.name)) for field in dataclasses.fields(corpus)}  # pyright: ignore
    options = {"kind": corpus.kind, **options, **pitch_shift.facts(options)}

    def records_of(split: str) -> Iterator[list[store.Record]]:
        for track, path in zip(tracks, paths, strict=True):
            if track.split == split:
                stems = read_staged(path)
                stems = [dataclasses.replace(stem, audio=fit_channels(stem.audio, channels)) for stem in stems]
                yield store.segments(track.name, stems, sample_rate, with_frames=with_frames)
                progress.advance()

    present = [split for split in SPLITS if any(track.split == split for track in tracks)]
    by_split = {split: records_of(split) for split in present}
    with Progress(f"{name}, writing", len(tracks), unit="track") as progress:
        store.write(
            folder,
            name,
            sample_rate,
            channels,
            by_split,
            fingerprint=fingerprint,
            options=options,
            with_frames=with_frames,
        )


def built_in_corpus(name: str) -> CorpusBuilder | None:
    """The built-in corpus `name` with its options, or None if `schema.BUILT_IN` does not list this name."""
    if name not in BUILT_IN:
        return None
    kind, options = BUILT_IN[name]
    return {Chamber.kind: Chamber, Band.kind: Band}[kind](**options)


@dataclasses.dataclass(frozen=True)
class UrmpOptions(Urmp):
    __doc__ = Urmp.__doc__

    training_tracks: Annotated[Literal["all", "published"], tyro.conf.arg(name="tracks")] = dataclasses.field(
        default="all", metadata={"added": True}
    )


AnyCorpus = (
    Annotated[Chamber, tyro.conf.subcommand("chamber")]
    | Annotated[Band, tyro.conf.subcommand("band")]
    | Annotated[Musdb18, tyro.conf.subcommand("musdb18")]
    | Annotated[UrmpOptions, tyro.conf.subcommand("urmp")]
    | Annotated[Solos, tyro.conf.subcommand("solos")]
    | Annotated[Dsd100, tyro.conf.subcommand("dsd100")]
    | Annotated[Medleydb, tyro.conf.subcommand("medleydb")]
    | Annotated[Ikala, tyro.conf.subcommand("ikala")]
    | Annotated[Ccmixter, tyro.conf.subcommand("ccmixter")]
    | Annotated[Folder, tyro.conf.subcommand("folder")]
)


# A corpus is a sub-command, whose options stand before or after those of all corpora.
@tyro.conf.configure(tyro.conf.CascadeSubcommandArgs, tyro.conf.OmitSubcommandPrefixes, tyro.conf.OmitArgPrefixes)
@dataclasses.dataclass(frozen=True)
class Prepare:
    """Prepare a corpus for training in OUT/NAME/RATE. The same command continues a killed run.

    Attributes:
      corpus: Kind of corpus, with its own options.
      out: Folder of all prepared corpora.
      name: Name of the corpus in configs; its kind if left out.
      sample_rate: Sample rate in Hz to store; that of the source, at most 44,100, if left out.
      overwrite: Prepare the corpus again and replace an existing copy of this name and sample rate, also if its options
        and its input are unchanged.
      workers: Number of processes; one per core if left out.
      verify: Check the corpora in OUT instead, by the digests of their files; `qsep prepare --verify chamber` checks
        the corpus of this name only. The exit code is 2 if one is damaged.
    """

    corpus: AnyCorpus
    out: Path = DEFAULT_ROOT
    name: str = ""
    sample_rate: int = 0
    overwrite: bool = False
    workers: int = 0
    verify: bool = False


@dataclasses.dataclass(frozen=True)
class Verify:
    """Check prepared corpora completely, by the digests of their files. The exit code is 2 if one is damaged.

    Attributes:
      corpora: Names of the corpora; all if left out.
      out: Folder of all prepared corpora.
      name: Name of a corpus, as with `qsep prepare KIND --name NAME`.
      sample_rate: Sample rate in Hz of the copies to check; all if left out.
      verify: Check instead of preparing.
    """

    corpora: tyro.conf.Positional[tuple[str, ...]] = ()
    out: Path = DEFAULT_ROOT
    name: str = ""
    sample_rate: int = 0
    verify: bool = True


def verify(root: Path, names: tuple[str, ...], sample_rate: int = 0) -> Iterator[Check]:
    """Check the prepared corpora of these names, or all, at one sample rate (Hz) or all.

    Raises:
      ValueError: if there is none.
    """
    folders = [
        folder
        for folder in corpora_below(root)
        if (not names or folder.parent.name in names) and sample_rate in (0, int(folder.name))
    ]
    missing = sorted({*names} - {folder.parent.name for folder in folders})
    if missing or not folders:
        raise ValueError(f"there is no prepared corpus {' or '.join(missing)} in {root}: give --out".replace("  ", " "))
    for folder in folders:
        yield from checks_of_corpus(folder)


def main() -> None:
    if {"--verify", "--help", "-h"} & {*sys.argv[1:]} == {"--verify"}:
        options = console.parse(Verify, "qsep prepare", "qsep prepare --verify --out data")
        names = tuple(dict.fromkeys([*options.corpora, *filter(None, [options.name])]))
        console.report(verify(options.out, names, options.sample_rate))
        return
    options = console.parse(Prepare, "qsep prepare", "qsep prepare chamber --out data --sample-rate 22050")
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
