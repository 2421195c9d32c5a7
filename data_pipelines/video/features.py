"""Features of the frames of a corpus, computed once by a frozen network and stored in `CORPUS FOLDER/features/NAME/`.

    index.json      rows per second, dimensions, the network, and the rows of each stem of each track
    features.f32    float32 `[rows, D]`, memory-mapped when it is read

Row i of a stem belongs to the time i / rate from the start of its track. The features are stored in the folder of the
corpus and are deleted with it when the corpus is prepared again.
"""

import dataclasses
import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from data_pipelines.files import locked, read_json, write_json

# Increase this number when the stored format changes.
FORMAT = 1
_ROWS = "features.f32"


def features_folder(corpus: Path, name: str) -> Path:
    """The folder of the features `name` of the corpus in the folder `corpus`."""
    return corpus / "features" / name


@dataclasses.dataclass(frozen=True, eq=False)
class FrameFeatures:
    """The stored features of a corpus.

    Attributes:
      rate: Rows per second.
      mark: Identifier of the network that computed them, as passed to `write`.
      index: First row and number of rows by split, track and stem.
      rows: Features, float32 `[rows, D]`.
    """

    rate: float
    mark: str
    index: dict[tuple[str, str, str], tuple[int, int]]
    rows: np.ndarray

    def at(self, split: str, track: str, stem: str, times: np.ndarray) -> np.ndarray:
        """The rows nearest to `times` (s), float32 `[n, D]`; beyond the end, the last row.

        Raises:
          KeyError: if there are no features of this stem.
        """
        first, count = self.index[split, track, stem]
        return self.rows[first + np.clip(np.rint(np.asarray(times) * self.rate).astype(int), 0, count - 1)]


def write(
    folder: Path,
    name: str,
    rate: float,
    dims: int,
    items: Iterable[tuple[str, str, str, np.ndarray]],
    mark: str,
) -> Path:
    """Write features, which appear only when they are complete, in place of older ones; return their folder.

    Args:
      folder: folder of the corpus.
      name: name of the features.
      rate: rows per second.
      dims: dimensions D of a row.
      items: split, track, stem and rows `[n, D]` of each stem of each track, at the times 0, 1 / rate, … s.
      mark: identifier of the network that computed them.

    Raises:
      ValueError: if the rows of a stem have other dimensions, or there are none, or if another process writes them.
    """
    target = features_folder(folder, name)
    with locked(target, wait=False):
        _write(target, rate, dims, items, mark)
    return target


def _write(target: Path, rate: float, dims: int, items: Iterable[tuple[str, str, str, np.ndarray]], mark: str) -> None:
    """Write features to a hidden folder beside `target`, and move it there when it is complete."""
    name = target.name
    scratch = target.with_name(f".{name}-writing")
    shutil.rmtree(scratch, ignore_errors=True)
    (final := scratch / "final").mkdir(parents=True)
    index, total = [], 0
    with (final / _ROWS).open("wb") as file:
        for split, track, stem, rows in items:
            if rows.ndim != 2 or rows.shape[1] != dims or not len(rows):
                raise ValueError(f"features of '{stem}' in '{track}' are {list(rows.shape)}, not [n, {dims}]")
            file.write(np.ascontiguousarray(rows, "<f4").tobytes())
            index.append([split, track, stem, total, len(rows)])
            total += len(rows)
    content = {"format": FORMAT, "rate": rate, "dims": dims, "mark": mark, "index": index}
    write_json(final / "index.json", content, indent=None)
    if target.exists():
        target.replace(scratch / "old")
    final.replace(target)
    shutil.rmtree(scratch)


def read(folder: Path, name: str) -> FrameFeatures:
    """The features `name` of the corpus in `folder`.

    Raises:
      FileNotFoundError: if the corpus has no features of this name.
      ValueError: if they are damaged or were written in another format.
    """
    target = features_folder(folder, name)
    if not (target / "index.json").is_file():
        raise FileNotFoundError(target)
    remedy = f"delete {target} and compute the features again"
    content = read_json(target / "index.json", remedy)
    try:
        if content["format"] != FORMAT:
            raise ValueError("another format")
        index = {(split, track, stem): (first, count) for split, track, stem, first, count in content["index"]}
        total = sum(count for _, count in index.values())
        rows = np.memmap(target / _ROWS, np.dtype("<f4"), "r").reshape(total, content["dims"])
        return FrameFeatures(content["rate"], content["mark"], index, rows)
    except (ValueError, TypeError, KeyError, OSError) as error:
        raise ValueError(f"{target} cannot be read ({error}): {remedy}") from None
