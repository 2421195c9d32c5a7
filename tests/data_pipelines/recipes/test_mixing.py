"""The mixing recipes: their statistics, and that every mixture is the sum of its sources."""

from collections import Counter

import numpy as np
import pytest

from data_pipelines.prepared.corpus import Corpus
from data_pipelines.recipes.mixing import Augmentation, RandomSplit, Remix, rms

SAMPLES = 200


class Recorder:
    """A corpus that records the excerpts that a recipe adds to its example."""

    folder = "recorder"

    def __init__(self, corpus: Corpus):
        self._corpus, self.stems, self.channels, self.added = corpus, corpus.stems, corpus.channels, []

    def draw(self, rng, stem, samples, without=""):
        return self._corpus.draw(rng, stem, samples, without)

    def add(self, excerpt, gain, out):
        self.added.append((excerpt, gain, out))
        self._corpus.add(excerpt, gain, out)

    def __getattr__(self, name):
        return getattr(self._corpus, name)


def examples(recipe: RandomSplit | Remix, corpus: Corpus, count: int, seed: int = 0):
    """Yield examples, each with the excerpts that were added, also those of draws that were discarded."""
    rng, recorder = np.random.default_rng(seed), Recorder(corpus)
    for _ in range(count):
        recorder.added = []
        example = recipe(rng, recorder, SAMPLES)
        yield example, recorder.added


def test_each_class_is_present_half_of_the_time(toy):
    """The shares are conditional on a target: each of 4 classes is present with 1/2, and in the target with 1/2."""
    count, target = Counter(), Counter()
    for example, added in examples(RandomSplit(), toy.open(), 2000):
        final = [entry for entry in added if np.shares_memory(entry[2], example["mixture"])]
        final += [entry for entry in added if np.shares_memory(entry[2], example["target"])]
        count.update(excerpt.stem for excerpt, _, _ in final)
        target.update(excerpt.stem for excerpt, _, out in final if np.shares_memory(out, example["target"]))
        assert len({excerpt.stem for excerpt, _, _ in final}) == len(final)
    no_target = 0.75**4
    for stem in toy.open().stems:
        assert target[stem] / 2000 == pytest.approx(0.25 / (1 - no_target), abs=0.035)
        assert (count[stem] - target[stem]) / 2000 == pytest.approx(0.25 * (1 - 0.75**3) / (1 - no_target), abs=0.035)


@pytest.mark.parametrize("presence", [0.1, 0.5, 1.0])
def test_presence_is_a_probability(presence, toy):
    """The only target is always present, and the other class with the given probability."""
    recipe = RandomSplit(presence=presence, classes=2, targets=1)
    alone = [np.array_equal(example["mixture"], example["target"]) for example, _ in examples(recipe, toy.open(), 400)]
    assert 1 - np.mean(alone) == pytest.approx(presence, abs=0.07)


def test_gains_are_uniform(toy):
    gains = np.array([gain for _, added in examples(RandomSplit(), toy.open(), 400) for _, gain, _ in added])
    assert len(gains) > 700
    assert gains.min() >= 0.25
    assert gains.max() <= 1.25
    shares, _ = np.histogram(gains, 4, (0.25, 1.25))
    np.testing.assert_allclose(shares / len(gains), 0.25, atol=0.05)


def test_classes_come_from_independent_tracks(toy):
    same, tracks = [], Counter()
    for _, added in examples(RandomSplit(presence=1.0), toy.open(), 400):
        by_stem = {excerpt.stem: excerpt for excerpt, _, _ in added}
        tracks.update(excerpt.track for excerpt in by_stem.values())
        same.append(by_stem["drums"].track == by_stem["vocals"].track)
        assert len({excerpt.start for excerpt in by_stem.values()}) > 1
    assert set(tracks) == {f"t{n}" for n in range(6)}
    assert np.mean(same) == pytest.approx(1 / 6, abs=0.06)


def test_the_mixture_is_the_sum_of_target_and_rest(toy):
    corpus = toy.open()
    for example, added in examples(RandomSplit(), corpus, 100):
        sums = {"target": np.zeros((SAMPLES, 2)), "mixture": np.zeros((SAMPLES, 2))}
        for excerpt, gain, out in added[-4:]:
            if np.shares_memory(out, example["target"]):
                sums["target"] += gain * corpus.read(excerpt)
            if np.shares_memory(out, example["target"]) or np.shares_memory(out, example["mixture"]):
                sums["mixture"] += gain * corpus.read(excerpt)
        for name, total in sums.items():
            assert example[name].dtype == np.float32
            np.testing.assert_allclose(example[name], total, atol=1e-6)


