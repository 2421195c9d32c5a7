"""Lee, Choi, Lee 2019, "Audio query-based music source separation" (ISMIR): the paper's setting, its §4.1 to §4.3.

MUSDB18 at 22.05 kHz in 3-s examples, each of the four classes from its own random track, present with probability 0.5
and scaled by U[0.25, 1.25]; STFT 1024/256; latent of 32; weights 10, 0.01 and 0.5; Adam (2e-4, 0.5, 0.999), which
loses 5e-6 every 10,000 updates after 200,000 and so ends at 600,000.

    python -m data_pipelines.prepare musdb18 --source MUSDB18 --sample-rate 22050
    python -m qsep_jax.train --config configs/lee2019.py --workdir runs/lee2019

Variants, separated by commas: `band` and `chamber` train on a corpus that is made on the spot instead; `small` is what
two CPU cores learn in under an hour, with the departures that its function lists; `debug` is tiny.

Where the paper is silent: examples are mixed down to mono; an empty target or mixture is drawn again; every class goes
to target or rest with equal chance; the Nyquist bin is dropped. See docs/lee2019.md.
"""

from data_pipelines.pipeline import Data, Stream
from data_pipelines.prepared.corpus import View
from data_pipelines.recipes.mixing import RandomSplit
from data_pipelines.schema import FOUR_STEMS, INSTRUMENTS
from data_pipelines.testlist import TestList
from qsep_jax.runs.experiment import Experiment, variant_words
from qsep_jax.systems.base import Optimizer
from qsep_jax.systems.lee2019 import Lee2019
from qsep_jax.training.settings import DEBUG, Train

VARIANTS = ("band", "chamber", "small", "debug")


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
        return Experiment(system, data, DEBUG, TestList(mixtures=2, seconds=1.0))
    if "small" in words:
        return _small(stems, corpus, view)
    return Experiment(
        Lee2019(stems), data, Train(steps=600_000, batch_size=5, validate_every=5_000, save_every=5_000), TestList()
    )


def _small(stems: tuple[str, ...], corpus: str, view: View) -> Experiment:
    """Narrower networks, 50 % overlap and an eighth of the frames; 16 kHz and one to four instruments on `chamber`.

    Also as in the quickstart: log1p, no latent regression, a weak KL from a narrow start, Adam 1e-3 with a cosine,
    averaged parameters; on `chamber` a single target, asked for by another work. `band` keeps the paper's recipe.
    """
    chamber = corpus == "chamber"
    system = Lee2019(
        stems,
        sample_rate=16_000 if chamber else 22_050,
        hop_length=512,
        frames=32,
        compression="log1p",
        query_channels=(16, 16, 32, 32, 64, 64),
        query_hidden=64,
        channels=(16, 32, 64, 96, 96, 96),
        initial_log_variance=-8.0,
        kl_weight=1e-4,
        latent_weight=0.0,
        optimizer=Optimizer(learning_rate=1e-3, schedule="cosine", warmup=100, clip_norm=5.0),
    )
    recipe = RandomSplit(classes=4, targets=1, other_query=1.0) if chamber else RandomSplit()
    train = Train(
        steps=8_000, batch_size=8, ema_decay=0.995, validate_every=400, validation_batches=16, save_every=400, workers=0
    )
    evaluation = TestList(kind="pairs", seconds=4.0) if chamber else TestList()
    return Experiment(system, Data(streams={"cvae": Stream(corpus, recipe, view)}), train, evaluation)
