"""Slizovskaia, Haro, Gómez 2021, "Conditioned source separation for musical instrument performances" (TASLP): Table V.

Data: Solos at 11,025 Hz. A mixture has 2 to 7 of 13 instruments, in excerpts of 6 s. Tested on the 40 pieces of URMP
with two instruments or more. STFT 1022/256, batches of 32, Adam at 1e-4 as in the code, halved on plateaus, 1,000
epochs of 250 batches. The experiments of the table are the variants `exp1` to `exp21` (`exp6` by default), each defined
by its difference from the one that it is compared with (`EXPERIMENTS`); `exp22` and `exp23` are the two unsuccessful
attempts of section 5.4.

    qsep prepare solos --source SOLOS --sample-rate 11025 --frame-rate 0        # 5 for experiments 12 to 21, on video
    qsep prepare urmp --source URMP --name urmp_pieces --merged --split test --sample-rate 11025
    qsep train --config slizovskaia2021:exp9 --workdir runs/exp9
    qsep evaluate --workdir runs/exp9 --protocol segments --corpus urmp_pieces --wiener 0 2
    python -m benchmarks.papers.slizovskaia2021.tables --runs runs/exp1 runs/exp6 runs/exp9     # Tables II to IV

Models conditioned on video start from ImageNet weights of ResNet-50 in a local file, `--train.weights.resnet FILE`.
`exp19` and `exp20` start from the published files of Sound of Pixels and refuse to run without weights, also with
`small` and `debug`; `exp21` is trained from scratch. docs/slizovskaia2021.md names the addresses of the files.

Time: not run at this size here. A step of `exp9` with 4 examples takes 0.65 s on two cores of an AMD EPYC
(docs/scaling.md).

Further variants, separated by commas:

- `classifier` trains a ResNet to name instruments, which replaces the ImageNet weights where there are none.
- `chamber` takes the built-in corpus `chamber`, rendered from scores, whose players are drawn.
- `small` is a model that two CPU cores can train, also on `chamber`; the functions `_small_…` list its departures.
- `debug` runs through everything in seconds.

Departures: the defaults follow the published code. docs/slizovskaia2021.md lists where the paper or this implementation
differ from it.
"""

import dataclasses
from typing import Any

from data_pipelines.recipes.mix_and_separate import MixAndSeparate
from data_pipelines.streams import Data, Stream
from data_pipelines.testlist import TestList
from qsep_jax.models.resnet import ResNetSize
from qsep_jax.runs.experiment import Experiment, variant_words
from qsep_jax.systems.base import Optimizer, System
from qsep_jax.systems.frame_classifier import FrameClassifier
from qsep_jax.systems.slizovskaia2021 import STREAM, Slizovskaia2021
from qsep_jax.systems.sound_of_pixels import SGD, SoundOfPixels
from qsep_jax.systems.visual import Visual
from qsep_jax.training.settings import DEBUG, Train

