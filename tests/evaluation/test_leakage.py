"""Test songs in the training data are recognised, even if their names are spelled differently."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from configs.stoller2018 import get_config
from data_pipelines.corpora.base import Stem
from data_pipelines.prepared import store
from data_pipelines.recipes.unpaired import PairedExcerpt, SoloExcerpt, UnpairedMixture
from data_pipelines.streams import Data, Recipe, Stream
from qsep_jax import evaluate, train
from qsep_jax.evaluation.leakage import refuse_overlap
from qsep_jax.runs.experiment import Experiment
from tests.commands import config_of, refused
from tests.pieces import STEMS, UNCONDITIONED, write_bundle

SYSTEM = get_config("debug").system
SECONDS = 0.25


def write(root: Path, name: str, stems=SYSTEM.stems, rate=SYSTEM.sample_rate, **splits: dict[str, float]) -> None:
    """Prepare a corpus of noise, given the length in seconds of each track for each split."""

    def tracks(of_split: dict[str, float]) -> Iterator[list[store.Record]]:
        for track, seconds in of_split.items():
            audio = np.random.default_rng(0).integers(-99, 99, (round(seconds * rate), 1)).astype(np.int16)
            yield store.segments(track, [Stem(stem, audio) for stem in stems], rate)

    by_split = {split: tracks(of_split) for split, of_split in splits.items()}
    store.write(store.corpus_folder(root, name, rate), name, rate, 1, by_split, fingerprint="0123", options={})


def check(root: Path, corpus: str, recipe: Recipe | None = None, **stream) -> None:
    """Compare a training stream with the test split of the corpus `judge`."""
    streams = {"songs": Stream(corpus, recipe or PairedExcerpt(), **stream)}
    test = Stream("judge").open(root, "judge", SYSTEM.sample_rate, "test")
    refuse_overlap(Experiment(SYSTEM, Data(str(root), streams)), test)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with the corpus `judge`, whose test split has `A Song` and another song."""
    write(tmp_path, "judge", test={"Somebody - A Song": SECONDS, "Nobody": SECONDS})
    return tmp_path


@pytest.mark.parametrize("name", ["Somebody - A Song", "somebody_a_song", "SomebodyASong", "Some.body-(A)-Song!"])
@pytest.mark.parametrize("recipe", [PairedExcerpt(), SoloExcerpt()])
def test_the_same_song_is_refused_for_any_spelling(root, name, recipe):
    write(root, "mine", train={"Other": SECONDS, name: 1.005 * SECONDS})
    with pytest.raises(ValueError, match="its scores would be meaningless") as caught:
        check(root, "mine", recipe)
    assert f"'{name}' of {root / 'mine'}" in str(caught.value)
    assert "in the training stream 'songs', and as 'Somebody - A Song' in the test split" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "seconds"),
    [
        ("Somebody - A Song", 1.02 * SECONDS),
        ("Somebody - A Song", 0.98 * SECONDS),
        ("Somebody - A Song 2", SECONDS),
        ("A Song", SECONDS),
    ],
)
def test_other_lengths_and_names_are_other_songs(root, name, seconds):
    write(root, "mine", train={name: seconds}, test={"Nobody": SECONDS})
    check(root, "mine")


@pytest.mark.parametrize("name", ["bwv298", "bwv-2.98", "29.8 bwv", "bwv29 x8"])
def test_numbers_that_are_apart_are_not_joined(tmp_path, name):
    write(tmp_path, "judge", test={"bwv29.8": SECONDS})
    write(tmp_path, "mine", train={name: SECONDS})
    check(tmp_path, "mine")
    write(tmp_path, "other", train={"BWV 29-8": SECONDS})
    with pytest.raises(ValueError, match="'BWV 29-8' of"):
        check(tmp_path, "other")


def test_mixtures_without_stems_may_be_test_songs(root):
    write(root, "mine", train={"Nobody": SECONDS})
    check(root, "mine", UnpairedMixture())


def test_every_prepared_corpus_of_a_stream_is_compared(root):
    write(root, "mine", train={"Other": SECONDS})
    check(root, "missing+mine")
    write(root, "more", train={"Nobody": SECONDS})
    with pytest.raises(ValueError, match=r"'Nobody' of .*more"):
        check(root, "missing+mine+more")


def test_tracks_that_are_not_trained_on_are_not_compared(root):
    write(root, "mine", train={"Nobody": SECONDS, "Other": SECONDS, "Third": SECONDS})
    check(root, "mine", first=1)
    with pytest.raises(ValueError, match="'Nobody'"):
        check(root, "mine", tracks=1)


def test_training_is_refused(root, capsys, monkeypatch):
    monkeypatch.setattr("qsep_jax.train.prepare_missing", lambda experiment: None)
    write(root, "dsd100", train={"nobody": SECONDS}, validation={"v": SECONDS})
    config = ("--config", config_of("stoller2018.py:supervised"), "--workdir", root / "run", "--data.root", root)
    refused(capsys, "'nobody' of", train, *config, "--train.batch-size", 8, "--evaluation.corpus", "judge")
    assert not (root / "run").exists()


@pytest.mark.parametrize("subcommand", ["excerpts", "tracks", "segments"])
def test_evaluation_is_refused(tmp_path, capsys, subcommand):
    write(tmp_path, "pieces", STEMS, UNCONDITIONED.sample_rate, train={"a duet": SECONDS}, test={"A Duet": SECONDS})
    bundle = write_bundle(UNCONDITIONED, tmp_path / "bundle", tmp_path)
    refused(capsys, "'a duet' of", evaluate, subcommand, "--workdir", bundle, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()