def test_silent_targets_are_drawn_again(write_corpus):
    """Half of each track is silent, so that half of the targets would be silent if they were not drawn again."""
    rng = np.random.default_rng(0)
    half = np.concatenate([np.zeros((9000, 1)), rng.uniform(-0.3, 0.3, (9000, 1))])
    corpus = write_corpus({f"t{n}": {"a": half, "b": half} for n in range(2)})
    drawn_examples = list(examples(RandomSplit(), corpus, 200))
    assert all(rms(example["target"]) >= 1e-4 and rms(example["mixture"]) >= 1e-4 for example, _ in drawn_examples)
    assert any(len(added) > 2 for _, added in drawn_examples)


def test_examples_without_a_class_are_drawn_again(toy):
    for example, _ in examples(RandomSplit(presence=0.02), toy.open(), 30):
        assert rms(example["target"]) > 0.01


def test_a_target_that_the_rest_cancels_is_drawn_again(write_corpus):
    """The rest is the inverted target, so that the mixture is silent if both are present."""
    noise = np.random.default_rng(0).uniform(-0.3, 0.3, (SAMPLES, 1))
    corpus = write_corpus({"t": {"a": noise, "b": -noise}})
    recipe = RandomSplit(gain=(1.0, 1.0))
    for example, _ in examples(recipe, corpus, 50):
        assert rms(example["mixture"]) > 0.1


def test_a_silent_corpus(write_corpus):
    corpus = write_corpus({"t": {"a": np.zeros((9000, 1)), "b": np.zeros((9000, 1))}})
    with pytest.raises(ValueError, match=r"1000 draws from .* gave only silent targets or mixtures"):
        RandomSplit()(np.random.default_rng(0), corpus, SAMPLES)


@pytest.mark.parametrize(("classes", "targets"), [(2, 1), (3, 2), (4, 4), (0, 1), (1, 1)])
def test_the_numbers_of_classes_and_targets(classes, targets, toy):
    recipe, stems = RandomSplit(presence=1.0, classes=classes, targets=targets), set()
    for example, added in examples(recipe, toy.open(), 60):
        assert len(added) == (classes or 4)
        to_target = [excerpt.stem for excerpt, _, out in added if np.shares_memory(out, example["target"])]
        assert len(to_target) == targets
        stems.update(to_target)
    assert stems == set(toy.open().stems)


@pytest.mark.parametrize("recipe", [RandomSplit(classes=5), RandomSplit(targets=5), RandomSplit(classes=2, targets=3)])
def test_more_classes_than_the_corpus_has(recipe, toy):
    with pytest.raises(ValueError, match=r"the recipe requires .* but the corpus has 4: bass, drums, other, vocals"):
        recipe(np.random.default_rng(0), toy.open(), SAMPLES)


def test_a_query_from_another_track(toy):
    recipe = RandomSplit(presence=1.0, classes=2, targets=1, other_query=1.0)
    for example, added in examples(recipe, toy.open(), 100):
        assert set(example) == {"mixture", "target", "query"}
        (target,) = [excerpt for excerpt, _, out in added if np.shares_memory(out, example["target"])]
        (query,) = [excerpt for excerpt, _, out in added if np.shares_memory(out, example["query"])]
        assert target.stem == query.stem
        assert target.track != query.track
        assert rms(example["query"]) > 0.01


def test_a_query_from_another_track_needs_one_target(toy):
    with pytest.raises(ValueError, match="needs a single target, not targets = 0"):
        RandomSplit(other_query=1.0)(np.random.default_rng(0), toy.open(), SAMPLES)


def channel_matrices(augmentation: Augmentation, corpus: Corpus, count: int = 200):
    """Yield the matrix from stored channels to target channels for examples of one class with gain 1."""
    recipe = RandomSplit(presence=1.0, gain=(1.0, 1.0), classes=1, targets=1, augmentation=augmentation)
    for example, added in examples(recipe, corpus, count):
        stored = corpus.read(added[0][0])
        yield np.linalg.lstsq(stored, example["target"], rcond=None)[0]