BASE = Slizovskaia2021(frequency_scale="logarithmic")
ONE_FRAME, FIVE_FRAMES = Visual(), Visual(frames=5, frozen=True)
LSTM = {
    "visual": dataclasses.replace(FIVE_FRAMES, summary="lstm"),
    "competing": False,
    "optimizer": dataclasses.replace(BASE.optimizer, clip_norm=0.5),
}
# Sound of Pixels: 100 epochs of batches of 80, in which each of the 604 training videos of Solos occurs 100 times.
SOP_BATCH, SOP_EPOCH = 80, 755
SOP_SGD = dataclasses.replace(SGD, schedule="milestones", factor=0.1, milestones=(40 * SOP_EPOCH, 80 * SOP_EPOCH))
# Each experiment: the one that it is compared with, or its system, and the fields in which it differs.
EXPERIMENTS: dict[str, tuple[str | System, dict[str, Any]]] = {
    "exp1": (BASE, {}),
    "exp2": ("exp1", {"curriculum": True}),
    "exp3": ("exp1", {"output": "binary"}),
    "exp4": ("exp1", {"input_noise": 1.0}),
    "exp5": ("exp1", {"level_scale": "log"}),
    "exp6": ("exp1", {"frequency_scale": "linear"}),
    "exp7": ("exp1", {"heads": True}),
    "exp8": ("exp6", {"conditioning": "bottleneck"}),
    "exp9": ("exp6", {"conditioning": "encoder"}),
    "exp10": ("exp6", {"conditioning": "final"}),
    "exp11": ("exp6", {"conditioning": "multiply"}),
    "exp12": ("exp6", {"conditioning": "encoder", "visual": ONE_FRAME, "competing": False}),
    "exp13": ("exp6", {"conditioning": "final", **LSTM}),
    "exp14": ("exp6", {"conditioning": "bottleneck", **LSTM}),
    "exp15": ("exp6", {"conditioning": "bottleneck", "visual": FIVE_FRAMES, "competing": False}),
    "exp16": ("exp6", {"conditioning": "multiply", "visual": ONE_FRAME, "competing": False}),
    "exp17": ("exp6", {"conditioning": "bottleneck", "visual": ONE_FRAME, "competing": False}),
    "exp18": ("exp6", {"conditioning": "final", "visual": ONE_FRAME, "competing": False}),
    "exp19": (SoundOfPixels(optimizer=SOP_SGD), {}),
    "exp20": ("exp19", {}),
    "exp21": ("exp19", {"levels": 5}),
    "exp22": ("exp6", {"output": "magnitude", "competing": False, "common_gain": True}),  # as loud as in the mixture
    "exp23": ("exp6", {"classifier_weight": 1.0}),
}
VARIANTS = (*EXPERIMENTS, "classifier", "chamber", "small")
# Steps of an epoch.
EPOCH = 250
SMALL_RESNET = ResNetSize((1, 1, 1, 1), 16)


def system_of(name: str) -> System:
    """The system of an experiment: its difference, applied to the system that it is compared with."""
    base, difference = EXPERIMENTS[name]
    changed: Any = system_of(base) if isinstance(base, str) else base
    return dataclasses.replace(changed, **difference)


def get_config(variant: str = "") -> Experiment:
    words = variant_words(variant, VARIANTS)
    named = words & {*EXPERIMENTS, "classifier"}
    if len(named) > 1:
        raise ValueError(f"the variants {', '.join(sorted(named))} are different systems: give one")
    name = next(iter(named), "exp6")
    system, evaluation = FrameClassifier() if name == "classifier" else system_of(name), TestList()
    train = Train(
        steps=1000 * EPOCH,
        batch_size=32,
        validate_every=EPOCH,
        validation_batches=62,
        save_every=EPOCH,
        weights={"resnet": "resnet50.safetensors"} if isinstance(system, Slizovskaia2021) and system.visual else {},
    )
    if isinstance(system, SoundOfPixels):
        train = dataclasses.replace(
            train,
            steps=100 * SOP_EPOCH,
            batch_size=SOP_BATCH,
            validate_every=SOP_EPOCH,
            validation_batches=3,
            save_every=SOP_EPOCH,
        )
    if "small" in words:
        system, train = _small(system, train)
    if "debug" in words:
        system, train, evaluation = _debug(system)
    if name in ("exp19", "exp20"):
        required = ("sounds", "synthesizer", "resnet", "head")
        train = dataclasses.replace(train, steps=0 if name == "exp19" else train.steps, requires_weights=required)
    corpus = "chamber" if words & {"chamber", "small"} else "solos"
    # What a frozen network computes from the frames is stored with the corpus once (`qsep frame-features`).
    features = "classifier" if "small" in words and _is_frozen(system) else ""
    streams = {STREAM: Stream(corpus, _recipe(system, features), {stem: (stem,) for stem in system.stems})}
    return Experiment(system, Data(streams=streams), train, evaluation)


def _is_frozen(system: System) -> bool:
    return isinstance(system, Slizovskaia2021) and system.visual is not None and system.visual.frozen


def _recipe(system: System, features: str) -> MixAndSeparate:
    """Mixtures with as many sources, and as many frames of each player, as the system takes."""
    if isinstance(system, FrameClassifier):
        return MixAndSeparate(1, 1, slots=1, frames=1, size=system.size)
    if isinstance(system, SoundOfPixels):
        return MixAndSeparate(2, 2, slots=2, frames=system.frames_seen, spacing=system.spacing, size=system.size)
    if not isinstance(system, Slizovskaia2021):
        raise ValueError(f"no recipe for {type(system).__name__}")
    visual, fewest = system.visual, 7 if system.curriculum else 2
    if visual is None:
        return MixAndSeparate(fewest, 7)
    return MixAndSeparate(
        fewest,
        visual.slots,
        visual.slots,
        frames=visual.frames,
        spacing=visual.spacing,
        size=visual.size,
        features=features,
    )


