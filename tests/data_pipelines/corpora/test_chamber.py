"""`chamber`: instruments play within their ranges, no tune is in two splits, and the notes match the audio."""

import dataclasses
import itertools
from collections import Counter

import numpy as np
import pytest
from signals import band_level

from data_pipelines import prepare
from data_pipelines.audio.samples import resample
from data_pipelines.corpora import chamber
from data_pipelines.corpora.base import Stem, Track
from data_pipelines.corpora.chamber import Chamber, belongs_to_chamber, dynamics, split_of, timed_notes
from data_pipelines.corpora.render import RELEASE, RENDER_RATE
from data_pipelines.corpora.scores import Part, Work
from data_pipelines.prepared.corpus import open_corpus
from data_pipelines.schema import INSTRUMENTS

RATE = 8000
# With this seed, the first scores are chorales in all three splits, which are fast to read.
CORPUS = Chamber(works=4, seed=16, longest=15.0)


@pytest.fixture(scope="module")
def tracks() -> list[Track]:
    return CORPUS.tracks(map)


@pytest.fixture(scope="module")
def loaded(tracks) -> dict[str, list[Stem]]:
    return {track.name: CORPUS.load(track, RATE) for track in tracks}


def work(tune: str, name: str = "bach/x.mxl") -> Work:
    return Work(name, tune, (Part("p", ((0.0, 1.0, 60),)),), 4.0)


def test_the_split_depends_on_the_tune(tracks):
    assert {track.split for track in tracks} == {"train", "validation", "test"}
    assert len(tracks) == 4
    for track in tracks:
        assert track.split == split_of(track.source.work)


def test_all_settings_of_a_tune_are_in_the_same_corpus_and_split():
    tunes = [f"{a} {b}" for a in range(50) for b in range(40)]
    for tune in tunes[:100]:
        assert split_of(work(tune)) == split_of(work(tune, "bach/y.mxl"))
        assert belongs_to_chamber(work(tune)) == belongs_to_chamber(work(tune, "bach/y.mxl"))
    shares = Counter(split_of(work(tune)) for tune in tunes)
    assert shares["test"] / len(tunes) == pytest.approx(0.15, abs=0.03)
    assert shares["validation"] / len(tunes) == pytest.approx(0.1, abs=0.03)
    own_tunes = [tune for tune in tunes if belongs_to_chamber(work(tune))]
    assert len(own_tunes) / len(tunes) == pytest.approx(0.6, abs=0.04)
    # The corpus and the split of a tune are independent.
    assert sum(split_of(work(tune)) == "test" for tune in own_tunes) / len(own_tunes) == pytest.approx(0.15, abs=0.03)


def test_movements_always_belong_to_chamber():
    assert all(belongs_to_chamber(work(f"haydn/{n}", "haydn/opus/movement1.mxl")) for n in range(50))


def test_no_instrument_plays_twice_and_all_play_within_their_range(tracks, loaded):
    for track in tracks:
        stems = loaded[track.name]
        names = [stem.name for stem in stems]
        assert len(set(names)) == len(names) >= 2
        assert [player for _, player, _ in track.source.players] == names
        for stem in stems:
            low, high, _ = INSTRUMENTS[stem.name]
            assert stem.notes[:, 2].min() >= low
            assert stem.notes[:, 2].max() <= high


def test_a_part_that_fits_no_free_instrument_is_left_out(monkeypatch):
    """Only the cello, the viola and the violin have the range of the part, 40 semitones from 36 + 12 n on."""
    wide = Part("p", tuple((float(n), n + 1.0, 36 + 40 * (n % 2)) for n in range(16)))
    monkeypatch.setattr(chamber, "read_work", lambda name: Work("haydn/opus/movement1", "t", (wide,) * 4, 4.0))
    (track,) = Chamber(works=1).tracks(map)
    assert sorted((name, shift) for _, name, shift in track.source.players) == [
        ("cello", 0),
        ("viola", 12),
        ("violin", 24),
    ]


