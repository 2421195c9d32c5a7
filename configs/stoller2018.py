"""Stoller, Ewert, Dixon 2018, "Adversarial semi-supervised audio source separation": singing voice, as published.

Mono at 8,192 Hz, STFT 512/256, patches of 64 frames with real context. The 50 training songs of DSD100 have stems. Of
MedleyDB, CCMixter and iKala, a third of each is without: mixtures and sources from it are drawn independently, times a
gain from U(0.2, 1.2). Five updates of the critics for one of the separator; Adam, 5e-5; mini-batches of 64; α = β =
0.001, penalty 10, one-sided. After each 1,000 updates the songs of the validation split are tried, and the first time
that they have not become better the training ends. Tested on the other half of DSD100's test songs and the last thirds.

    python -m data_pipelines.prepare dsd100 --source DSD100 --sample-rate 8192    (and medleydb, ccmixter, ikala)
    python -m qsep_jax.train --config configs/stoller2018.py:va --workdir runs/va
    python -m qsep_jax.evaluate --workdir runs/va --protocol bss_eval_v3 --corpus dsd100 --channels 1

Variants, separated by commas: `supervised` is the baseline, `v` has a critic of the voice, `va` (the default) of the
accompaniment, too. `band` takes 5 songs with stems from the corpus that is made on the spot, and everything else from
songs played by another SoundFont; `four` has its four stems instead of two. `small` is what two CPU cores can train,
with the departures that its function lists; `debug` is tiny. See docs/stoller2018.md.
"""

import dataclasses

from data_pipelines.pipeline import Data, Stream
from data_pipelines.prepared.corpus import View
from data_pipelines.recipes.unpaired import PairedExcerpt, SoloExcerpt, UnpairedMixture
from data_pipelines.schema import FOUR_STEMS
from data_pipelines.testlist import TestList
from qsep_jax.runs.experiment import Experiment, variant_words
from qsep_jax.systems.stoller2018 import CRITIC_MIXTURES, MIXTURES, PAIRED, Stoller2018
from qsep_jax.training.settings import DEBUG, Train

CRITICS = {"supervised": (), "v": ("vocals",), "va": ("vocals", "accompaniment")}
VARIANTS = (*CRITICS, "band", "four", "small")
EPOCH = 1_000
# Corpora of two stems store the accompaniment, the others what it is the sum of.
TWO_STEMS: View = {"vocals": ("vocals",), "accompaniment": ("accompaniment", "drums", "bass", "other")}
UNPAIRED = "medleydb+ccmixter+ikala"
EVERYWHERE = f"dsd100+{UNPAIRED}"


def get_config(variant: str = "") -> Experiment:
    words = variant_words(variant, VARIANTS)
    named = words & set(CRITICS)
    if len(named) > 1:
        raise ValueError(f"the variants {', '.join(sorted(named))} are different trainings: give one")
    if "four" in words and "band" not in words:
        raise ValueError("only the corpora of the variant 'band' have four stems: give band,four")
    view = {stem: (stem,) for stem in FOUR_STEMS} if "four" in words else TWO_STEMS
    critics = CRITICS[next(iter(named), "va")]
    if "four" in words and len(critics) > 1:
        critics = FOUR_STEMS
    system = Stoller2018(tuple(view), critics=critics)
    train = Train(
        steps=100 * EPOCH,
        batch_size=64,
        validate_every=EPOCH,
        validation_batches=100,
        save_every=EPOCH,
        patience=1,
    )
    if "small" in words:
        system, train = _small(system, train)
    if "debug" in words:
        tiny = {"window_length": 64, "hop_length": 32, "frames": 8, "channels": (4, 8), "critic_channels": 4}
        system, train = dataclasses.replace(system, **tiny, critic_hidden=4, critic_updates=2), DEBUG
    streams, validation = _streams(system, view, "band" in words)
    corpus = "band_fluid" if "band" in words else EVERYWHERE
    evaluation = TestList(corpus=corpus)
    if "debug" in words:
        evaluation = dataclasses.replace(evaluation, mixtures=2, seconds=1.0)
    return Experiment(system, Data(streams=streams, validation=validation), train, evaluation)


def _streams(system: Stoller2018, view: View, band: bool) -> tuple[dict[str, Stream], dict[str, Stream]]:
    """What the phases take; what there is to validate on."""
    paired = Stream("dsd100", PairedExcerpt(), view)
    validation = {PAIRED: dataclasses.replace(paired, corpus=EVERYWHERE)}
    unpaired, half = UNPAIRED, 0
    if band:
        paired, validation = dataclasses.replace(paired, corpus="band", tracks=5), {}
        unpaired, half = "band_fluid", 40  # mixtures of the first songs, sources of the others
    streams = {PAIRED: paired}
    if system.critics:
        mixtures = Stream(unpaired, UnpairedMixture(), view, tracks=half)
        streams |= {MIXTURES: mixtures, CRITIC_MIXTURES: mixtures}
        for stem in system.critics:
            streams[stem] = Stream(unpaired, SoloExcerpt(), {stem: view[stem]}, first=half)
    return streams, validation


def _small(system: Stoller2018, train: Train) -> tuple[Stoller2018, Train]:
    """Half the channels, a quarter of the critics', a higher rate, 8 examples; always the same number of updates."""
    system = dataclasses.replace(
        system,
        frames=32,
        channels=(8, 16, 32, 64),
        critic_channels=8,
        optimizer=dataclasses.replace(system.optimizer, learning_rate=5e-4),
        critic_optimizer=dataclasses.replace(system.critic_optimizer, learning_rate=5e-4),
    )
    settings = {"steps": 2_000, "batch_size": 8, "validate_every": 250, "validation_batches": 50, "save_every": 250}
    return system, dataclasses.replace(train, **settings, patience=0)
