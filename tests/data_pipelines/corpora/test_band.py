"""`band`: stems and sub-stems in stereo, rendered from works that `chamber` does not use."""

import dataclasses
import hashlib
import json

import numpy as np
import pytest

from data_pipelines import prepare
from data_pipelines.corpora import band
from data_pipelines.corpora.band import Band
from data_pipelines.corpora.base import Stem, Track
from data_pipelines.corpora.chamber import belongs_to_chamber
from data_pipelines.prepared import store
from data_pipelines.prepared.corpus import open_corpus
from data_pipelines.schema import BAND_PARENTS, FOUR_STEMS

RATE, SECONDS = 8000, 8
CORPUS = Band(train=2, test=1, seconds=SECONDS)


@pytest.fixture(scope="module")
def tracks() -> list[Track]:
    return CORPUS.tracks(map)


@pytest.fixture(scope="module")
def loaded(tracks) -> dict[str, dict[str, Stem]]:
    return {track.name: {stem.name: stem for stem in CORPUS.load(track, RATE)} for track in tracks}


def test_the_number_of_songs(tracks):
    splits = [track.split for track in tracks]
    assert splits.count("test") == 1
    assert len(splits) - splits.count("test") == 2


def test_no_chorale_of_chamber_is_used(tracks):
    chorales = [track for track in tracks if track.name.startswith("bach/")]
    assert chorales
    assert len(chorales) < len(tracks)
    assert not any(belongs_to_chamber(track.source) for track in chorales)


def test_works_of_chamber_are_skipped(monkeypatch):
    names_checked = []

    def first_belongs(work):
        names_checked.append(work.name)
        return len(names_checked) == 1

    monkeypatch.setattr(band, "belongs_to_chamber", first_belongs)
    names = [track.name for track in CORPUS.tracks(map)]
    assert names_checked[0] not in names
    assert set(names_checked[1:]) & set(names)


def test_a_tune_is_in_one_split(monkeypatch, tracks):
    """The split depends on the tune and not on the name of the work."""
    more_tracks = Band(train=3, test=3).tracks(map)
    splits_of_tunes = {}
    for track in more_tracks:
        splits_of_tunes.setdefault(track.source.tune, set()).add(track.split)
    assert all(len(splits) == 1 for splits in splits_of_tunes.values())
    splits = {track.name: track.split for track in more_tracks}
    assert {track.name: track.split for track in tracks}.items() <= splits.items()


def test_stems_and_sub_stems(loaded):
    for stems in loaded.values():
        assert set(FOUR_STEMS) <= set(stems)
        assert {"kick", "snare", "hihat"} <= set(stems)
        assert {name: stem.parent for name, stem in stems.items()} == {
            name: BAND_PARENTS.get(name, "") for name in stems
        }
        for stem in stems.values():
            assert stem.audio.dtype == np.int16
            assert stem.audio.shape == (round((SECONDS + 0.6) * RATE), 2)


def test_sub_stems_sum_to_their_parent(loaded):
    for stems in loaded.values():
        for parent in ("drums", "other"):
            parts = [stem.audio.astype(int) for stem in stems.values() if stem.parent == parent]
            assert parts
            rounding = (len(parts) + 1) / 2
            assert np.abs(sum(parts) - stems[parent].audio).max() <= rounding
            assert stems[parent].audio.any()


def test_mixtures_stay_within_full_scale(loaded):
    for stems in loaded.values():
        mixture = sum(stems[name].audio.astype(int) for name in FOUR_STEMS)
        assert 3000 < np.abs(mixture).max() <= 32_768 * 0.95 + len(FOUR_STEMS)


def test_instruments_are_panned_differently(loaded):
    """The channels of an instrument differ only in level."""
    for stems in loaded.values():
        ratios = []
        for name, stem in stems.items():
            left, right = stem.audio.astype(float).T
            if name not in ("drums", "other") and stem.audio.any():
                assert np.corrcoef(left, right)[0, 1] > 0.999
                ratios.append(np.sum(left**2) / np.sum(right**2))
        assert len({round(ratio, 3) for ratio in ratios}) == len(ratios)


