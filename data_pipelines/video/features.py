"""What a frozen network makes of the frames of a corpus, computed once: `CORPUS FOLDER/features/NAME/`.

    index.json      rate, dims, what it was made by, and where the rows of each stem of each track are
    features.f32    float32 `[rows, dims]`, mapped and not read

Row i of a stem stands for the time i / rate, from the start of its track. The features lie in the corpus's folder: a
corpus that is prepared anew has none.
"""

import dataclasses
import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np

# Raised when the stored form changes.
FORMAT = 1
_ROWS = "features.f32"


def features_folder(corpus: Path, name: str) -> Path:
    """Where the features `name` of the corpus in a folder are."""
    return corpus / "features" / name


@dataclasses.dataclass(frozen=True, eq=False)
class FrameFeatures:
    """Cached features of a corpus, ready to be looked up.

    Attributes:
      rate: rows per second.
      mark: what they were made by, as the writer said.
      index: first row and number of rows by split, track and stem.
      rows: float32 `[rows, dims]`.
    """

    rate: float
    mark: str
    index: dict[tuple[str, str, str], tuple[int, int]]
    rows: np.ndarray

    def at(self, split: str, track: str, stem: str, times: np.ndarray) -> np.ndarray:
        """Rows nearest to `times` (s), float32 `[n, dims]`; beyond the end the last one.

        Raises:
          KeyError: if there are none of this stem.
        """
        first, count = self.index[split, track, stem]
        return self.rows[first + np.clip(np.rint(np.asarray(times) * self.rate).astype(int), 0, count - 1)]


def write(
    folder: Path,
    name: str,
    rate_per_second: float,
    dims: int,
    items: Iterable[tuple[str, str, str, np.ndarray]],
    mark: str,
) -> Path:
    """Write features, whole or not at all, in place of those of this name; their folder.

    Args:
      folder: of the corpus.
      items: split, track, stem and rows `[n, dims]` at 0, 1 / rate, … s of each stem of each track.
      mark: what they are made by.

    Raises:
      ValueError: if rows have other dims or are none.
    """
    target = features_folder(folder, name)
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
    content = {"format": FORMAT, "rate": rate_per_second, "dims": dims, "mark": mark, "index": index}
    (final / "index.json").write_text(json.dumps(content))
    if target.exists():
        os.replace(target, scratch / "old")
    os.replace(final, target)
    shutil.rmtree(scratch)
    return target


def read(folder: Path, name: str) -> FrameFeatures:
    """The features `name` of the corpus in `folder`.

    Raises:
      FileNotFoundError: if there are none.
      ValueError: if they are damaged or of another format.
    """
    target = features_folder(folder, name)
    if not (target / "index.json").is_file():
        raise FileNotFoundError(target)
    try:
        content = json.loads((target / "index.json").read_text())
        if content["format"] != FORMAT:
            raise ValueError("another format")
        index = {(split, track, stem): (first, count) for split, track, stem, first, count in content["index"]}
        total = sum(count for _, count in index.values())
        rows = np.memmap(target / _ROWS, np.dtype("<f4"), "r").reshape(total, content["dims"])
        return FrameFeatures(content["rate"], content["mark"], index, rows)
    except (ValueError, TypeError, KeyError, OSError) as error:
        raise ValueError(f"{target} cannot be read ({error}): remove it and make the features again") from None
