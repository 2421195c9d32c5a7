"""Slizovskaia, Haro, Gómez 2021, "Conditioned source separation for musical instrument performances" (TASLP): Table V.

2 to 7 of 13 instruments of Solos per mixture at 11,025 Hz, in excerpts of 6 s; STFT 1022/256; mini-batches of 32;
Adam, 1e-4 as in the code, halved on plateaus; 1,000 epochs of 250 batches. Tested on the 40 pieces of URMP that have
two instruments or more. The experiments of the table are the variants `exp1` to `exp21`, each a difference from the
one that it is compared with (`EXPERIMENTS`); `exp22` and `exp23` are the two attempts of section 5.4 that failed.

    python -m data_pipelines.prepare solos --source SOLOS --sample-rate 11025
    python -m data_pipelines.prepare urmp --source URMP --name urmp_pieces --merged --split test --sample-rate 11025
    python -m qsep_jax.train --config configs/slizovskaia2021.py:exp9 --workdir runs/exp9
    python -m qsep_jax.evaluate --workdir runs/exp9 --protocol segments --corpus urmp_pieces --wiener 0 2

Where players are seen, a ResNet-50 starts from ImageNet weights in a local file, `--train.weights.resnet FILE`, and
`exp19` and `exp20` from Sound of Pixels' published files. Further variants, separated by commas: `classifier` trains a
ResNet to name instruments, for those who have no ImageNet weights; `chamber` takes the corpus that is made on the spot,
whose players are drawn; `small` is what two CPU cores can train, with the departures that its function lists; `debug`
is tiny. See docs/slizovskaia2021.md.
"""

import dataclasses
from typing import Any

from data_pipelines.pipeline import Data, Stream
from data_pipelines.recipes.mix_and_separate import MixAndSeparate
from data_pipelines.testlist import TestList
from qsep_jax.models.resnet import ResNetSize
from qsep_jax.runs.experiment import Experiment, variant_words
from qsep_jax.systems.base import Optimizer, System
from qsep_jax.systems.frame_classifier import FrameClassifier
from qsep_jax.systems.slizovskaia2021 import STREAM, Slizovskaia2021
from qsep_jax.systems.sound_of_pixels import SoundOfPixels
from qsep_jax.systems.visual import Visual
from qsep_jax.training.settings import DEBUG, Train

BASE = Slizovskaia2021(frequency_scale="logarithmic")
ONE_FRAME, FIVE_FRAMES = Visual(), Visual(frames=5, frozen=True)
LSTM = {
    "visual": dataclasses.replace(FIVE_FRAMES, summary="lstm"),
    "competing": False,
    "optimizer": dataclasses.replace(BASE.optimizer, clip_norm=0.5),
}
# What an experiment is compared with, and how it differs.
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
    "exp19": (SoundOfPixels(), {}),
    "exp20": ("exp19", {}),
    "exp21": ("exp19", {"levels": 5}),
    "exp22": ("exp6", {"output": "magnitude", "competing": False, "common_gain": True}),  # as loud as they are heard
    "exp23": ("exp6", {"classifier_weight": 1.0}),
}
VARIANTS = (*EXPERIMENTS, "classifier", "chamber", "small")
EPOCH = 250


def system_of(name: str) -> System:
    """The system of an experiment, its difference applied to the one that it is compared with."""
    base, difference = EXPERIMENTS[name]
    changed: Any = system_of(base) if isinstance(base, str) else base
    return dataclasses.replace(changed, **difference)


def get_config(variant: str = "") -> Experiment:
    words = variant_words(variant, VARIANTS)
    named = words & {*EXPERIMENTS, "classifier"}
    if len(named) > 1:
        raise ValueError(f"the variants {', '.join(sorted(named))} are different systems: give one")
    name = next(iter(named), "exp6")
    system = FrameClassifier() if name == "classifier" else system_of(name)
    train = Train(steps=1000 * EPOCH, batch_size=32, validate_every=EPOCH, validation_batches=62, save_every=EPOCH)
    weights = _weights(name, system)
    if name == "exp19":
        train = dataclasses.replace(train, steps=0)
    corpus = "chamber" if words & {"chamber", "small"} else "solos"
    features = ""
    if "small" in words:
        system, train = _small(system, train)
        looks = system.visual if isinstance(system, Slizovskaia2021) else None
        weights = {"resnet": "runs/classifier"} if looks else {}
        if isinstance(system, Slizovskaia2021) and system.asks_who_plays:
            weights["probabilities"] = "runs/classifier"
        features = "classifier" if looks and looks.frozen else ""
    if "debug" in words:
        system, train, weights = _debug(system), DEBUG, {}
    recipe = _recipe(system, features)
    view = {stem: (stem,) for stem in system.stems}
    train = dataclasses.replace(train, weights=weights)
    evaluation = TestList(kind="pairs", mixtures=2, seconds=1.0) if "debug" in words else TestList()
    return Experiment(system, Data(streams={STREAM: Stream(corpus, recipe, view)}), train, evaluation)


