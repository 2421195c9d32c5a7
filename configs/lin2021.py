"""Lin, Kong, Jiang, Xia 2021, "A unified model for zero-shot music source separation, transcription and synthesis"
(ISMIR): Table 1.

Two instruments of URMP per mixture, drawn from the eight that the training songs have, at 16 kHz in 3-s clips; STFT
2048/160; mini-batches of 12 pairs; AMSGrad 5e-4; 200 epochs of 520 batches. The five systems of the table are the
variants `amt`, `mss`, `multitask`, `msi` (the default) and `msi_dis`.

    python -m data_pipelines.prepare urmp --source URMP --sample-rate 16000
    python -m qsep_jax.train --config configs/lin2021.py:msi --workdir runs/msi

Further variants, separated by commas: `chamber` trains on a corpus that is made on the spot instead; `small` is what
two CPU cores can train, with the departures that its function lists; `paper` takes the paper's word where its code
differs (both are described in docs/lin2021.md); `debug` is tiny.

Where it departs from the authors' code: frames are centred in their hop, so 3 s are 300 of them and not 301; the
training tracks are all of URMP's that share no song with the test, 68 instead of the 55 that are published.
"""

import dataclasses

from data_pipelines.pipeline import Data, Stream
from data_pipelines.recipes.instrument_pairs import InstrumentPairs
from data_pipelines.schema import SEEN_INSTRUMENTS
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
VARIANTS = (*SYSTEMS, "chamber", "small", "paper")
EPOCH = 520


def get_config(variant: str = "") -> Experiment:
    words = variant_words(variant, VARIANTS)
    named = words & set(SYSTEMS)
    if len(named) > 1:
        raise ValueError(f"the variants {', '.join(sorted(named))} are different systems: give one")
    system = SYSTEMS[next(iter(named), "msi")]
    if "paper" in words:
        system = dataclasses.replace(
            system,
            window_length=1024,
            query_layers=2,
            pooling="max",
            normalise_timbre=False,
            query_form="norm",
            query_clips=3,
            second_mixture="target",
        )
    corpus = "chamber_shifted" if words & {"chamber", "small"} else "urmp"
    data = Data(streams={STREAM: Stream(corpus, InstrumentPairs(), {stem: (stem,) for stem in SEEN_INSTRUMENTS})})
    train = Train(steps=200 * EPOCH, batch_size=12, validate_every=0, save_every=EPOCH, keep=10)
    evaluation = TestList(kind="pairs", seconds=4.0)
    if "small" in words:
        system, train = _small(system)
    if "debug" in words:
        system = dataclasses.replace(
            system, window_length=64, hop_length=32, frames=16, channels=(4, 4, 8), transcriber_channels=(8,)
        )
        train = DEBUG
        evaluation = TestList(kind="pairs", mixtures=2, seconds=1.0)
    return Experiment(system, data, train, evaluation)


def _small(system: Lin2021) -> tuple[Lin2021, Train]:
    """8 kHz, a window of 512 (as long as 1024 at 16 kHz), 50 frames per second, clips of 0.64 s, five narrow levels.

    Also a higher rate, 2e-3. Twelve pairs as in the paper; checkpoints at every thirtieth of the way.
    """
    system = dataclasses.replace(
        system,
        sample_rate=8_000,
        window_length=512,
        hop_length=160,
        frames=32,
        channels=(2, 4, 8, 12, 16),
        transcriber_channels=(32, 48),
        optimizer=Optimizer("amsgrad", learning_rate=2e-3),
    )
    return system, Train(steps=3_000, batch_size=12, validate_every=0, save_every=100, keep=10, workers=0)