def test_parts_are_moved_by_octaves_to_the_middle_of_the_range(tracks):
    for track in tracks:
        parts = [index for index, _, _ in track.source.players]
        assert len(set(parts)) == len(parts)
        for index, instrument, shift in track.source.players:
            assert shift % 12 == 0
            low, high, _ = INSTRUMENTS[instrument]
            part = track.source.work.parts[index]
            middle, distance = (low + high) / 2, abs((part.low + part.high) / 2 + shift - (low + high) / 2)
            for other in (shift - 12, shift + 12):
                fits = low <= part.low + other and part.high + other <= high
                assert not fits or abs((part.low + part.high) / 2 + other - middle) >= distance


def test_instruments_take_turns(tracks):
    """Each part goes to the instrument that has played least, so that no instrument plays twice in so few works."""
    count = Counter(name for track in tracks if track.split == "test" for _, name, _ in track.source.players)
    assert max(count.values()) == 1


def test_stems_have_the_same_length_and_level(loaded):
    for stems in loaded.values():
        assert len({stem.audio.shape for stem in stems}) == 1
        for stem in stems:
            assert stem.audio.dtype == np.int16
            assert stem.audio.shape[1] == 1
            assert len(stem.audio) <= 15 * RATE
            level = np.sqrt(np.mean((stem.audio / 32768) ** 2))
            assert level == pytest.approx(chamber.STEM_RMS, rel=0.01) or np.abs(stem.audio).max() > 32_700


def test_notes_match_the_audio(loaded):
    """Silence before the first onset, sound during the longest note; onsets are in order and in the track."""
    for stems in loaded.values():
        for stem in stems:
            onsets, offsets = stem.notes[:, 0], stem.notes[:, 1]
            assert (np.diff(onsets) > 0).all()
            assert (offsets > onsets).all()
            assert onsets.max() < len(stem.audio) / RATE - RELEASE
            assert np.abs(stem.audio[: int(onsets[0] * RATE)].astype(int)).max(initial=0) < 50
            longest = np.argmax(np.minimum(offsets, 14.0) - onsets)
            sounding = stem.audio[int(onsets[longest] * RATE) : int(offsets[longest] * RATE)]
            assert np.sqrt(np.mean(sounding.astype(float) ** 2)) > 300


def test_loading_is_deterministic(tracks, loaded):
    track = tracks[0]
    for first, second in zip(loaded[track.name], CORPUS.load(track, RATE), strict=True):
        np.testing.assert_array_equal(first.audio, second.audio)


def test_prepared_notes_are_those_of_the_score(tracks, loaded, tmp_path, monkeypatch):
    monkeypatch.setattr(Chamber, "tracks", lambda self, ordered_map: tracks[:1])
    prepare.build(CORPUS, tmp_path, sample_rate=RATE, workers=1)
    corpus = open_corpus(tmp_path, "chamber", RATE, tracks[0].split)
    for stem in loaded[tracks[0].name]:
        np.testing.assert_array_equal(corpus.notes(tracks[0].name, stem.name), stem.notes)


def test_timed_notes():
    part = Part("p", ((0.0, 2.0, 60), (2.0, 2.1, 62)))
    np.testing.assert_allclose(timed_notes(part, 0.5, 12), [[0.0, 0.95, 72], [1.0, 1.05, 74]], rtol=1e-6)


def test_dynamics_vary_slowly_between_soft_and_loud():
    velocities = dynamics(np.random.default_rng(0), 2000)
    assert velocities.min() >= 60
    assert velocities.max() <= 115
    assert velocities.max() - velocities.min() > 40
    assert max(abs(b - a) for a, b in itertools.pairwise(velocities.tolist())) < 40


def test_too_few_scores_for_the_works(monkeypatch):
    monkeypatch.setattr(chamber, "chorales", lambda: ["bach/bwv244.15.mxl"])
    monkeypatch.setattr(chamber, "quartets", list)
    with pytest.raises(ValueError, match="not 9: choose fewer --works"):
        Chamber(works=9).tracks(map)


