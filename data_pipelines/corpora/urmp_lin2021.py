"""The published lists of URMP tracks on which Lin et al. 2021 train and test."""

import csv
import dataclasses
from importlib import resources


@dataclasses.dataclass(frozen=True)
class PublishedPair:
    """A test mixture of Lin et al. 2021: two tracks of one song, each with the track of its query."""

    instrument_a: str
    track_a: str
    query_track_a: str
    instrument_b: str
    track_b: str
    query_track_b: str


def published_pairs() -> list[PublishedPair]:
    """The 32 test pairs of Lin et al. 2021 with their queries (`data/urmp/testset` of the published code)."""
    names = [field.name for field in dataclasses.fields(PublishedPair)]
    return [PublishedPair(**{name: row[name] for name in names}) for row in _read("urmp_lin2021.csv")]


def published_train_tracks() -> dict[str, str]:
    """The 55 training tracks of Lin et al. 2021, each with its instrument (`data/urmp/*/train.lst`)."""
    return {row["track"]: row["instrument"] for row in _read("urmp_lin2021_train.csv")}


def _read(name: str) -> list[dict[str, str]]:
    text = resources.files("data_pipelines.corpora").joinpath(name).read_text()
    return list(csv.DictReader(text.splitlines()))
