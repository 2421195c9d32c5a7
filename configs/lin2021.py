"""Lin, Kong, Jiang, Xia 2021, "A unified model for zero-shot music source separation, transcription and synthesis"
(ISMIR): Table 1.

Data: URMP at 16 kHz in clips of 3 s. A mixture has two instruments of the eight that the training songs have. STFT
2048/160, batches of 12 pairs, AMSGrad at 5e-4, 200 epochs of 520 batches. The five systems of the table are the
variants `amt`, `mss`, `multitask`, `msi` (the default) and `msi_dis`.

    qsep prepare urmp --source URMP --sample-rate 16000
    qsep train --config lin2021:msi --workdir runs/msi
    python -m benchmarks.papers.lin2021.table --workdir runs/msi --workdir runs/mss --out runs/table

Time: not run at this size here. A step of 4 pairs of `msi` takes 4.78 s on two cores of an AMD EPYC (docs/scaling.md).

Further variants, separated by commas:

- `published` trains on the 55 tracks of URMP that the authors' lists name, prepared under a name of their own:
  `qsep prepare urmp --name urmp_published --source URMP --tracks published --sample-rate 16000`.
- `chamber` trains on the built-in corpus `chamber_shifted`, rendered from scores.
- `small` is a narrower model that two CPU cores train in about an hour (measured with five runs at a time), also on
  `chamber_shifted`; `_small` lists its departures.
- `paper` follows the paper where the authors' code, which is the default, differs.
- `debug` runs through everything in seconds.

Departures from the authors' code: frames are centred in their hop, so that 3 s give 300 frames and not 301; without
`published`, the training tracks are the 68 of URMP that share no song with the test set, while the authors list 55.
docs/lin2021.md has the complete list.
"""

import dataclasses

from data_pipelines.recipes.instrument_pairs import InstrumentPairs
from data_pipelines.schema import SEEN_INSTRUMENTS
from data_pipelines.streams import Data, Stream
from data_pipelines.testlist import TestList
from qsep_jax.runs.experiment import Experiment, variant_words
from qsep_jax.systems.base import Optimizer
from qsep_jax.systems.lin2021 import STREAM, Lin2021
from qsep_jax.training.settings import DEBUG, Train

SYSTEMS = {
    "amt": Lin2021(decoding="nothing"),
    "mss": Lin2021(decoding="skips", transcription=False),
    "multitask": Lin2021(decoding="skips"),
    "msi": Lin2021(),
    "msi_dis": Lin2021(translation_invariance=True),
}
VARIANTS = (*SYSTEMS, "published", "chamber", "small", "paper")
# Steps of an epoch.
EPOCH = 520


def get_config(variant: str = "") -> Experiment:
    words = variant_words(variant, VARIANTS)
    named = words & set(SYSTEMS)
    if len(named) > 1:
        raise ValueError(f"the variants {', '.join(sorted(named))} are different systems: give one")
    system, evaluation = SYSTEMS[next(iter(named), "msi")], TestList(kind="pairs", seconds=4.0)
    train = Train(steps=200 * EPOCH, batch_size=12, validate_every=0, save_every=EPOCH, keep=10)
    if "paper" in words:
        system = _paper(system)
    if "small" in words:
        system, train = _small(system)
    if "debug" in words:
        system, train, evaluation = _debug(system)
    corpus = "chamber_shifted" if words & {"chamber", "small"} else "urmp"
    if "published" in words:
        if corpus != "urmp":
            raise ValueError(f"the variant 'published' names tracks of URMP, not of {corpus}: give one of them")
        corpus = "urmp_published"
    streams = {STREAM: Stream(corpus, InstrumentPairs(), {stem: (stem,) for stem in SEEN_INSTRUMENTS})}
    return Experiment(system, Data(streams=streams), train, evaluation)


def _paper(system: Lin2021) -> Lin2021:
    """The paper's statement for each field in which the authors' code differs."""
    return dataclasses.replace(
        system,
        window_length=1024,
        fft_length=2048,
        query_layers=2,
        pooling="max",
        normalise_timbre=False,
        query_form="norm",
        query_clips=3,
        second_mixture="target",
        joint=True,
    )


def _small(system: Lin2021) -> tuple[Lin2021, Train]:
    """8 kHz, a window of 512 (as long as 1024 at 16 kHz), 50 frames per second, five narrow levels; clips of 3 s.

    Also a higher learning rate, 2e-3. Twelve pairs as in the paper; checkpoints after every thirtieth of the steps.
    """
    system = dataclasses.replace(
        system,
        sample_rate=8_000,
        window_length=512,
        fft_length=system.fft_length // 2,
        hop_length=160,
        frames=150,
        channels=(2, 4, 8, 12, 16),
        transcriber_channels=(32, 48),
        optimizer=Optimizer("amsgrad", learning_rate=2e-3),
    )
    return system, Train(steps=3_000, batch_size=12, validate_every=0, save_every=100, keep=10, workers=0)


def _debug(system: Lin2021) -> tuple[Lin2021, Train, TestList]:
    """Three levels of few channels, 16 frames and a small transcriber."""
    system = dataclasses.replace(
        system,
        window_length=64,
        fft_length=128 if system.fft_length else 0,
        hop_length=32,
        frames=16,
        channels=(4, 4, 8),
        transcriber_channels=(8,),
    )
    return system, DEBUG, TestList(kind="pairs", mixtures=2, seconds=1.0)