def test_notes_are_within_the_song(loaded):
    for stems in loaded.values():
        for stem in stems.values():
            assert len(stem.notes)
            assert (np.diff(stem.notes[:, 0]) >= 0).all() or stem.name in ("piano", "organ", "strings")
            assert stem.notes[:, 0].min() >= 0
            assert stem.notes[:, 0].max() < SECONDS
            assert (stem.notes[:, 1] > stem.notes[:, 0]).all()
        drums = {name: set(stems[name].notes[:, 2]) for name in ("kick", "snare", "hihat")}
        assert drums["kick"] == {36}
        assert drums["snare"] == {38}
        assert drums["hihat"] <= {42, 46}
        assert sum(len(stems[name].notes) for name in drums) == len(stems["drums"].notes)


def test_the_seed_determines_the_song(tracks, loaded):
    name = tracks[0].name
    reloaded = {stem.name: stem for stem in CORPUS.load(tracks[0], RATE)}
    assert list(reloaded) == list(loaded[name])
    for stem, first in loaded[name].items():
        np.testing.assert_array_equal(reloaded[stem].audio, first.audio)
    other = {stem.name: stem for stem in Band(seconds=SECONDS, seed=1).load(tracks[0], RATE)}
    assert not np.array_equal(other["vocals"].audio, loaded[name]["vocals"].audio)


def test_parents_are_in_the_metadata(tracks, loaded, tmp_path, monkeypatch, in_process):
    track = tracks[0]
    monkeypatch.setattr(Band, "tracks", lambda self, ordered_map: [track])
    monkeypatch.setattr(Band, "load", lambda self, track, sample_rate: list(loaded[track.name].values()))
    folder = prepare.build(CORPUS, tmp_path, sample_rate=RATE)
    rows = {row.stem: row.parent for row in store.Metadata.load(folder).index[track.split]}
    assert rows == {name: BAND_PARENTS.get(name, "") for name in loaded[track.name]}
    corpus = open_corpus(tmp_path, "band", RATE, track.split)
    assert corpus.stems == tuple(sorted(FOUR_STEMS))
    assert corpus.channels == 2
    assert open_corpus(tmp_path, "band", RATE, track.split, {"hat": ("hihat",)}).tracks("hat") == (track.name,)


def test_too_few_scores_for_the_songs(monkeypatch):
    monkeypatch.setattr(band, "chorales", lambda: ["bach/bwv244.15.mxl"])
    monkeypatch.setattr(band, "tunes", lambda: ["ryansMammoth/CupOfTeaReel.abc"])
    with pytest.raises(ValueError, match=r"there are not enough scores: .* choose smaller numbers of songs"):
        Band(train=2, test=2).tracks(map)


def test_instrumental_songs_lack_only_the_vocals(tracks, loaded):
    """Songs of the test split have vocals in any case; the other stems differ at most in their common gain."""
    instrumental = dataclasses.replace(CORPUS, instrumental=1.0)
    for track in tracks:
        stems = {stem.name: stem for stem in instrumental.load(track, RATE)}
        before = loaded[track.name]
        assert before.keys() - stems.keys() == (set() if track.split == "test" else {"vocals"})
        for name, stem in stems.items():
            audio, other = stem.audio.astype(float), before[name].audio.astype(float)
            gain = np.vdot(audio, other) / np.vdot(other, other)
            assert 0.8 < gain < 3.0  # the peak of the mixture changes without vocals
            np.testing.assert_allclose(audio, gain * other, atol=1.0 + gain)


def test_the_share_of_instrumental_songs_leaves_the_fingerprint_without_it():
    options = {field: str(getattr(CORPUS, field)) for field in ("train", "test", "seconds", "seed", "soundfont")}
    content = [store.FORMAT, "band", 2, RATE, 1.5, options, CORPUS.inputs()]
    before = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
    assert store.fingerprint(CORPUS, RATE) == before
    assert store.fingerprint(dataclasses.replace(CORPUS, instrumental=0.25), RATE) != before
