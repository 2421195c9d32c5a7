"""Every config in its debug variant, and generated corpora on which they train within seconds."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from data_pipelines.corpora.base import Stem
from data_pipelines.pipeline import Pipeline
from data_pipelines.prepared import store
from data_pipelines.schema import SPLITS
from qsep_jax.runs.experiment import Experiment, load_config
from qsep_jax.systems.base import System
from qsep_jax.train import shapes_of

ROOT = Path(__file__).parents[1]
CONFIGS = sorted(path.name for path in (ROOT / "configs").glob("*.py"))
# Conditioned on video, by a residual network that takes long to compile.
VIDEO = pytest.param("slizovskaia2021.py:exp16", marks=pytest.mark.slow)
CASES = [*CONFIGS, "slizovskaia2021.py:exp9", VIDEO]
SECONDS, TRACKS = 4.0, 3


def debug(config: str) -> Experiment:
    """The debug variant of `configs/config`, which may name a further variant: `lee2019.py:band`."""
    path, _, variant = config.partition(":")
    return load_config(f"{ROOT / 'configs' / path}:{variant},debug")


def write_corpora(experiment: Experiment, root: Path, train_tracks: int = TRACKS, most: int = 0) -> None:
    """Write the corpora of an experiment: in each track, each stem is a chord with pitches of its own.

    According to the notes it is a single note from beginning to end, so that frames of a player can be drawn.

    Args:
      most: largest number of stems of a track, which take turns (0: all).
    """
    rate = experiment.system.sample_rate
    for stream in (experiment.judged, *experiment.data.streams.values()):
        stored = [part for parts in stream.view.values() for part in parts] or list(experiment.system.stems)
        for name in stream.corpora:
            folder = store.corpus_folder(root, name, rate)
            if not folder.exists():
                tracks = {
                    split: _tracks(split, stored, rate, train_tracks if split == "train" else TRACKS, most)
                    for split in SPLITS
                }
                store.write(folder, name, rate, 1, tracks, fingerprint="0123", options={"kind": "chamber"})


def least_tracks(experiment: Experiment) -> int:
    """The number of tracks that the training split of each corpus must have for the streams of an experiment."""
    return max(TRACKS, *(stream.first + max(stream.tracks, 1) for stream in experiment.data.streams.values()))


def _tracks(split: str, stems: list[str], rate: int, count: int, most: int) -> Iterator[list[store.Record]]:
    time = np.arange(round(SECONDS * rate)) / rate
    for number in range(count):
        rng = np.random.default_rng([SPLITS.index(split), number])
        sources = []
        first = number * most
        playing = {stems[place % len(stems)] for place in range(first, first + (most or len(stems)))}
        for place, stem in enumerate(stems):
            if stem not in playing:
                continue
            pitches = 200.0 * 1.2**place * rng.uniform(0.97, 1.03, 3) * [1, 2, 3]
            chord = np.sin(2 * np.pi * pitches * time[:, None] + rng.uniform(0, 6, 3)).sum(axis=1, keepdims=True)
            noise = 0.1 * rng.normal(size=chord.shape)
            notes = np.array([[0.0, SECONDS, 60 + place]], np.float32)
            sources.append(Stem(stem, np.int16(2000 * (chord + noise)), notes=notes))
        yield store.segments(f"{split}{number}", sources, rate)


def pipeline(experiment: Experiment, root: Path, split: str = "train", batch_size: int = 0) -> Pipeline:
    """The pipeline of an experiment, from the corpora under `root`."""
    data, train = experiment.data, experiment.train
    data = dataclasses.replace(data, root=str(root))
    return Pipeline(data, shapes_of(experiment.system, split), split, batch_size or train.batch_size, train.seed)


def cues(system: System, count: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Random cues of the kind on which a system is conditioned, `[count, …]`."""
    if "query" in system.cues:
        return {"query": rng.normal(size=(count, system.query_samples, 2)).astype(np.float32)}
    if "labels" in system.cues:
        return {"labels": rng.integers(0, 2, (count, len(system.stems))).astype(np.float32)}
    if "frames" in system.cues:
        return {name: leaf[:count] for name, leaf in next(iter(system.noise(rng, count).values())).items()}
    return {}
