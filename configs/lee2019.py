"""Lee, Choi, Lee 2019, "Audio query-based music source separation" (ISMIR): the paper's setting, its §4.1 to §4.3.

MUSDB18 at 22.05 kHz in 3-s examples, each of the four classes from its own random track, present with probability 0.5
and scaled by U[0.25, 1.25]; STFT 1024/256; latent of 32; weights 10, 0.01 and 0.5; Adam (2e-4, 0.5, 0.999), which
loses 5e-6 every 10,000 updates after 200,000 and so ends at 600,000.

    python -m data_pipelines.prepare musdb18 --source MUSDB18 --sample-rate 22050
    python -m qsep_jax.train --config configs/lee2019.py --workdir runs/lee2019

Variants, separated by commas: `band` and `chamber` train on a corpus that is made on the spot instead; `debug` is tiny.

Where the paper is silent: examples are mixed down to mono; an empty target or mixture is drawn again; every class goes
to target or rest with equal chance; the Nyquist bin is dropped. See docs/lee2019.md.
"""

from data_pipelines.mixing import RandomSplit
from data_pipelines.pipeline import Data, Stream
from data_pipelines.schema import FOUR_STEMS, INSTRUMENTS
from data_pipelines.testlist import TestList
from qsep_jax.experiment import Experiment, variant_words
from qsep_jax.systems.lee2019 import Lee2019
from qsep_jax.training.settings import Train

VARIANTS = ("band", "chamber", "debug")


def get_config(variant: str = "") -> Experiment:
    words = variant_words(variant, VARIANTS)
    if {"band", "chamber"} <= words:
        raise ValueError("the variants 'band' and 'chamber' are two corpora: give one")
    corpus = "band" if "band" in words else "chamber" if "chamber" in words else "musdb18"
    stems = tuple(INSTRUMENTS) if corpus == "chamber" else FOUR_STEMS
    view = {stem: (stem,) for stem in stems}
    data = Data(streams={"cvae": Stream(corpus, RandomSplit(), view)})
    if "debug" in words:
        system = Lee2019(
            stems, window_length=64, hop_length=32, frames=16, query_channels=(8, 16), query_hidden=8, channels=(8, 16)
        )
        train = Train(
            steps=4,
            batch_size=2,
            log_every=2,
            validate_every=2,
            validation_batches=1,
            save_every=2,
            summary_every=4,
            workers=0,
            condition_windows=1,
        )
        return Experiment(system, data, train, TestList(mixtures=2, seconds=1.0))
    return Experiment(
        Lee2019(stems), data, Train(steps=600_000, batch_size=5, validate_every=5_000, save_every=5_000), TestList()
    )
