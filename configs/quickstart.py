"""Quickstart: a small model of Lee et al. 2019 (ISMIR) that learns to separate two instruments by query.

    qsep train --config quickstart --workdir runs/quickstart

The corpus `chamber` is rendered from scores on first use, so nothing has to be downloaded. Every mixture has two of 13
instruments, one of which is the target; the query is an excerpt of the same instrument from another work. The run ends
with its evaluation on every pair of instruments of the test works.

It reproduces no table of the paper. Two CPU cores took 5 minutes 7 seconds for the command above, in which they also
rendered the corpus and evaluated the model. For that it departs from the paper in the sample rate, the sizes of STFT,
examples and networks, the recipe, the latent losses and the optimizer: docs/lee2019.md lists every value and the
reason. The variant `debug` runs through everything in seconds.
"""

import dataclasses

from data_pipelines.recipes.mixing import RandomSplit
from data_pipelines.schema import INSTRUMENTS
from data_pipelines.streams import Data, Stream
from data_pipelines.testlist import TestList
from qsep_jax.runs.experiment import Experiment, variant_words
from qsep_jax.systems.base import Optimizer
from qsep_jax.systems.lee2019 import Lee2019
from qsep_jax.training.settings import Train

SYSTEM = Lee2019(
    stems=tuple(INSTRUMENTS),
    sample_rate=8_000,
    window_length=512,
    hop_length=256,
    frames=32,
    compression="log1p",
    query_channels=(16, 16, 32, 32, 64, 64),
    query_hidden=64,
    channels=(16, 32, 48, 64, 64, 64),
    initial_log_variance=-8.0,
    kl_weight=1e-4,
    latent_weight=0.0,
    optimizer=Optimizer(learning_rate=1e-3, schedule="cosine", warmup=100, clip_norm=5.0),
)
PAIRS = RandomSplit(presence=1.0, classes=2, targets=1, other_query=1.0)
TRAIN = Train(
    steps=1600,
    batch_size=8,
    ema_decay=0.99,
    log_every=20,
    validate_every=200,
    validation_batches=16,
    save_every=200,
    summary_every=400,
    workers=0,
    condition_windows=4,
    evaluate=True,
)
EVALUATION = TestList(kind="pairs", seconds=4.0)


def get_config(variant: str = "") -> Experiment:
    words = variant_words(variant, ())
    experiment = Experiment(SYSTEM, Data(streams={"cvae": Stream("chamber", PAIRS)}), TRAIN, EVALUATION)
    return _debug(experiment) if "debug" in words else experiment


def _debug(experiment: Experiment) -> Experiment:
    """Four steps of two examples with two levels of few channels; latent regression is on, so that it runs once."""
    system = dataclasses.replace(
        SYSTEM,
        window_length=64,
        hop_length=32,
        frames=16,
        query_channels=(8, 16),
        query_hidden=8,
        channels=(8, 16),
        latent_weight=0.5,
        optimizer=dataclasses.replace(SYSTEM.optimizer, warmup=0),
    )
    train = dataclasses.replace(
        TRAIN,
        steps=4,
        batch_size=2,
        log_every=2,
        validate_every=4,
        validation_batches=2,
        save_every=2,
        summary_every=4,
        condition_windows=2,
    )
    return Experiment(system, experiment.data, train, dataclasses.replace(EVALUATION, mixtures=2))
