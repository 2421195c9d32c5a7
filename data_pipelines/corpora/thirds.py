"""The split of Stoller et al. 2018 for corpora without a published split: thirds of the sorted tracks."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data_pipelines.corpora.base import Track
from data_pipelines.schema import SPLITS


def split_in_thirds(sources: Mapping[str, Any], root: Path) -> list[Track]:
    """The tracks sorted by name: a third for training, a third for validation, and the others for testing.

    Thirds are rounded down, as in the published code, and the remainder is in the test split: 50 tracks give 16, 16 and
    18.

    Args:
      sources: source of each track, by its name.
      root: folder of the corpus, for the error message.

    Raises:
      ValueError: if there are fewer than three tracks.
    """
    size = len(sources) // 3
    if not size:
        raise ValueError(f"{root} holds {len(sources)} tracks: 3 or more are needed, a third of them for each split")
    return [Track(name, SPLITS[min(number // size, 2)], sources[name]) for number, name in enumerate(sorted(sources))]
