"""Recipes of Stoller et al. 2018, and streams of several corpora or of a part of the tracks."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from configs.stoller2018 import get_config
from data_pipelines.corpora.base import Stem
from data_pipelines.corpora.stoller2018 import published_songs
from data_pipelines.pipeline import Pipeline
from data_pipelines.prepared import store
from data_pipelines.prepared.corpus import Corpus, View, open_corpus
from data_pipelines.recipes.unpaired import PairedExcerpt, SoloExcerpt, UnpairedMixture
from data_pipelines.schema import MIXTURE, SOURCES, TARGET
from data_pipelines.streams import Data, Shape, Stream
from qsep_jax.systems.stoller2018 import PAIRED

RATE, SAMPLES = 8000, 400
Tracks = dict[str, dict[str, np.ndarray]]


def ramp(samples: int, top: float) -> np.ndarray:
    """A ramp from 0 to `top`, in which each sample encodes its position."""
    return np.linspace(0.0, top, samples)[:, None]


def flat(level: float, samples: int = 1000) -> np.ndarray:
    return np.full((samples, 1), level)


def write(root: Path, name: str, **splits: Tracks) -> None:
    """Write a prepared corpus with these splits."""

    def tracks(of_split: Tracks) -> Iterator[list[store.Record]]:
        for track, stems in of_split.items():
            loaded = [Stem(stem, np.rint(audio * 32767).astype(np.int16)) for stem, audio in stems.items()]
            yield store.segments(track, loaded, RATE)

    by_split = {split: tracks(of_split) for split, of_split in splits.items()}
    store.write(store.corpus_folder(root, name, RATE), name, RATE, 1, by_split, fingerprint="0123", options={})


def open_train(root: Path, name: str, view: View | None = None) -> Corpus:
    return open_corpus(root, name, RATE, "train", view)


def draws(recipe, corpus: Corpus, count: int = 200, samples: int = SAMPLES) -> list[dict[str, np.ndarray]]:
    return [recipe(np.random.default_rng(seed), corpus, samples) for seed in range(count)]


def pipeline(root: Path, stream: Stream, split: str = "train", batch_size: int = 4, validation=None) -> Pipeline:
    data, shapes = Data(str(root), {"songs": stream}, validation or {}), {"songs": Shape(SAMPLES, RATE)}
    return Pipeline(data, shapes, split, batch_size, 0)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The corpora `songs` (the third lacks a stem, the fourth is short), `levels` (two tracks) and `others` (six)."""
    folder = tmp_path_factory.mktemp("unpaired")
    songs = {f"s{n}": {"a": ramp(2000 + n, 0.5), "b": ramp(2000 + n, -0.3)} for n in range(2)}
    songs |= {"s2": {"a": ramp(3000, 0.5)}, "s3": {"a": ramp(100, 0.5), "b": ramp(60, -0.3)}}
    write(folder, "songs", train=songs)
    levels = {f"l{n}": {"a": flat(0.5), "b": flat(0.25)} for n in range(2)}
    write(folder, "levels", train=levels, validation={"v": {"a": flat(0.1)}}, test={"t": {"a": flat(0.1)}})
    write(folder, "others", train={f"o{n}": {"a": flat(-0.5)} for n in range(6)}, validation={"v": {"a": flat(-0.1)}})
    return folder


def test_stems_of_a_song_have_the_same_position_and_sum_to_the_mixture(root):
    corpus, starts, kinds = open_train(root, "songs"), [], set()
    for example in draws(PairedExcerpt(), corpus):
        sources = example[SOURCES]
        assert sources.shape == (2, SAMPLES, 1)
        np.testing.assert_array_equal(example[MIXTURE], sources.sum(0))
        a, b = sources[:, :, 0]
        kinds.add((a[-1] > 0, bool(b.any())))
        if b.any() and a[-1] > 0:
            np.testing.assert_allclose(b, -0.6 * a, atol=1e-4)
            starts.append(a[0])
    # A song, the song without b, and the short song, which ends within the excerpt.
    assert kinds == {(True, True), (True, False), (False, True)}
    assert min(starts) < 0.05
    assert max(starts) > 0.35


