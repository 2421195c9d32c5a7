"""Complete checks of prepared corpora: of their shards against the digests in `metadata.json`, or record by record."""

from collections.abc import Iterator
from pathlib import Path

from data_pipelines.checks import Check, check
from data_pipelines.files import sha256
from data_pipelines.prepared import records, store
from data_pipelines.prepared.commands import prepare_command
from data_pipelines.prepared.store import Metadata
from data_pipelines.schema import AUDIO_DTYPE
from data_pipelines.video import features


def corpora_below(path: Path) -> list[Path]:
    """The folders of the prepared corpora in `ROOT/NAME/RATE`, `ROOT/NAME` or `ROOT`, complete or not."""
    if (path / "metadata.json").is_file() or (path.name.isdigit() and list(path.glob("*.array_record-*"))):
        return [path]
    folders = [*path.glob("*"), *path.glob("*/*")]
    return sorted(
        folder
        for folder in folders
        if folder.is_dir() and folder.name.isdigit() and not folder.parent.name.startswith(".")
    )


def checks_of_corpus(folder: Path) -> Iterator[Check]:
    """Check a prepared corpus: its metadata, every shard, and the features of its frames."""
    remedy = f"run {prepare_command(folder.parents[1], folder.parent.name, int(folder.name))} --overwrite"
    try:
        metadata = Metadata.load(folder)
    except FileNotFoundError:
        yield Check(str(folder), f"it has no metadata.json: {remedy}")
        return
    except ValueError as error:
        yield Check(str(folder), str(error))
        return
    yield Check(str(folder / "metadata.json"))
    present = [path for split in metadata.index for path in store.shards(folder, metadata.name, split)]
    for name in sorted({*metadata.digests, *(Path(path).name for path in present)}):
        yield check(str(folder / name), lambda name=name: _check_shard(folder / name, metadata, remedy))
    for split in metadata.index:
        yield check(f"{folder}, records of {split}", lambda split=split: _check_split(folder, metadata, split, remedy))
    for name in sorted(path.name for path in (folder / "features").glob("[!.]*")):
        yield check(str(features.features_folder(folder, name)), lambda name=name: _check_features(folder, name))


def _check_shard(path: Path, metadata: Metadata, remedy: str) -> str | None:
    if not path.is_file():
        raise ValueError(f"the file is missing: {remedy}")
    if not metadata.digests:
        return "no digest, since the corpus was prepared by an earlier version"
    if path.name not in metadata.digests:
        raise ValueError(f"the file does not belong to the corpus: delete it, or {remedy}")
    if sha256(path) != metadata.digests[path.name]:
        raise ValueError(f"its SHA-256 is not the one in metadata.json: {remedy}")
    return None


def _check_split(folder: Path, metadata: Metadata, split: str, remedy: str) -> str:
    """Check that the records of a split are those of the index; without digests, read each of them completely."""
    try:
        source = records.Records(store.shards(folder, metadata.name, split))
        size, width = metadata.segment_samples, AUDIO_DTYPE().itemsize * metadata.channels
        expected = 0
        for row in metadata.index[split]:
            if row.first != expected:
                raise ValueError(f"the index has a gap before '{row.stem}' of '{row.track}'")
            expected += -(-row.samples // size)
        if len(source) != expected:
            raise ValueError(f"there are {len(source)} of {expected} records")
        if not metadata.digests:
            for row in metadata.index[split]:
                for number in range(-(-row.samples // size)):
                    fields = records.fields(source[row.first + number])
                    names = tuple(fields[key].decode() for key in ("track", "stem"))
                    samples = min(size, row.samples - number * size)
                    position = records.integer(fields["segment"])
                    if (*names, position, len(fields["audio"])) != (row.track, row.stem, number, samples * width):
                        raise ValueError(f"record {row.first + number} is not that of the index")
    except (KeyError, IndexError, UnicodeDecodeError, ValueError) as error:
        raise ValueError(f"{error}: {remedy}") from None
    return f"{expected} records" + ("" if metadata.digests else ", each of which was read")


def _check_features(folder: Path, name: str) -> str:
    stored = features.read(folder, name)
    for (_, track, stem), (first, count) in stored.index.items():
        if not 0 <= first < first + count <= len(stored.rows):
            remedy = f"delete {features.features_folder(folder, name)} and compute the features again"
            raise ValueError(f"the rows of '{stem}' in '{track}' lie outside of the file: {remedy}")
    return f"{len(stored.rows)} rows"
