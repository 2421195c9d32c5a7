"""Excerpts of a prepared corpus equal the stored samples at any position."""

import pickle
from collections import Counter

import numpy as np
import pytest

from data_pipelines.prepared.commands import prepare_command
from data_pipelines.prepared.corpus import Excerpt, open_corpus

FULL = 32768.0
SEGMENT = 12_000


@pytest.mark.parametrize(
    ("start", "samples"),
    [
        (0, SEGMENT),
        (0, 1),
        (SEGMENT - 1, 2),
        (SEGMENT - 1, 1),
        (SEGMENT, 1),
        (5000, 20_000),
        (1, 27_000),
        (27_000, 336),
    ],
)
def test_excerpts_across_the_borders_of_records(toy, start, samples):
    corpus, original = toy.open(), toy.audio["train", "t1", "vocals"]
    assert len(original) == 27_337
    read = corpus.read(Excerpt("t1", "vocals", start, samples))
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read * FULL, original[start : start + samples])


def test_random_excerpts_of_every_stem(toy):
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        corpus = toy.open(split, {name: (name,) for name in ("bass", "vocals", "other", "drums", "kick", "hat")})
        for (part, track, stem), original in toy.audio.items():
            if part == split:
                start, end = sorted(rng.integers(len(original), size=2))
                read = corpus.read(Excerpt(track, stem, int(start), int(end - start)))
                np.testing.assert_array_equal(read * FULL, original[start:end])


def test_zeros_beyond_the_end_of_the_track(toy):
    original = toy.audio["train", "t0", "drums"]
    read = toy.open().read(Excerpt("t0", "drums", len(original) - 100, 5000))
    np.testing.assert_array_equal(read[:100] * FULL, original[-100:])
    assert not read[100:].any()
    assert not toy.open().read(Excerpt("t0", "drums", len(original), 50)).any()


def test_a_view_sums_stored_stems(toy):
    view = {"voice": ("vocals",), "band": ("drums", "bass", "other"), "hat": ("hat",)}
    corpus = toy.open(view=view)
    assert corpus.stems == ("voice", "band", "hat")
    parts = [toy.audio["train", "t2", name].astype(int) for name in ("drums", "bass", "other")]
    np.testing.assert_array_equal(corpus.read(Excerpt("t2", "band", 700, 20_000)) * FULL, sum(parts)[700:20_700])
    # t0 has no bass, so that the sum consists of the other stems.
    parts = [toy.audio["train", "t0", name].astype(int) for name in ("drums", "other")]
    np.testing.assert_array_equal(corpus.read(Excerpt("t0", "band", 700, 20_000)) * FULL, sum(parts)[700:20_700])


def test_the_default_view_has_all_stems_without_a_parent(toy):
    corpus = toy.open()
    assert corpus.stems == ("bass", "drums", "other", "vocals")
    assert (corpus.sample_rate, corpus.channels) == (8000, 2)
    assert corpus.tracks("bass") == ("t1", "t2", "t3", "t4", "t5")
    assert corpus.tracks("drums") == ("t0", "t1", "t2", "t3", "t4", "t5")
    assert corpus.length("t3", "drums") == 24_800 + 3 * 2537


def test_mixed_down_to_mono(toy):
    corpus, original = toy.open(channels=1), toy.audio["train", "t1", "other"]
    read = corpus.read(Excerpt("t1", "other", 3000, 10_000))
    assert read.shape == (10_000, 1)
    np.testing.assert_allclose(read[:, 0] * FULL, original[3000:13_000].mean(axis=1), atol=1e-3)


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_mono_is_copied(channels, write_corpus):
    audio = np.random.default_rng(0).uniform(-0.5, 0.5, (9000, 1))
    stored = write_corpus({"t": {"a": audio}})
    corpus = open_corpus(stored.folder.parents[1], "own", 8000, "train", channels=channels)
    read = corpus.read(Excerpt("t", "a", 0, 9000))
    np.testing.assert_allclose(read, np.repeat(audio, channels, axis=1), atol=1e-4)