def test_without_augmentation_nothing_changes(toy):
    for matrix in channel_matrices(Augmentation(), toy.open(), 20):
        np.testing.assert_allclose(matrix, np.eye(2), atol=1e-4)


def test_channel_swap(toy):
    swapped = [matrix[0, 1] > 0.5 for matrix in channel_matrices(Augmentation(channel_swap=0.3), toy.open())]
    assert np.mean(swapped) == pytest.approx(0.3, abs=0.1)
    for matrix in channel_matrices(Augmentation(channel_swap=1.0), toy.open(), 10):
        np.testing.assert_allclose(matrix, np.eye(2)[::-1], atol=1e-4)


def test_polarity(toy):
    flipped = [matrix[0, 0] < 0 for matrix in channel_matrices(Augmentation(polarity=0.3), toy.open())]
    assert np.mean(flipped) == pytest.approx(0.3, abs=0.1)
    for matrix in channel_matrices(Augmentation(polarity=1.0), toy.open(), 10):
        np.testing.assert_allclose(matrix, -np.eye(2), atol=1e-4)


def test_gain_in_decibels(toy):
    decibels = [
        20 * np.log10(matrix[0, 0]) for matrix in channel_matrices(Augmentation(gain_db=(-10.0, 2.0)), toy.open())
    ]
    assert -10.001 <= min(decibels) < -9
    assert 1 < max(decibels) <= 2.001
    assert np.mean(decibels) == pytest.approx(-4, abs=1)


def test_rms():
    assert rms(np.array([[3.0, -3.0], [3.0, 3.0]])) == 3.0
    assert rms(np.zeros((0, 2))) == 0.0


PLAIN = Augmentation()


def originals(corpus: Corpus, added) -> np.ndarray:
    """The stored audio of the excerpts of an example, in the order of the stems; missing stems are silent."""
    by_stem = {excerpt.stem: corpus.read(excerpt) for excerpt, _, _ in added}
    return np.stack([by_stem.get(stem, np.zeros((SAMPLES, corpus.channels), np.float32)) for stem in corpus.stems])


@pytest.mark.parametrize("recipe", [Remix(), Remix(songs=1, shift=0.0, augmentation=PLAIN)])
@pytest.mark.parametrize("channels", [1, 2])
def test_a_remix_is_the_sum_of_its_sources(toy, recipe, channels):
    corpus = toy.open(channels=channels, view={"vocals": ("vocals",), "low": ("drums", "bass"), "other": ("other",)})
    for example, added in examples(recipe, corpus, 30):
        assert set(example) == {"mixture", "sources"}
        assert example["mixture"].dtype == example["sources"].dtype == np.float32
        assert example["mixture"].shape == (SAMPLES, channels)
        assert example["sources"].shape == (3, SAMPLES, channels)
        np.testing.assert_allclose(example["mixture"], example["sources"].sum(0), atol=1e-6)
        assert [excerpt.stem for excerpt, _, _ in added] == ["vocals", "low", "other"]
        for source, stored in zip(example["sources"], originals(corpus, added), strict=True):
            assert rms(source) == pytest.approx(rms(stored), rel=1e-5)
            assert rms(source) > 0.01


def test_stems_of_one_song_at_one_position(toy):
    corpus, tracks, starts = toy.open(), Counter(), set()
    for example, added in examples(Remix(songs=1, shift=0.0, augmentation=PLAIN), corpus, 200):
        ((track, start),) = {(excerpt.track, excerpt.start) for excerpt, _, _ in added}
        tracks[track] += 1
        starts.add(start)
        assert 0 <= start <= corpus.length(track, "drums") - SAMPLES
        np.testing.assert_array_equal(example["sources"], originals(corpus, added))
    assert set(tracks) == {f"t{n}" for n in range(6)}
    assert max(tracks.values()) < 60  # of 33 expected
    assert len(starts) > 150


@pytest.mark.parametrize("shift", [0.05, 1.0])
def test_stems_are_shifted_by_at_most_the_given_time(toy, shift):
    """The sample rate is 8,000 Hz. No shifted stem exceeds the end of its track."""
    corpus, spreads, first = toy.open(), [], []
    for _, added in examples(Remix(songs=1, shift=shift), corpus, 300):
        starts = [excerpt.start for excerpt, _, _ in added]
        spreads.append(max(starts) - min(starts))
        first.append(starts[0] - min(starts))
        assert max(starts) <= corpus.length(added[0][0].track, "drums") - SAMPLES
    assert 0.9 * 8000 * shift < max(spreads) <= 8000 * shift
    assert np.mean(np.array(first) == 0) == pytest.approx(0.25, abs=0.08)  # any stem may be the first one


