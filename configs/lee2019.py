"""Lee, Choi, Lee 2019, "Audio query-based music source separation" (ISMIR), in the setting of its §4.1 to §4.3.

Data: MUSDB18 at 22.05 kHz in examples of 3 s. Each of the four classes comes from a random track of its own, is present
with probability 0.5 and scaled by U[0.25, 1.25]. STFT 1024/256, a latent of 32, loss weights 10, 0.01 and 0.5. Adam
(2e-4, 0.5, 0.999); the learning rate falls by 5e-6 every 10,000 updates after 200,000 and so reaches 0 at 600,000.

    qsep prepare musdb18 --source MUSDB18 --sample-rate 22050
    qsep train --config lee2019 --workdir runs/lee2019
    python -m benchmarks.papers.lee2019.table --workdir runs/lee2019     # Table 1

Time: not run at this size here. A step of 2 examples takes 4.28 s on two cores of an AMD EPYC (docs/scaling.md).

Variants, separated by commas:

- `band` and `chamber` train on a built-in corpus, rendered from scores, instead of MUSDB18.
- `all` trains on all 100 songs of MUSDB18, as the paper does; without it, 14 of them are the validation split, and the
  checkpoint with the lowest loss on them is used. With it nothing is validated, and the last checkpoint is used. It
  takes the corpus of `qsep prepare musdb18 --source MUSDB18 --validation none --name musdb18_all --sample-rate 22050`.
- `small` is a narrower model that two CPU cores train in about an hour; `_small` lists its departures.
- `debug` runs through everything in seconds.

Where the paper is silent: examples are mixed down to mono; an example with a silent target or mixture is drawn again;
every class becomes part of the target or of the rest with equal chance; the Nyquist bin is dropped. docs/lee2019.md has
the complete table.
"""

import dataclasses

from data_pipelines.recipes.mixing import RandomSplit
from data_pipelines.schema import FOUR_STEMS, INSTRUMENTS
from data_pipelines.streams import Data, Stream
from data_pipelines.testlist import TestList
from qsep_jax.runs.experiment import Experiment, variant_words
from qsep_jax.systems.base import Optimizer
from qsep_jax.systems.lee2019 import Lee2019
from qsep_jax.training.settings import DEBUG, Train

VARIANTS = ("band", "chamber", "all", "small", "debug")


def get_config(variant: str = "") -> Experiment:
    words = variant_words(variant, VARIANTS)
    corpora = words & {"band", "chamber", "all"}
    if len(corpora) > 1:
        raise ValueError(f"the variants {' and '.join(sorted(corpora))} are different corpora: give one")
    corpus = "band" if "band" in words else "chamber" if "chamber" in words else "musdb18"
    corpus = "musdb18_all" if "all" in words else corpus
    stems = tuple(INSTRUMENTS) if corpus == "chamber" else FOUR_STEMS
    stream = Stream(corpus, RandomSplit(), {stem: (stem,) for stem in stems})
    train = Train(steps=600_000, batch_size=5, validate_every=5_000, save_every=5_000)
    experiment = Experiment(Lee2019(stems), Data(streams={"cvae": stream}), train, TestList())
    if "debug" in words:
        experiment = _debug(experiment)
    elif "small" in words:
        experiment = _small(experiment)
    if "all" in words:
        experiment = dataclasses.replace(experiment, train=dataclasses.replace(experiment.train, validate_every=0))
    return experiment


def _small(experiment: Experiment) -> Experiment:
    """Narrower networks, 50 % overlap and an eighth of the frames; 16 kHz and one to four instruments on `chamber`.

    As in the quickstart: log1p, no latent regression, a weak KL term with small initial variances, Adam at 1e-3 with a
    cosine schedule, averaged parameters; on `chamber` a single target, with a query from another work. On `band` the
    recipe is that of the paper.
    """
    stream = experiment.data.streams["cvae"]
    chamber = stream.corpus == "chamber"
    system = Lee2019(
        experiment.system.stems,
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
    return Experiment(system, Data(streams={"cvae": dataclasses.replace(stream, recipe=recipe)}), train, evaluation)


def _debug(experiment: Experiment) -> Experiment:
    """Two levels of few channels and 16 frames; the full size otherwise, also with the variant `small`."""
    system = Lee2019(
        experiment.system.stems,
        window_length=64,
        hop_length=32,
        frames=16,
        query_channels=(8, 16),
        query_hidden=8,
        channels=(8, 16),
    )
    return Experiment(system, experiment.data, DEBUG, TestList(mixtures=2, seconds=1.0))