def test_inputs_name_the_versions_and_the_soundfont():
    assert [line.split()[0] for line in CORPUS.inputs()] == ["music21", "symusic", "soxr", "TimGM6mb.sf2"]


@pytest.fixture(scope="module")
def shifting(tracks) -> dict[str, tuple[Track, list[Stem]]]:
    """One track of each split, loaded with variants."""
    by_split = {track.split: track for track in tracks}
    corpus = dataclasses.replace(CORPUS, shifts=1, longest=4.0)
    return {split: (track, corpus.load(track, RATE)) for split, track in by_split.items()}


def test_training_and_validation_stems_have_variants(shifting):
    for split, (track, stems) in shifting.items():
        played = [name for _, name, _ in track.source.players]
        variants = [f"{name}@{shift}" for name in played for shift in ("-1", "+1")] if split != "test" else []
        assert [stem.name for stem in stems] == played + variants
        assert len({stem.audio.shape for stem in stems}) == 1
        originals = {stem.name: stem for stem in stems if not stem.parent}
        for stem in stems[len(played) :]:
            original = originals[stem.parent]
            np.testing.assert_array_equal(stem.notes - original.notes, [[0, 0, int(stem.name[-2:])]] * len(stem.notes))
            assert stem.audio.any()
            assert (stem.audio != original.audio).any()


def test_variants_are_made_from_the_rendering_at_its_original_rate(tracks, monkeypatch):
    """White noise instead of an instrument: a variant has no hole at the top, and about the level of its stem."""
    noise = np.random.default_rng(0).normal(0.0, 0.02, (RENDER_RATE * 4, 1)).astype(np.float32)
    monkeypatch.setattr(chamber, "render", lambda *options: resample(noise, RENDER_RATE, options[4]))
    (track, *_) = (track for track in tracks if track.split == "train")
    stems = dataclasses.replace(CORPUS, shifts=4, longest=4.0).load(track, RATE)
    players = len(track.source.players)
    for stem in stems[: players + 8]:
        top = band_level(stem.audio, RATE, 3200, 3600)
        assert top == pytest.approx(band_level(stem.audio, RATE, 1000, 3000), abs=1.0), stem.name
        assert top == pytest.approx(band_level(stems[0].audio, RATE, 3200, 3600), abs=6.0), stem.name


def test_variants_do_not_change_the_stems(shifting):
    plain = dataclasses.replace(CORPUS, longest=4.0)
    track, stems = shifting["train"]
    loaded = plain.load(track, RATE)
    assert len(loaded) == len(track.source.players)
    for stem, stem_with_variants in zip(loaded, stems, strict=False):
        assert stem.name == stem_with_variants.name
        np.testing.assert_array_equal(stem.audio, stem_with_variants.audio)


@pytest.mark.slow
def test_the_default_view_excludes_variants(tracks, tmp_path, monkeypatch):
    (track, *_) = (track for track in tracks if track.split == "train")
    monkeypatch.setattr(Chamber, "tracks", lambda self, ordered_map: [track])
    prepare.build(dataclasses.replace(CORPUS, shifts=1, longest=4.0), tmp_path, sample_rate=RATE, workers=1)
    corpus = open_corpus(tmp_path, "chamber", RATE, "train")
    names = sorted(name for _, name, _ in track.source.players)
    assert list(corpus.stems) == names
    assert len(corpus.metadata.index["train"]) == 3 * len(names)


def test_the_inputs_of_variants():
    assert [line.split()[0] for line in Chamber(shifts=1).inputs()] == [
        *(line.split()[0] for line in CORPUS.inputs()),
        "librosa",
        "variants",
    ]
    with pytest.raises(ValueError, match="--shifts -1 is outside 0 to 12"):
        Chamber(shifts=-1).inputs()
