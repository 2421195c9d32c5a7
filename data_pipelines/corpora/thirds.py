"""The split of Stoller et al. 2018 for corpora that come without one: thirds of the tracks in their order."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data_pipelines.corpora.base import Track
from data_pipelines.schema import SPLITS


def split_in_thirds(sources: Mapping[str, Any], root: Path) -> list[Track]:
    """Tracks in the order of their names: a third for training, one for validation, the others for testing.

    Thirds are rounded down, as in the published code, so that the remainder is in the test split: 50 tracks are 16, 16
    and 18.

    Args:
      sources: what each track is loaded from, by its name.
      root: the corpus, for the message.

    Raises:
      ValueError: if there are fewer than three tracks.
    """
    size = len(sources) // 3
    if not size:
        raise ValueError(f"{root} holds {len(sources)} tracks: 3 or more are needed, a third of them for each split")
    return [Track(name, SPLITS[min(place // size, 2)], sources[name]) for place, name in enumerate(sorted(sources))]