def test_missing_stems_and_samples_beyond_the_end_are_silent(root):
    short = open_corpus(root, "songs", RATE, "train", first=3)
    a, b = PairedExcerpt()(np.random.default_rng(0), short, SAMPLES)[SOURCES][:, :, 0]
    assert (np.flatnonzero(a).max(), np.flatnonzero(b).max()) == (99, 59)
    without = open_corpus(root, "songs", RATE, "train", {"b": ("b",), "a": ("a",)}, first=2, tracks=2)
    silent = [not example[SOURCES][0].any() for example in draws(PairedExcerpt(), without)]
    assert 60 < sum(silent) < 140  # s2 and s3 are equally likely


@pytest.fixture(scope="module")
def durations(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The corpora `short`, six songs of 500 samples, and `long`, one song of 1,500 and one of 4,500 samples."""
    folder = tmp_path_factory.mktemp("durations")
    short = {f"s{number}": {"a": flat(0.1, 500)} for number in range(6)}
    write(folder, "short", train=short, validation=short)
    long = {"l1": {"a": flat(0.3, 1500)}, "l2": {"a": flat(0.5, 4500)}}
    write(folder, "long", train=long, validation=long)
    return folder


def test_excerpts_can_be_drawn_in_proportion_to_duration(durations):
    shares = {}
    for draw in ("tracks", "seconds"):
        batch = pipeline(durations, Stream("short+long", PairedExcerpt(draw)), "validation", 900).batch(0)["songs"]
        levels, counts = np.unique(np.round(batch[MIXTURE][:, 0, 0], 1), return_counts=True)
        shares[draw] = dict(zip(levels.tolist(), (counts / 900).tolist(), strict=True))
    expected = {"tracks": (6 / 8, 1 / 8, 1 / 8), "seconds": (3 / 9, 1.5 / 9, 4.5 / 9)}
    for draw, values in expected.items():
        assert list(shares[draw]) == pytest.approx([0.1, 0.3, 0.5])
        assert list(shares[draw].values()) == pytest.approx(values, abs=0.06)


def test_the_short_clips_of_ikala_are_a_small_part_of_the_validation_loss(tmp_path):
    """By songs they would be 84 of 165; clips of 30 s beside songs of four minutes are 11 % of the duration."""
    data = get_config("va").data
    for name, songs in (("dsd100", 25), ("medleydb", 40), ("ccmixter", 16)):
        track = {"vocals": flat(0.1, 240), "accompaniment": flat(0.0, 240)}
        write(tmp_path, name, train={"t": track}, validation={f"{name}{number}": track for number in range(songs)})
    clip = {"vocals": flat(0.5, 30), "accompaniment": flat(0.0, 30)}
    write(tmp_path, "ikala", train={"t": clip}, validation={f"i{number}": clip for number in range(84)})
    data, shapes = dataclasses.replace(data, root=str(tmp_path)), {PAIRED: Shape(20, RATE)}
    mixtures = Pipeline(data, shapes, "validation", 600, 0).batch(0)[PAIRED][MIXTURE]
    assert np.mean(mixtures[:, 0, 0] > 0.3) == pytest.approx(84 * 30 / (84 * 30 + 81 * 240), abs=0.05)


@pytest.mark.parametrize("gain", [(0.2, 1.2), (0.5, 0.5)])
def test_mixtures_and_solos_have_gains_from_the_range(root, gain):
    mixtures = [example[MIXTURE] for example in draws(UnpairedMixture(gain), open_train(root, "levels"))]
    solos = [example[TARGET] for example in draws(SoloExcerpt(gain), open_train(root, "levels", {"b": ("b",)}))]
    for audio, level in ((mixtures, 0.75), (solos, 0.25)):
        assert all(part.shape == (SAMPLES, 1) and part.dtype == np.float32 and np.ptp(part) == 0 for part in audio)
        gains = np.array([part[0, 0] for part in audio]) / level
        low, high = gain
        assert low - 1e-3 <= gains.min() <= low + 0.1 * (high - low) + 1e-3
        assert high + 1e-3 >= gains.max() >= high - 0.1 * (high - low) - 1e-3
        assert np.mean(gains) == pytest.approx(np.mean(gain), abs=0.08)


def test_a_mixture_is_the_sum_of_all_stems_at_one_position(root):
    corpus = open_corpus(root, "songs", RATE, "train", tracks=2)
    for example in draws(UnpairedMixture((1.0, 1.0)), corpus, 20):
        mixture = example[MIXTURE][:, 0]
        np.testing.assert_allclose(np.diff(mixture), 0.2 / 2000, atol=1e-4)
        assert set(example) == {MIXTURE}


def test_a_solo_needs_no_other_stem(root):
    """Tracks that lack the stem are not drawn."""
    corpus = open_train(root, "songs", {"b": ("b",)})
    assert corpus.all_tracks == ("s0", "s1", "s3")
    assert all(example[TARGET].min() < 0 for example in draws(SoloExcerpt(), corpus))
    assert draws(SoloExcerpt(), open_train(root, "others", {"a": ("a",)}), 1)[0][TARGET].any()


@pytest.fixture(scope="module")
def instrumental(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The corpus `toy` of three songs, two of them without vocals, and `voices` of one voice without accompaniment."""
    folder = tmp_path_factory.mktemp("instrumental")
    songs: Tracks = {name: {"accompaniment": flat(0.2)} for name in ("b", "c")}
    write(folder, "toy", train={"a": {"vocals": flat(0.3), "accompaniment": flat(0.2)}} | songs)
    write(folder, "voices", train={"d": {"vocals": flat(-0.3)}})
    return folder


def share_of_silence(root: Path, stream: Stream, count: int) -> float:
    batch = pipeline(root, stream, batch_size=count).batch(0)["songs"][TARGET]
    assert batch.shape == (count, SAMPLES, 1)
    return float(np.mean(~batch.any((1, 2))))


def test_absent_stems_are_silent_examples(instrumental):
    view: View = {"vocals": ("vocals",)}
    skipped, silent = (Stream("toy", SoloExcerpt(absent=absent), view) for absent in ("skip", "silent"))
    assert share_of_silence(instrumental, skipped, 300) == 0.0
    assert share_of_silence(instrumental, silent, 300) == pytest.approx(2 / 3, abs=0.1)
    # Of several corpora, those songs count too: the voice without accompaniment is one of four.
    assert share_of_silence(instrumental, Stream("toy+voices", SoloExcerpt(absent="silent"), view), 400) == (
        pytest.approx(2 / 4, abs=0.1)
    )
    # The tracks of the stream are selected before: here, the second and the third song.
    rest = Stream("toy", SoloExcerpt(absent="silent"), {"accompaniment": ("accompaniment",)}, first=1)
    assert share_of_silence(instrumental, rest, 50) == 0.0


def test_the_voice_critic_of_the_published_lists_sees_15_silent_songs_of_140(tmp_path):
    """40 songs of MedleyDB, 15 of them without voice, 16 of CCMixter and 84 clips of iKala."""
    stems = {"vocals": flat(0.3, 2), "accompaniment": flat(0.2, 2)}
    for name in ("medleydb", "ccmixter"):
        songs = [song for song in published_songs(name) if song.split == "train"]
        both = {song.track: stems if song.has_voice else {"accompaniment": flat(0.2, 2)} for song in songs}
        write(tmp_path, name, train=both)
    write(tmp_path, "ikala", train={f"i{number}": stems for number in range(84)})
    streams = get_config("va").data.streams
    (medleydb, *others) = pipeline(tmp_path, streams["vocals"]).corpora["songs"]
    counts = [len(corpus.stored_tracks) for corpus in (medleydb, *others)]
    assert (counts, len(medleydb.tracks("vocals"))) == ([40, 16, 84], 25)
    assert share_of_silence(tmp_path, streams["vocals"], 2000) == pytest.approx(15 / 140, abs=0.025)
    assert share_of_silence(tmp_path, streams["accompaniment"], 200) == 0.0


def test_a_solo_needs_a_view_of_one_stem(root):
    with pytest.raises(ValueError, match="a solo excerpt needs a view of one stem, but the view has a, b: give one"):
        SoloExcerpt()(np.random.default_rng(0), open_train(root, "levels"), SAMPLES)


@pytest.mark.parametrize(("recipe", "key"), [(UnpairedMixture(), MIXTURE), (SoloExcerpt(), TARGET)])
def test_pooled_corpora_are_drawn_in_proportion_to_their_tracks(root, recipe, key):
    pooled = pipeline(root, Stream("levels+others", recipe, {"a": ("a",)}), batch_size=400)
    assert [corpus.metadata.name for corpus in pooled.corpora["songs"]] == ["levels", "others"]
    batch = pooled.batch(0)["songs"][key]
    assert batch.shape == (400, SAMPLES, 1)
    assert np.mean(batch[:, 0, 0] > 0) == pytest.approx(2 / 8, abs=0.07)
    np.testing.assert_array_equal(pooled.batch(0)["songs"][key], batch)


def test_pooled_corpora_count_the_selected_tracks(root):
    """One track of each corpus is selected."""
    stream = Stream("levels+others", UnpairedMixture(), {"a": ("a",)}, first=1, tracks=1)
    batch = pipeline(root, stream, batch_size=400).batch(0)["songs"][MIXTURE]
    assert np.mean(batch[:, 0, 0] > 0) == pytest.approx(1 / 2, abs=0.08)


@pytest.mark.parametrize(
    ("first", "tracks", "expected"),
    [(0, 2, ("o0", "o1")), (2, 3, ("o2", "o3", "o4")), (4, 0, ("o4", "o5")), (0, 0, tuple(f"o{n}" for n in range(6)))],
)
def test_the_tracks_of_a_stream_restrict_only_the_training_split(root, first, tracks, expected):
    stream = Stream("others", UnpairedMixture(), first=first, tracks=tracks)
    assert stream.open(root, "others", RATE, "train").all_tracks == expected
    assert stream.open(root, "others", RATE, "validation").all_tracks == ("v",)
    (corpus,) = pipeline(root, stream).corpora["songs"]
    assert corpus.tracks("a") == expected


@pytest.mark.parametrize(
    ("first", "tracks", "message"),
    [
        (4, 3, "has 6 tracks in its train split, too few for 3 tracks from number 4 on"),
        (6, 0, "has 6 tracks in its train split, too few for the tracks from number 6 on"),
    ],
)
def test_too_few_tracks_are_refused(root, first, tracks, message):
    with pytest.raises(ValueError, match=f"the stream 'songs': the corpus 'others' {message}"):
        pipeline(root, Stream("others", UnpairedMixture(), first=first, tracks=tracks))


def test_errors_name_the_stream(root):
    with pytest.raises(ValueError, match=r"the stream 'songs': the corpus 'others' has no 'b' in its train split"):
        pipeline(root, Stream("levels+others", SoloExcerpt(), {"b": ("b",)}))
    with pytest.raises(ValueError, match=r"the stream 'songs': the corpus 'songs' has no validation split"):
        pipeline(root, Stream("levels+songs", UnpairedMixture(), {"a": ("a",)}), "validation")
    with pytest.raises(ValueError, match=r"the stream 'songs': the corpus 'songs' has no 'b'.*; it has a$"):
        pipeline(root, Stream("songs", SoloExcerpt(), {"b": ("b",)}, first=2, tracks=1))


def test_validation_may_use_another_corpus(root):
    training, validation_stream = (
        Stream(name, UnpairedMixture((1.0, 1.0)), {"a": ("a",)}) for name in ("others", "levels")
    )

    def level(split: str, validation=None) -> np.ndarray:
        return pipeline(root, training, split, validation=validation).batch(0)["songs"][MIXTURE]

    np.testing.assert_allclose(level("train", {"songs": validation_stream}), -0.5, atol=1e-4)
    np.testing.assert_allclose(level("validation", {"songs": validation_stream}), 0.1, atol=1e-4)
    np.testing.assert_allclose(level("validation"), -0.1, atol=1e-4)


def test_only_validation_may_use_fewer_streams(root):
    streams = {name: Stream("others", UnpairedMixture()) for name in ("songs", "more")}
    shapes = {"songs": Shape(SAMPLES, RATE)}
    assert set(Pipeline(Data(str(root), streams), shapes, "validation", 2, 0).batch(0)) == {"songs"}
    with pytest.raises(ValueError, match=r"requires the streams \['songs'\], but the config has \['more', 'songs'\]"):
        Pipeline(Data(str(root), streams), shapes, "train", 2, 0)
