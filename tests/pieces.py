"""Tiny models that estimate all stems at once, as bundles, and pieces for two and three instruments as their data."""

from pathlib import Path

import jax
import numpy as np
import safetensors.numpy
from flax import traverse_util

from data_pipelines.corpora.base import Stem
from data_pipelines.prepared import store
from data_pipelines.recipes.mix_and_separate import MixAndSeparate
from data_pipelines.streams import Data, Stream
from data_pipelines.testlist import TestList
from qsep_jax.models.resnet import ResNetSize
from qsep_jax.runs.bundle import Bundle
from qsep_jax.runs.experiment import Experiment
from qsep_jax.runs.experiment_json import to_json
from qsep_jax.systems.base import System
from qsep_jax.systems.slizovskaia2021 import Slizovskaia2021
from qsep_jax.systems.visual import Visual
from tests.variables import variables_of

RATE = 8_000
STEMS = ("bassoon", "cello", "flute", "violin")
# Chunks of 2,048 samples.
SIZE = {"stems": STEMS, "sample_rate": RATE, "window_length": 126, "hop_length": 32, "frames": 64, "channels": (4, 8)}
SAMPLES = 2_048
PLAYERS = Visual(frames=2, spacing=0.05, size=16, slots=3, resnet=ResNetSize((1,), 4), hidden=8)
UNCONDITIONED = Slizovskaia2021(**SIZE)
ON_LABELS = Slizovskaia2021(**SIZE, conditioning="bottleneck")
ON_VIDEO = Slizovskaia2021(**SIZE, conditioning="final", visual=PLAYERS)
# Number of samples and instruments of each piece of the test split; "trio" has two complete segments and a partial one.
PIECES = {"duet": (3 * SAMPLES, ("cello", "violin")), "short": (1_500, ("bassoon", "flute"))}
PIECES |= {"trio": (2 * SAMPLES + 500, ("bassoon", "cello", "flute"))}


def write_pieces(root: Path, pieces: dict[str, tuple[int, tuple[str, ...]]] = PIECES) -> Path:
    """Write the corpus `pieces`; the violin of its duet is silent in the second segment.

    The video of its players can be rendered.
    """
    tracks = [store.segments(name, _stems(name, *pieces[name]), RATE) for name in pieces]
    folder = store.corpus_folder(root, "pieces", RATE)
    store.write(folder, "pieces", RATE, 1, {"test": iter(tracks)}, fingerprint="0123", options={"kind": "chamber"})
    return root


def _stems(track: str, length: int, names: tuple[str, ...]) -> list[Stem]:
    time, stems = np.arange(length)[:, None] / RATE, []
    for name in names:
        rng = np.random.default_rng([len(track), STEMS.index(name)])
        pitch = 150.0 * 1.3 ** STEMS.index(name)
        sound = np.sin(2 * np.pi * pitch * time * [1, 2, 3] + rng.uniform(0, 6, 3)).sum(1) + 0.1 * rng.normal(
            size=length
        )
        if (track, name) == ("duet", "violin"):
            sound[SAMPLES : 2 * SAMPLES] = 0.0
        notes = np.array([[0.1 * n, 0.1 * n + 0.08, 50 + 3 * n % 20] for n in range(int(10 * length / RATE) + 1)])
        stems.append(Stem(name, np.int16(3000 * sound)[:, None], notes=notes.astype(np.float32)))
    return stems


def experiment_of(system: System, root: Path) -> Experiment:
    """An experiment on the corpus `pieces`, with a test list of two mixtures of 0.3 s."""
    stream = Stream("pieces", MixAndSeparate(most=3), {stem: (stem,) for stem in STEMS})
    return Experiment(system, Data(str(root), {"separation": stream}), evaluation=TestList(mixtures=2, seconds=0.3))


def write_bundle(system: System, folder: Path, root: Path = Path("data")) -> Path:
    """Write a bundle of a system with random variables."""
    folder.mkdir(parents=True)
    flat = traverse_util.flatten_dict(jax.device_get(variables_of(system)), sep="/")
    (folder / "config.json").write_text(to_json(experiment_of(system, root)))
    safetensors.numpy.save_file({path: np.asarray(leaf) for path, leaf in flat.items()}, Bundle(folder).variables)
    return folder
