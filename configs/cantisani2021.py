"""Cantisani, Ozerov, Essid, Richard 2021, "User-guided one-shot deep model adaptation for music source separation".

This config pretrains the model that is adapted: Conv-TasNet for music (Défossez et al. 2019). Data: MUSDB18 in stereo
at 44.1 kHz. L1 loss on waveforms, Adam at 3e-4, batches of 64 excerpts of 1.8 s; stems are shifted, their sign is
flipped, their channels are swapped, and stems of different songs are mixed. 180 epochs, each of twice the excerpts of
the training songs. `adapt` then fine-tunes the model on single songs by Ranger at 1e-5, in 10 epochs over chunks of
10 s, from annotations of when each stem sounds. The last command computes the table of the paper's slides.

    qsep prepare musdb18 --source MUSDB18
    qsep train --config cantisani2021 --workdir runs/tasnet
    qsep adapt song.wav --model runs/tasnet --activations song.csv --out adapted
    python -m benchmarks.papers.cantisani2021.slide --model runs/tasnet --corpus musdb18 --out runs/slide
    python -m benchmarks.papers.cantisani2021 --data DIR --out DIR    (all of this by one command)

Time: not run at this size here. A step of one example takes 5.16 s on two cores of an AMD EPYC (docs/scaling.md).

Variants, separated by commas:

- `pretrain` (the default) and `l1` to `l5` train the same model. They differ in the parameters that `adapt` trains if
  no `--split` is given: the last three repeats (`l1`), two, one (`l3`, as without a variant) or less (`l4`, `l5`).
- `all` trains on all 100 songs of MUSDB18, without validation, and the last checkpoint is used. Without it, 14 songs
  are the validation split, and the checkpoint with the lowest loss on them is used. It takes the corpus of
  `qsep prepare musdb18 --source MUSDB18 --validation none --name musdb18_all`.
- `band` trains on the built-in corpus `band`, which is rendered from scores.
- `small` is a network that two CPU cores can train; `_small` lists its departures.
- `debug` runs through everything in seconds.

Departure from the published code: `adapt` trains the decoder, too, as the slides and their parameter counts say.
docs/cantisani2021.md lists all differences between slides, code and this implementation.
"""

import dataclasses

from data_pipelines.recipes.mixing import Remix
from data_pipelines.streams import Data, Stream
from data_pipelines.testlist import TestList
from qsep_jax.runs.experiment import Experiment, variant_words
from qsep_jax.systems.cantisani2021 import SPLITS, Cantisani2021
from qsep_jax.training.settings import DEBUG, Train

VARIANTS = ("pretrain", *SPLITS, "band", "all", "small")
# Steps of an epoch: 100 songs of 4 minutes in excerpts one second apart, twice, in batches of 64.
EPOCH = 100 * 240 * 2 // 64


def get_config(variant: str = "") -> Experiment:
    words = variant_words(variant, VARIANTS)
    named = words & {"pretrain", *SPLITS}
    if len(named) > 1:
        raise ValueError(f"the variants {', '.join(sorted(named))} exclude one another: give one")
    if {"band", "all"} <= words:
        raise ValueError("the variants all and band are different corpora: give one")
    system, evaluation = Cantisani2021(), TestList()
    train = Train(steps=180 * EPOCH, batch_size=64, validate_every=EPOCH, validation_batches=50, save_every=EPOCH)
    if "small" in words:
        system, train = _small(system)
    if "debug" in words:
        system, train, evaluation = _debug(system)
    trainable = system.adaptation_presets()[next(iter(named - {"pretrain"}), "l3")]
    system = dataclasses.replace(system, adaptation=dataclasses.replace(system.adaptation, trainable=trainable))
    corpus = "band" if "band" in words else "musdb18_all" if "all" in words else "musdb18"
    if "all" in words:
        train = dataclasses.replace(train, validate_every=0)
    view = {stem: (stem,) for stem in system.stems}
    streams = {"separation": Stream(corpus, Remix(), view, channels=system.channels)}
    return Experiment(system, Data(streams=streams), train, evaluation)


def _small(system: Cantisani2021) -> tuple[Cantisani2021, Train]:
    """8 kHz, half the filters, a quarter of the widths, seven dilations, a higher learning rate, 8 examples."""
    system = dataclasses.replace(
        system,
        sample_rate=8_000,
        samples=16_000,
        chunk=80_000,
        filters=128,
        bottleneck=64,
        hidden=128,
        blocks=7,
        optimizer=dataclasses.replace(system.optimizer, learning_rate=1e-3),
    )
    return system, Train(steps=3_000, batch_size=8, validate_every=250, validation_batches=20, save_every=250)


def _debug(system: Cantisani2021) -> tuple[Cantisani2021, Train, TestList]:
    """Three repeats of two narrow blocks on a quarter of a second; two epochs of adaptation over half seconds."""
    system = dataclasses.replace(
        system,
        sample_rate=8_000,
        samples=2_000,
        chunk=4_000,
        filters=8,
        window=8,
        bottleneck=6,
        hidden=10,
        blocks=2,
        repeats=3,
        adaptation=dataclasses.replace(system.adaptation, epochs=2, seconds=0.5, hop=0.25),
    )
    return system, DEBUG, TestList(mixtures=2, seconds=0.5)