def _small(system: System, train: Train) -> tuple[System, Train]:
    """A smaller system, 4 examples and at most 3,000 steps; `classifier,small` replaces the ImageNet weights."""
    weights = {}
    if isinstance(system, Slizovskaia2021):
        weights = {"resnet": "runs/classifier"} if system.visual else {}
        if system.asks_who_plays:
            weights["probabilities"] = "runs/classifier"
        system = _small_unet(system)
    elif isinstance(system, SoundOfPixels):
        system = _small_sound_of_pixels(system, milestones=(1_200, 2_400))
    elif isinstance(system, FrameClassifier):
        hidden, optimizer = SMALL_RESNET.features // 2, Optimizer(learning_rate=1e-3)
        system = dataclasses.replace(system, resnet=SMALL_RESNET, size=32, hidden=hidden, optimizer=optimizer)
    train = dataclasses.replace(
        train,
        steps=min(train.steps, 3_000),
        batch_size=4,
        validate_every=250,
        validation_batches=16,
        save_every=250,
        weights=weights,
    )
    return system, train


def _small_unet(system: Slizovskaia2021) -> Slizovskaia2021:
    """Half the channels, a quarter of the frames (1.5 s), a higher learning rate and less patience.

    Players are drawn at 32 pixels and encoded by four bottleneck blocks of a quarter of ResNet-50's width. Where the
    video is turned into probabilities of instruments there is no L2 term, which takes the weights of some instruments
    in that layer towards zero.
    """
    visual = system.visual and dataclasses.replace(
        system.visual, spacing=0.3, size=32, resnet=SMALL_RESNET, hidden=SMALL_RESNET.features // 2
    )
    l2 = 0.0 if system.asks_who_plays else system.optimizer.l2
    return dataclasses.replace(
        system,
        frames=64,
        channels=(8, 16, 32, 64, 128, 256),
        visual=visual,
        curriculum_patience=250,
        optimizer=dataclasses.replace(system.optimizer, learning_rate=1e-3, patience=500, l2=l2),
    )


def _small_sound_of_pixels(system: SoundOfPixels, milestones: tuple[int, ...]) -> SoundOfPixels:
    """At most six levels, a quarter of the channels and of the frames (1.5 s), players at 32 pixels."""
    return dataclasses.replace(
        system,
        frames=64,
        spacing=0.5,
        levels=min(system.levels, 6),
        channels=16,
        resnet=dataclasses.replace(SMALL_RESNET, bottleneck=False),
        size=32,
        optimizer=dataclasses.replace(system.optimizer, milestones=milestones),
    )


def _debug(system: System) -> tuple[System, Train, TestList]:
    """Two levels of few channels, 16 frames at 8 kHz, and players of 16 pixels in a ResNet of two narrow blocks."""
    resnet = ResNetSize((1, 1), 4)
    audio: dict[str, Any] = {"sample_rate": 8_000, "window_length": 126, "hop_length": 32, "frames": 16}
    if isinstance(system, Slizovskaia2021):
        visual = system.visual and dataclasses.replace(
            system.visual, frames=min(system.visual.frames, 2), size=16, resnet=resnet, hidden=8
        )
        system = dataclasses.replace(system, **audio, channels=(4, 8), visual=visual)
    elif isinstance(system, SoundOfPixels):
        resnet = dataclasses.replace(resnet, bottleneck=False)
        sizes: dict[str, Any] = {"bins": 32, "levels": system.levels // 2, "channels": 4, "outputs": 4, "size": 16}
        system = dataclasses.replace(system, **audio, **sizes, frames_seen=2, resnet=resnet)
    elif isinstance(system, FrameClassifier):
        system = dataclasses.replace(system, sample_rate=8_000, samples=512, resnet=resnet, size=16, hidden=8)
    return system, DEBUG, TestList(kind="pairs", mixtures=2, seconds=1.0)