def _weights(name: str, system: System) -> dict[str, str]:
    """Files that the user has: there is none in this project."""
    if isinstance(system, Slizovskaia2021):
        return {"resnet": "resnet50.safetensors"} if system.visual else {}
    if name in ("exp19", "exp20"):
        files = {"sounds": "sound_latest.pth", "synthesizer": "synthesizer_latest.pth"}
        return {**files, **dict.fromkeys(("resnet", "head"), "frame_latest.pth")}
    return {}


def _recipe(system: System, features: str) -> MixAndSeparate:
    if isinstance(system, FrameClassifier):
        return MixAndSeparate(1, 1, slots=1, frames=1, size=system.size)
    if isinstance(system, SoundOfPixels):
        return MixAndSeparate(2, 2, slots=2, frames=system.frames_seen, spacing=system.spacing, size=system.size)
    if not isinstance(system, Slizovskaia2021):
        raise ValueError(f"no recipe for {type(system).__name__}")
    seen, fewest = system.visual, 7 if system.curriculum else 2
    if seen is None:
        return MixAndSeparate(fewest, 7)
    return MixAndSeparate(
        fewest, seen.slots, seen.slots, frames=seen.frames, spacing=seen.spacing, size=seen.size, features=features
    )


def _small(system: System, train: Train) -> tuple[System, Train]:
    """Half the channels, a quarter of the frames (1.5 s), 4 examples, a higher rate and less patience.

    Players are drawn at 32 pixels, and seen by four bottleneck blocks of a quarter of ResNet-50's width. Where they are
    turned into probabilities there is no L2, which takes the weights of some instruments in that layer towards zero.
    """
    resnet, size = ResNetSize((1, 1, 1, 1), 16), 32
    if isinstance(system, Slizovskaia2021):
        visual = system.visual and dataclasses.replace(
            system.visual, spacing=0.3, size=size, resnet=resnet, hidden=resnet.features // 2
        )
        l2 = 0.0 if system.asks_who_plays else system.optimizer.l2
        rate = dataclasses.replace(system.optimizer, learning_rate=1e-3, patience=500, l2=l2)
        system = dataclasses.replace(
            system,
            frames=64,
            channels=(8, 16, 32, 64, 128, 256),
            visual=visual,
            curriculum_patience=250,
            optimizer=rate,
        )
    elif isinstance(system, SoundOfPixels):
        size = {
            "levels": min(system.levels, 6),
            "channels": 16,
            "resnet": ResNetSize((1, 1, 1, 1), 16, False),
            "size": 32,
        }
        system = dataclasses.replace(system, frames=64, spacing=0.5, **size)
    elif isinstance(system, FrameClassifier):
        rate = Optimizer(learning_rate=1e-3)
        system = dataclasses.replace(system, resnet=resnet, size=size, hidden=resnet.features // 2, optimizer=rate)
    return system, dataclasses.replace(
        train, steps=min(train.steps, 3_000), batch_size=4, validate_every=250, validation_batches=16, save_every=250
    )


def _debug(system: System) -> System:
    resnet, size = ResNetSize((1, 1), 4), 16
    audio: dict[str, Any] = {"sample_rate": 8_000, "window_length": 126, "hop_length": 32, "frames": 16}
    if isinstance(system, Slizovskaia2021):
        visual = system.visual and dataclasses.replace(
            system.visual, frames=min(system.visual.frames, 2), size=size, resnet=resnet, hidden=8
        )
        return dataclasses.replace(system, **audio, channels=(4, 8), visual=visual)
    if isinstance(system, SoundOfPixels):
        audio |= {"bins": 32, "levels": system.levels // 2, "channels": 4, "outputs": 4, "frames_seen": 2, "size": size}
        return dataclasses.replace(system, **audio, resnet=dataclasses.replace(resnet, bottleneck=False))
    if isinstance(system, FrameClassifier):
        return dataclasses.replace(system, sample_rate=8_000, samples=512, resnet=resnet, size=size)
    raise ValueError(f"no debug form of {type(system).__name__}")
