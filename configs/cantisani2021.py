"""Cantisani, Ozerov, Essid, Richard 2021, "User-guided one-shot deep model adaptation for music source separation".

Pretraining is that of Conv-TasNet for music (Défossez et al. 2019): MUSDB18 in stereo at 44.1 kHz, L1 on waveforms,
Adam at 3e-4, mini-batches of 64 excerpts of 1.8 s, stems shifted, flipped, swapped and dealt out among songs; published
are 180 passes over twice the training songs' excerpts. Then `adapt` bends the model to single songs by Ranger at 1e-5,
10 passes over 10-s chunks, on when their stems sound.

    python -m data_pipelines.prepare musdb18 --source MUSDB18
    python -m qsep_jax.train --config configs/cantisani2021.py --workdir runs/tasnet
    python -m qsep_jax.adapt --model runs/tasnet song.wav --activations song.csv --out adapted

Variants, separated by commas: `pretrain` (the default) and `l1` … `l5` are the same training; they differ in what of
the network `adapt` trains when it is not told (`--split`): the last three, two, one repeats (`l3`, the default) or
less, up to the decoder, which the published code leaves out and the paper's counts hold. `band` trains on the corpus
that is made on the spot, `small` is a network that two CPU cores can train, `debug` is tiny. See docs/cantisani2021.md.
"""

import dataclasses

from data_pipelines.pipeline import Data, Stream
from data_pipelines.recipes.mixing import Remix
from data_pipelines.testlist import TestList
from qsep_jax.runs.experiment import Experiment, variant_words
from qsep_jax.systems.cantisani2021 import SPLITS, Cantisani2021
from qsep_jax.training.settings import DEBUG, Train

VARIANTS = ("pretrain", *SPLITS, "band", "small")
# 100 songs of 4 minutes in excerpts a second apart, twice, in mini-batches of 64.
EPOCH = 100 * 240 * 2 // 64


def get_config(variant: str = "") -> Experiment:
    words = variant_words(variant, VARIANTS)
    named = words & {"pretrain", *SPLITS}
    if len(named) > 1:
        raise ValueError(f"the variants {', '.join(sorted(named))} exclude one another: give one")
    system = Cantisani2021()
    train = Train(steps=180 * EPOCH, batch_size=64, validate_every=EPOCH, validation_batches=50, save_every=EPOCH)
    if "small" in words:
        system, train = _small(system, train)
    if "debug" in words:
        tiny = {"sample_rate": 8_000, "samples": 2_000, "chunk": 4_000, "filters": 8, "window": 8}
        system = dataclasses.replace(system, **tiny, bottleneck=6, hidden=10, blocks=2, repeats=3)
        tiny_song = {"epochs": 2, "seconds": 0.5, "hop": 0.25}
        system = dataclasses.replace(system, adaptation=dataclasses.replace(system.adaptation, **tiny_song))
        train = DEBUG
    split = next(iter(named - {"pretrain"}), "l3")
    trainable = system.adaptation_presets()[split]
    system = dataclasses.replace(system, adaptation=dataclasses.replace(system.adaptation, trainable=trainable))
    corpus = "band" if "band" in words else "musdb18"
    view = {stem: (stem,) for stem in system.stems}
    streams = {"separation": Stream(corpus, Remix(), view, channels=system.channels)}
    evaluation = TestList(mixtures=2, seconds=0.5) if "debug" in words else TestList()
    return Experiment(system, Data(streams=streams), train, evaluation)


def _small(system: Cantisani2021, train: Train) -> tuple[Cantisani2021, Train]:
    """8 kHz, half the filters, a quarter of the widths, seven dilations, a higher rate, 8 examples."""
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
    settings = {"steps": 3_000, "batch_size": 8, "validate_every": 250, "validation_batches": 20, "save_every": 250}
    return system, dataclasses.replace(train, **settings)
