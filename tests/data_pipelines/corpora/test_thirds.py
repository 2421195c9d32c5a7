"""Thirds of the tracks as in the published code of Stoller et al. 2018: their size is `len(tracks) // 3`."""

from collections import Counter
from pathlib import Path

import pytest

from data_pipelines.corpora.thirds import split_in_thirds


@pytest.mark.parametrize(
    ("count", "sizes"),
    [(3, (1, 1, 1)), (4, (1, 1, 2)), (5, (1, 1, 3)), (50, (16, 16, 18)), (122, (40, 40, 42)), (252, (84,) * 3)],
)
def test_sizes(count, sizes):
    tracks = split_in_thirds({f"{number:03d}": number for number in range(count)}, Path())
    assert Counter(track.split for track in tracks) == dict(zip(("train", "validation", "test"), sizes, strict=True))
    assert [track.source for track in tracks] == list(range(count))


def test_tracks_are_sorted_by_name():
    tracks = split_in_thirds({"c": 3, "a": 1, "b": 2}, Path())
    assert [(track.name, track.split, track.source) for track in tracks] == [
        ("a", "train", 1),
        ("b", "validation", 2),
        ("c", "test", 3),
    ]


@pytest.mark.parametrize("count", [0, 1, 2])
def test_too_few_tracks(count):
    with pytest.raises(ValueError, match=rf"some/where holds {count} tracks: 3 or more are needed, a third of them"):
        split_in_thirds({str(number): number for number in range(count)}, Path("some/where"))
