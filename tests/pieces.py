"""Tiny models that give all of their stems at once, as bundles, and pieces of two and three instruments for them."""

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

RATE = 8_000
STEMS = ("bassoon", "cello", "flute", "violin")
# Segments of 2,048 samples.
SIZE = {"stems": STEMS, "sample_rate": RATE, "window_length": 126, "hop_length": 32, "frames": 64, "channels": (4, 8)}
SAMPLES = 2_048
SEEN = Visual(frames=2, spacing=0.05, size=16, slots=3, resnet=ResNetSize((1,), 4), hidden=8)
NONE = Slizovskaia2021(**SIZE)
LABELLED = Slizovskaia2021(**SIZE, conditioning="bottleneck")
SEEING = Slizovskaia2021(**SIZE, conditioning="final", visual=SEEN)
# Samples of each piece of the test split, and its instruments; "trio" has two segments and a rest.
PIECES = {"duet": (3 * SAMPLES, ("cello", "violin")), "short": (1_500, ("bassoon", "flute"))}
PIECES |= {"trio": (2 * SAMPLES + 500, ("bassoon", "cello", "flute"))}


def write_pieces(root: Path, pieces: dict[str, tuple[int, tuple[str, ...]]] = PIECES) -> Path:
    """Write the corpus `pieces`, whose players can be drawn; in its duet the violin rests in the second segment."""
    tracks = [store.segments(name, _stems(name, *pieces[name]), RATE) for name in pieces]
    folder = store.corpus_folder(root, "pieces", RATE)
    store.write(folder, "pieces", RATE, 1, {"test": iter(tracks)}, fingerprint="0123", options={"kind": "chamber"})
    return root


def _stems(track: str, length: int, names: tuple[str, ...]) -> list[Stem]:
    time, found = np.arange(length)[:, None] / RATE, []
    for name in names:
        rng = np.random.default_rng([len(track), STEMS.index(name)])
        pitch = 150.0 * 1.3 ** STEMS.index(name)
        sound = np.sin(2 * np.pi * pitch * time * [1, 2, 3] + rng.uniform(0, 6, 3)).sum(1) + 0.1 * rng.normal(
            size=length
        )
        if (track, name) == ("duet", "violin"):
            sound[SAMPLES : 2 * SAMPLES] = 0.0
        notes = np.array([[0.1 * n, 0.1 * n + 0.08, 50 + 3 * n % 20] for n in range(int(10 * length / RATE) + 1)])
        found.append(Stem(name, np.int16(3000 * sound)[:, None], notes=notes.astype(np.float32)))
    return found


def experiment_of(system: System, root: Path) -> Experiment:
    """On the corpus `pieces`, tested on two excerpts of half a second."""
    stream = Stream("pieces", MixAndSeparate(most=3), {stem: (stem,) for stem in STEMS})
    return Experiment(system, Data(str(root), {"separation": stream}), evaluation=TestList(mixtures=2, seconds=0.3))


def write_bundle(system: System, folder: Path, root: Path = Path("data")) -> Path:
    """An untrained model."""
    folder.mkdir(parents=True)
    variables = jax.jit(lambda key: system.init(key, {}))(jax.random.key(0))
    flat = traverse_util.flatten_dict(jax.device_get(variables), sep="/")
    (folder / "config.json").write_text(to_json(experiment_of(system, root)))
    safetensors.numpy.save_file({path: np.asarray(leaf) for path, leaf in flat.items()}, Bundle(folder).variables)
    return folder