def test_shifted_stems_cover_the_track(write_corpus):
    """If the track is longer than the excerpt only by the shift, all positions occur."""
    audio = np.random.default_rng(0).uniform(-0.3, 0.3, (SAMPLES + 4, 1))
    corpus, starts = write_corpus({"t": {"a": audio, "b": audio}}), Counter()
    for _, added in examples(Remix(shift=4 / 8000), corpus, 100):
        starts.update(excerpt.start for excerpt, _, _ in added)
    assert set(starts) == set(range(5))


@pytest.mark.parametrize(("songs", "share"), [(1, 1.0), (2, 0.5 + 0.5 / 6), (4, 0.25 + 0.75 / 6)])
def test_stems_come_from_the_given_number_of_songs(toy, songs, share):
    """Two stems are of the same track if both are of the same song, or if both songs are the same of six tracks."""
    same = []
    for _, added in examples(Remix(songs=songs), toy.open(), 400):
        track = {excerpt.stem: excerpt.track for excerpt, _, _ in added}
        same.append(track["drums"] == track["vocals"])
        assert len(set(track.values())) <= songs
    assert np.mean(same) == pytest.approx(share, abs=0.08)


@pytest.mark.parametrize(
    ("augmentation", "shares"),
    [
        (Remix().augmentation, {(swap, sign): 0.25 for swap in (False, True) for sign in (1, -1)}),
        (PLAIN, {(False, 1): 1.0}),
        (Augmentation(channel_swap=1.0, polarity=1.0), {(True, -1): 1.0}),
    ],
    ids=["as published", "none", "always"],
)
def test_stems_are_swapped_and_inverted_independently(toy, augmentation, shares):
    corpus, counts, combinations = toy.open(), Counter(), set()
    for example, added in examples(Remix(augmentation=augmentation), corpus, 200):
        example_forms = []
        for source, stored in zip(example["sources"], originals(corpus, added), strict=True):
            if not stored.any():  # the bass of the track that has none
                continue
            forms = {(swap, sign): sign * stored[:, :: -1 if swap else 1] for swap in (False, True) for sign in (1, -1)}
            (form,) = [form for form, audio in forms.items() if np.array_equal(source, audio)]
            example_forms.append(form)
        counts.update(example_forms)
        combinations.add(tuple(example_forms))
    assert {form: count / counts.total() for form, count in counts.items()} == pytest.approx(shares, abs=0.06)
    assert len(shares) == 1 or len(combinations) > 50


def test_a_stem_that_a_song_lacks_is_silent(toy):
    corpus, lacking = toy.open(), 0
    for example, added in examples(Remix(songs=1), corpus, 200):
        silent = {stem for stem, source in zip(corpus.stems, example["sources"], strict=True) if not source.any()}
        track = added[0][0].track
        assert silent == ({"bass"} if track == "t0" else set())
        lacking += track == "t0"
    assert lacking > 15  # of 33 expected


def test_a_song_that_ends_too_early(write_corpus):
    """Excerpts of a short song begin at most a shift after its beginning and end with silence."""
    audio = np.random.default_rng(0).uniform(-0.3, 0.3, (SAMPLES, 1))
    corpus = write_corpus({"t": {"a": audio, "b": audio[:50]}})
    for shift, starts in ((0.0, {0}), (3 / 8000, {0, 1, 2, 3})):
        starts_drawn = set()
        for example, added in examples(Remix(shift=shift, augmentation=PLAIN), corpus, 40):
            for (excerpt, _, _), length, source in zip(added, (SAMPLES, 50), example["sources"], strict=True):
                starts_drawn.add(excerpt.start)
                np.testing.assert_allclose(source[: length - excerpt.start], audio[excerpt.start : length], atol=1e-4)
                assert not source[length - excerpt.start :].any()
        assert starts_drawn == starts


def test_a_remix_depends_on_the_seed(toy):
    first, same, other = (Remix()(np.random.default_rng(seed), toy.open(), SAMPLES) for seed in (3, 3, 4))
    for key in ("mixture", "sources"):
        np.testing.assert_array_equal(first[key], same[key])
        assert not np.array_equal(first[key], other[key])
