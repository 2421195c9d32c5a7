"""Stoller, Ewert, Dixon 2018, "Adversarial semi-supervised audio source separation": the table of the slides.

Data: singing voice and accompaniment, mono at 8,192 Hz. The 50 training songs of DSD100 have stems. A third each of
MedleyDB, CCMixter and iKala has none: mixtures and real recordings of the sources are drawn from it independently, with
a gain from U(0.2, 1.2); songs without the source give silence. Tested on half of DSD100's test songs and on the last
thirds.

Training: STFT 512/256, patches of 64 frames with real context, five updates of the critics for one of the separator,
Adam at 5e-5, batches of 64, α = β = 0.001, one-sided penalty of weight 10. An epoch has 1,000 steps; the first epoch
that does not lower the validation loss is the last.

    qsep prepare dsd100 --source DSD100 --sample-rate 8192    (and medleydb, ccmixter, ikala)
    qsep train --config stoller2018:va --workdir runs/va
    qsep evaluate --workdir runs/va --protocol bss_eval_v3 --corpus dsd100 --channels 1
    python -m benchmarks.papers.stoller2018.table --runs runs/supervised runs/v runs/va --out runs/table
    python -m benchmarks.papers.stoller2018 --data DIR --out DIR    (all of this by one command)

Time: not run on these corpora here. A step of `va` with 4 examples takes 1.41 s on two cores of an AMD EPYC
(docs/scaling.md).

Variants, separated by commas:

- `supervised` is the baseline without critics, `v` has a critic of the voice, `va` (the default) also one of the
  accompaniment.
- `band` takes 5 songs with stems from the built-in corpus `band`, and everything else from `band_fluid`, the same
  corpus rendered with another SoundFont.
- `instrumental`, with `band`, takes `band_fluid_instrumental` instead, in which a quarter of the songs outside of the
  test split have no vocals. Its test songs are those of `band_fluid`.
- `four`, with `band`, separates the four stems of that corpus instead of two.
- `small` is a model that two CPU cores can train; `_small` lists its departures.
- `debug` runs through everything in seconds.

Departures: the defaults follow the published code. docs/stoller2018.md lists where the slides or this implementation
differ from it.
"""

import dataclasses

from data_pipelines.prepared.corpus import View
from data_pipelines.recipes.unpaired import PairedExcerpt, SoloExcerpt, UnpairedMixture
from data_pipelines.schema import FOUR_STEMS
from data_pipelines.streams import Data, Stream
from data_pipelines.testlist import TestList
from qsep_jax.runs.experiment import Experiment, variant_words
from qsep_jax.systems.stoller2018 import CRITIC_MIXTURES, MIXTURES, PAIRED, Stoller2018
from qsep_jax.training.settings import DEBUG, Train

CRITICS = {"supervised": (), "v": ("vocals",), "va": ("vocals", "accompaniment")}
VARIANTS = (*CRITICS, "band", "four", "instrumental", "small")
# Steps of an epoch.
EPOCH = 1_000
# Corpora with two stems store the accompaniment, the others the stems that it is the sum of.
TWO_STEMS: View = {"vocals": ("vocals",), "accompaniment": ("accompaniment", "drums", "bass", "other")}
UNPAIRED = "medleydb+ccmixter+ikala"
ALL_CORPORA = f"dsd100+{UNPAIRED}"


def get_config(variant: str = "") -> Experiment:
    words = variant_words(variant, VARIANTS)
    named = words & set(CRITICS)
    if len(named) > 1:
        raise ValueError(f"the variants {', '.join(sorted(named))} are different trainings: give one")
    if "four" in words and "band" not in words:
        raise ValueError("only the corpora of the variant 'band' have four stems: give band,four")
    if "instrumental" in words and "band" not in words:
        raise ValueError("the published corpora have instrumental songs already: give band,instrumental")
    view = {stem: (stem,) for stem in FOUR_STEMS} if "four" in words else TWO_STEMS
    critics = CRITICS[next(iter(named), "va")]
    if "four" in words and len(critics) > 1:
        critics = FOUR_STEMS
    system, evaluation = Stoller2018(tuple(view), critics=critics), TestList()
    train = Train(
        steps=100 * EPOCH,
        batch_size=64,
        validate_every=EPOCH,
        validation_batches=100,
        save_every=EPOCH,
        patience=1,
    )
    if "small" in words:
        system, train = _small(system)
    if "debug" in words:
        system, train, evaluation = _debug(system)
    unpaired = "band_fluid_instrumental" if "instrumental" in words else "band_fluid"
    data, corpus = _band(system, view, unpaired) if "band" in words else _published(system, view)
    return Experiment(system, data, train, dataclasses.replace(evaluation, corpus=corpus))


def _published(system: Stoller2018, view: View) -> tuple[Data, str]:
    """The streams of the published corpora, and the corpora of the test set."""
    paired = Stream("dsd100", PairedExcerpt(), view)
    streams = {PAIRED: paired, **_unpaired(system, view, UNPAIRED)}
    # The published code validates on all patches of all songs. With draws by song, iKala's clips of 30 s would be 51 %.
    validation = dataclasses.replace(paired, corpus=ALL_CORPORA, recipe=PairedExcerpt(draw="seconds"))
    return Data(streams=streams, validation={PAIRED: validation}), ALL_CORPORA


def _band(system: Stoller2018, view: View, unpaired: str) -> tuple[Data, str]:
    """The streams of the built-in corpora, and that of the test set: the first 40 songs give mixtures only."""
    paired = Stream("band", PairedExcerpt(), view, tracks=5)
    return Data(streams={PAIRED: paired, **_unpaired(system, view, unpaired, 40)}), unpaired


def _unpaired(system: Stoller2018, view: View, corpus: str, mixtures: int = 0) -> dict[str, Stream]:
    """The streams of the critics: mixtures of the first `mixtures` songs, sources of the others (0: all of all)."""
    if not system.critics:
        return {}
    mixture = Stream(corpus, UnpairedMixture(), view, tracks=mixtures)
    # Songs without the source are real examples too: silence, as in the published code.
    real = SoloExcerpt(absent="silent")
    sources = {stem: Stream(corpus, real, {stem: view[stem]}, first=mixtures) for stem in system.critics}
    return {MIXTURES: mixture, CRITIC_MIXTURES: mixture, **sources}


def _small(system: Stoller2018) -> tuple[Stoller2018, Train]:
    """Half the channels, a quarter of the critics' channels, a higher learning rate, 8 examples, no early stopping."""
    system = dataclasses.replace(
        system,
        frames=32,
        channels=(8, 16, 32, 64),
        critic_channels=8,
        optimizer=dataclasses.replace(system.optimizer, learning_rate=5e-4),
        critic_optimizer=dataclasses.replace(system.critic_optimizer, learning_rate=5e-4),
    )
    return system, Train(steps=2_000, batch_size=8, validate_every=250, validation_batches=50, save_every=250)


def _debug(system: Stoller2018) -> tuple[Stoller2018, Train, TestList]:
    """Two levels of few channels, patches of 8 frames, two updates of small critics."""
    system = dataclasses.replace(
        system,
        window_length=64,
        hop_length=32,
        frames=8,
        channels=(4, 8),
        critic_channels=4,
        critic_hidden=4,
        critic_updates=2,
    )
    return system, DEBUG, TestList(mixtures=2, seconds=1.0)