def test_adding_scales_and_keeps_the_previous_content(toy):
    corpus, excerpt = toy.open(), Excerpt("t1", "other", 3000, 20_000)
    out = np.ones((20_000, 2), np.float32)
    corpus.add(excerpt, -0.75, out)
    np.testing.assert_allclose(out, 1.0 - 0.75 * corpus.read(excerpt), atol=1e-6)


def test_adding_to_reversed_channels(toy):
    corpus, excerpt = toy.open(), Excerpt("t1", "other", 3000, 20_000)
    out = np.zeros((20_000, 2), np.float32)
    corpus.add(excerpt, 1.0, out[:, ::-1])
    np.testing.assert_array_equal(out, corpus.read(excerpt)[:, ::-1])


def test_draws_are_uniform_over_tracks_and_positions(toy):
    corpus, rng = toy.open(), np.random.default_rng(0)
    excerpts = [corpus.draw(rng, "drums", 8000) for _ in range(600)]
    counts = Counter(excerpt.track for excerpt in excerpts)
    assert set(counts) == set(corpus.tracks("drums"))
    assert all(60 < count < 140 for count in counts.values())
    room = {track: corpus.length(track, "drums") - 8000 for track in counts}
    positions = np.array([excerpt.start / room[excerpt.track] for excerpt in excerpts])
    assert positions.min() >= 0
    assert positions.max() <= 1
    assert np.mean(positions) == pytest.approx(0.5, abs=0.05)
    assert np.mean(positions < 0.1) == pytest.approx(0.1, abs=0.05)


def test_draws_can_leave_a_track_out(toy):
    corpus, rng = toy.open(), np.random.default_rng(0)
    tracks = {corpus.draw(rng, "bass", 100, without="t3").track for _ in range(200)}
    assert tracks == {"t1", "t2", "t4", "t5"}


def test_the_only_track_cannot_be_left_out(write_corpus):
    corpus = write_corpus({"t": {"a": np.zeros((9000, 1))}})
    with pytest.raises(ValueError, match="has only one train track with 'a'"):
        corpus.draw(np.random.default_rng(0), "a", 100, without="t")


def test_an_excerpt_longer_than_its_track_begins_with_it(toy):
    assert toy.open().draw(np.random.default_rng(0), "drums", 10**6).start == 0


def test_notes(toy):
    np.testing.assert_array_equal(toy.open().notes("t1", "vocals"), toy.notes)


def test_a_corpus_can_be_pickled_before_and_after_it_opens_its_files(toy):
    corpus, excerpt = toy.open(), Excerpt("t1", "vocals", 100, 20_000)
    fresh = pickle.dumps(corpus)
    read = corpus.read(excerpt)
    used = pickle.dumps(corpus)
    assert max(len(fresh), len(used)) < 20_000
    for state in (fresh, used):
        np.testing.assert_array_equal(pickle.loads(state).read(excerpt), read)


def test_a_corpus_that_is_not_prepared(tmp_path):
    for name, source in {"chamber": "", "musdb18": " --source DIR"}.items():
        with pytest.raises(ValueError, match="is not prepared at 22050 Hz") as error_info:
            open_corpus(tmp_path, name, 22_050, "train")
        command = f"qsep prepare {name}{source} --out {tmp_path} --sample-rate 22050"
        assert str(error_info.value).endswith(f"Prepare it with:\n  {command}")
        assert prepare_command(tmp_path, name, 22_050) == command


def test_unknown_stems_and_splits(toy):
    with pytest.raises(ValueError, match="no 'flute' in its train split; it has bass, drums, hat, kick, other, vocals"):
        toy.open(view={"flute": ("flute",)})
    with pytest.raises(ValueError, match="no split 'tests'; choose one of train, validation, test"):
        toy.open("tests")
    with pytest.raises(ValueError, match="has no validation split; it has train, test"):
        toy.open("validation")


def test_impossible_channel_counts(toy):
    with pytest.raises(ValueError, match="cannot turn 2 channels into 6: give 1 or 2 channels"):
        toy.open(channels=6)


def test_missing_records(write_corpus):
    corpus = write_corpus({"t": {"a": np.zeros((9000, 1))}})
    next(corpus.folder.glob("*.array_record*")).unlink()
    with pytest.raises(ValueError, match="holds 0 of 1 records: prepare the corpus again"):
        corpus.read(Excerpt("t", "a", 0, 10))
