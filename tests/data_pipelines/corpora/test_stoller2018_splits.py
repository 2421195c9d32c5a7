"""The published splits of Stoller et al. 2018 on folders with all of their songs, and thirds for all other songs."""

from collections import Counter
from pathlib import Path

import pytest

from data_pipelines.corpora.ccmixter import Ccmixter
from data_pipelines.corpora.dsd100 import Dsd100
from data_pipelines.corpora.medleydb import Medleydb
from data_pipelines.corpora.stoller2018 import published_or_thirds, published_songs, split_in_thirds
from data_pipelines.prepared import store
from data_pipelines.schema import FOUR_STEMS

BUILDERS = {"dsd100": Dsd100, "medleydb": Medleydb, "ccmixter": Ccmixter}
# Songs for training, validation and testing, as the published code cuts its lists.
SIZES = {"dsd100": (50, 25, 25), "medleydb": (40, 40, 42), "ccmixter": (16, 16, 18)}


def write_empty_songs(root: Path, corpus: str) -> Path:
    """Write the published layout of a corpus, with all songs of the published list and without content."""
    for song in published_songs(corpus):
        if corpus == "dsd100":
            part = "Dev" if song.split == "train" else "Test"
            paths = [root / "Sources" / part / song.track / f"{stem}.wav" for stem in FOUR_STEMS]
        elif corpus == "ccmixter":
            paths = [root / song.track / f"source-0{number}.wav" for number in (1, 2)]
        else:
            folder = root / "Audio" / song.track
            paths = [folder / f"{song.track}_METADATA.yaml", folder / f"{song.track}_STEMS" / "stem.wav"]
        for path in paths:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
            if path.suffix == ".yaml":
                path.write_text("stems: {S01: {filename: stem.wav, instrument: piano}}")
    return root


@pytest.mark.parametrize("corpus", BUILDERS)
def test_the_songs_have_their_published_splits(corpus, tmp_path):
    songs = published_songs(corpus)
    counts = Counter(song.split for song in songs)
    assert tuple(counts[split] for split in ("train", "validation", "test")) == SIZES[corpus]
    tracks = BUILDERS[corpus](write_empty_songs(tmp_path, corpus)).tracks(map)
    assert {track.name: track.split for track in tracks} == {song.track: song.split for song in songs}
    assert len(tracks) == len(songs)


@pytest.mark.parametrize("corpus", BUILDERS)
def test_corpora_with_the_earlier_splits_are_not_taken_for_these(corpus, tmp_path, monkeypatch):
    """The earlier splits, of sorted names, had version 1."""
    builder = BUILDERS[corpus](write_empty_songs(tmp_path, corpus))
    now = store.fingerprint(builder, 8192)
    monkeypatch.setattr(BUILDERS[corpus], "version", 1)
    assert store.fingerprint(builder, 8192) != now


def test_dsd100_validates_on_songs_from_all_over_its_test_folder():
    """Before the lists were used, the songs 001 to 025 were the validation split."""
    numbers = [int(song.track[:3]) for song in published_songs("dsd100") if song.split == "validation"]
    assert numbers == [*range(1, 13), *range(40, 51), 31, 32]


def test_songs_without_voice():
    """15 of the first 40 songs of MedleyDB have no voice, and 20 songs of its test split have one."""
    counts = Counter((song.split, song.has_voice) for song in published_songs("medleydb"))
    assert (counts["train", False], counts["test", True]) == (15, 20)
    assert all(song.has_voice for corpus in ("dsd100", "ccmixter") for song in published_songs(corpus))
    assert published_songs("ikala") == []


def test_songs_that_are_not_listed_are_split_in_thirds():
    first, *_, last = published_songs("ccmixter")
    sources = dict.fromkeys(["b", "a", last.track, "d", "c", first.track])
    with pytest.warns(UserWarning, match="root: 'a' and 3 other songs are not in the published list of Stoller et al."):
        tracks = published_or_thirds("ccmixter", sources, Path("root"))
    splits = [(track.name, track.split) for track in tracks]
    assert splits[:2] == [(first.track, "train"), (last.track, "test")]
    assert splits[2:] == [("a", "train"), ("b", "validation"), ("c", "test"), ("d", "test")]


def test_a_single_song_beside_listed_ones_is_a_test_song():
    listed = published_songs("ccmixter")[0].track
    with pytest.warns(UserWarning, match="root: 'z' is not in the published list"):
        tracks = published_or_thirds("ccmixter", {listed: 0, "z": 1}, Path("root"))
    assert [(track.name, track.split) for track in tracks] == [(listed, "train"), ("z", "test")]


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
