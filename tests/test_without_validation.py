"""All 100 songs of MUSDB18 in the training split: trained, evaluated and used without a validation split."""

import json

import numpy as np
import pytest
import soundfile

from configs import cantisani2021, lee2019
from data_pipelines import prepare
from data_pipelines.corpora.musdb18 import Musdb18
from data_pipelines.schema import FOUR_STEMS
from qsep_jax import evaluate, separate, train
from qsep_jax.runs.folder import RunFolder
from tests.commands import command, refused
from tests.experiments import ROOT

RATE = 22_050
BATCH = ("--train.batch-size", 8)  # simulated devices
# The second is one of the songs that the package `musdb` lists for validation.
TRAIN, TEST = ("Another", "Leaf - Summerghost"), ("One", "Two", "Three")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Prepared corpora `musdb18_all`, and `musdb18` without a validation split, from three seconds of noise."""
    folder, rng = tmp_path_factory.mktemp("musdb18"), np.random.default_rng(0)
    for part, names in (("train", TRAIN), ("test", TEST)):
        for name in names:
            path = folder / "source" / part / name
            path.mkdir(parents=True)
            for stem in FOUR_STEMS:
                soundfile.write(path / f"{stem}.wav", rng.normal(0, 0.1, (3 * RATE, 1)), RATE)
    for name in ("musdb18_all", "musdb18"):
        prepare.build(Musdb18(folder / "source", "none"), folder / "data", name=name, sample_rate=RATE, workers=1)
    return folder


@pytest.mark.slow
def test_all_songs_are_trained_on_and_the_last_checkpoint_is_used(root, capsys):
    run, song = root / "run", root / "source" / "test" / "One" / "bass.wav"
    config = f"{ROOT / 'configs' / 'lee2019.py'}:all,debug"
    assert command(train, "--config", config, "--workdir", run, "--data.root", root / "data", *BATCH) == 0
    assert RunFolder(run).best_step() == RunFolder(run).steps()[-1] == 4
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert not any(name.startswith("validation") for line in lines for name in line)
    experiment, _ = RunFolder(run).load()
    corpus = experiment.judged.open(root / "data", "musdb18_all", RATE, "train")
    tracks = {name for stem in FOUR_STEMS for name in corpus.tracks(stem)}
    assert tracks == set(TRAIN)
    assert command(evaluate, "--workdir", run) == 0
    assert command(separate, song, "--model", run, "--label", "bass", "--out", root / "separated") == 0
    capsys.readouterr()


def test_a_validation_that_has_no_songs_is_refused_with_the_remedy(root, capsys):
    config = f"{ROOT / 'configs' / 'lee2019.py'}:debug"
    options = ("--config", config, "--workdir", root / "other", "--data.root", root / "data", *BATCH)
    refused(capsys, "has no validation split; it has train, test: train with --train.validate-every 0", train, *options)


@pytest.mark.parametrize("config", [lee2019, cantisani2021])
def test_the_variant_validates_nothing(config):
    for variant in ("all", "all,small", "all,debug"):
        experiment = config.get_config(variant)
        (stream,) = experiment.data.streams.values()
        assert (stream.corpus, experiment.train.validate_every) == ("musdb18_all", 0)
    with pytest.raises(ValueError, match="the variants all and band are different corpora: give one"):
        config.get_config("all,band")
