"""Quickstart: a small Lee 2019 that learns, in minutes on two cores, to separate two instruments by example.

python -m qsep_jax.train --config configs/quickstart.py --workdir runs/quickstart
"""

from data_pipelines.pipeline import Data, Stream
from data_pipelines.recipes.mixing import RandomSplit
from data_pipelines.schema import INSTRUMENTS
from data_pipelines.testlist import TestList
from qsep_jax.runs.experiment import Experiment, variant_words
from qsep_jax.systems.base import Optimizer
from qsep_jax.systems.lee2019 import Lee2019
from qsep_jax.training.settings import Train


def get_config(variant: str = "") -> Experiment:
    words = variant_words(variant, ())
    debug = "debug" in words
    system = Lee2019(
        stems=tuple(INSTRUMENTS),
        sample_rate=8_000,
        window_length=64 if debug else 512,
        hop_length=32 if debug else 256,
        frames=16 if debug else 32,
        compression="log1p",
        query_channels=(8, 16) if debug else (16, 16, 32, 32, 64, 64),
        query_hidden=8 if debug else 64,
        channels=(8, 16) if debug else (16, 32, 48, 64, 64, 64),
        initial_log_variance=-8.0,
        kl_weight=1e-4,
        latent_weight=0.5 if debug else 0.0,
        optimizer=Optimizer(learning_rate=1e-3, schedule="cosine", warmup=0 if debug else 100, clip_norm=5.0),
    )
    pairs = RandomSplit(presence=1.0, classes=2, targets=1, other_query=1.0)
    return Experiment(
        system,
        Data(streams={"cvae": Stream("chamber", pairs)}),
        Train(
            steps=4 if debug else 1600,
            batch_size=2 if debug else 8,
            ema_decay=0.99,
            log_every=2 if debug else 20,
            validate_every=4 if debug else 200,
            validation_batches=2 if debug else 16,
            save_every=2 if debug else 200,
            summary_every=4 if debug else 400,
            workers=0,
            condition_windows=2 if debug else 4,
            evaluate=True,
        ),
        TestList(kind="pairs", mixtures=2 if debug else 0, seconds=4.0),
    )
