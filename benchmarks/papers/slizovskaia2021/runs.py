"""Runs of configs/slizovskaia2021.py: which experiment each is, and what `evaluate --protocol segments` found."""

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from configs.slizovskaia2021 import EXPERIMENTS, system_of
from data_pipelines.prepared.corpus import Corpus
from qsep_jax.inference.cues import features_of
from qsep_jax.inference.model import Model
from qsep_jax.metrics.tracks import TrackScores
from qsep_jax.runs.bundle import find_model
from qsep_jax.runs.experiment import Experiment
from qsep_jax.systems.base import System
from qsep_jax.systems.slizovskaia2021 import Slizovskaia2021
from qsep_jax.systems.sound_of_pixels import SoundOfPixels

BASELINES = (19, 20, 21)
# A segment of a source: track, number of the segment, stem.
Key = tuple[str, int, str]


@dataclasses.dataclass(frozen=True)
class Run:
    """An evaluated run: its scores by estimate, a list over tracks."""

    workdir: Path
    name: str
    experiment: int
    corpus: str
    split: str
    scores: dict[str, list[TrackScores]]

    @property
    def reported(self) -> str:
        """The estimate that the paper reports: after two iterations of the Wiener filter, SoP's as they are."""
        return "model_w0" if self.experiment in BASELINES else "model_w2"

    @property
    def tracks(self) -> list[TrackScores]:
        """The scores of one of the estimates by the model."""
        return next(tracks for kind, tracks in self.scores.items() if kind.startswith("model"))

    def values(self, estimate: str, metric: str) -> dict[Key, float]:
        """The finite scores of all segments."""
        return {
            (track.track, segment, stem): float(value)
            for track in self.scores[estimate]
            for stem, metrics in track.stems.items()
            for segment, value in enumerate(metrics[metric])
            if np.isfinite(value)
        }

    def of(self, estimate: str, metric: str, stem: str = "", sources: int = 0) -> np.ndarray:
        """Finite scores of one stem, or of all; of the tracks with so many sources, or of all."""
        counts = {track.track: len(track.facts["sources"]) for track in self.scores[estimate]}
        found = self.values(estimate, metric).items()
        kept = [value for (track, _, of), value in found if stem in ("", of) and sources in (0, counts[track])]
        return np.array(kept)


def traits(system: System) -> tuple[Any, ...]:
    """What tells experiments apart, whatever a run's sizes and rates are.

    Raises:
      ValueError: for a system of another paper.
    """
    if isinstance(system, SoundOfPixels):
        return ("sound of pixels",)
    if not isinstance(system, Slizovskaia2021):
        raise ValueError(f"{type(system).__name__} is not of configs/slizovskaia2021.py")
    look = system.visual and ("frames" if system.visual.frames > 1 else "frame", system.visual.summary)
    noise, classifier = bool(system.input_noise), bool(system.classifier_weight)
    scales, forms = (system.frequency_scale, system.level_scale), (system.heads, system.output, system.curriculum)
    return (*scales, *forms, noise, classifier, system.conditioning, look)


def number_of(experiment: Experiment, name: str) -> int:
    """Which of the experiments a run is: by its system, and by its name (`exp9`, `exp9_long`) where that says it.

    Raises:
      ValueError: if it is none, the name says another one, or it is needed: SoP's 19, 20 and 21 are one system.
    """
    own = traits(experiment.system)
    fitting = [int(each.removeprefix("exp")) for each in EXPERIMENTS if traits(system_of(each)) == own]
    named = re.search(r"(?<![a-z])exp(\d+)", name)
    if not fitting:
        raise ValueError(f"{name} is none of the experiments of configs/slizovskaia2021.py: its fields are mixed")
    if named and int(named[1]) not in fitting:
        raise ValueError(
            f"{name} is named after experiment {named[1]} and holds experiment {_words(fitting)}: rename it"
        )
    if not named and len(fitting) > 1:
        raise ValueError(
            f"{name} may be experiment {_words(fitting)}: have its folder's name begin with exp{fitting[0]}"
        )
    return int(named[1]) if named else fitting[0]


def _words(numbers: Sequence[int]) -> str:
    return " or ".join(map(str, numbers))


def read(workdir: Path, corpus: str, split: str) -> Run:
    """The scores of a run on a corpus, by default its own.

    Raises:
      ValueError: if it is no run of these experiments, or was not evaluated there on segments, or by several models.
    """
    source = find_model(str(workdir))
    experiment, name = source.experiment(), source.path.resolve().name
    number = number_of(experiment, name)
    chosen = corpus or experiment.judged.corpora[0]
    folder = source.evaluation / f"{chosen}_{split}_segments" / "tracks"
    scores = {
        kind.name: [TrackScores.from_file(path) for path in sorted(kind.glob("*.json"))]
        for kind in sorted(folder.glob("*"))
    }
    if not any(scores.get(kind) for kind in ("model_w0", "model_w2")):
        command = f"python -m qsep_jax.evaluate --workdir {workdir} --protocol segments --wiener 0 2"
        command += f" --corpus {corpus}" if corpus else ""
        raise ValueError(
            f"{workdir} has no scores of segments of {chosen}, {split} split. Make them with:\n  {command}"
        )
    models = {track.facts.get("weights") for tracks in scores.values() for track in tracks}
    if len(models) > 1:
        raise ValueError(
            f"{folder} holds scores of several states of the model: delete it and evaluate {workdir} again"
        )
    return Run(workdir, name, number, chosen, split, scores)


def read_all(workdirs: Sequence[Path], corpus: str, split: str) -> list[Run]:
    """The scores of several runs, which must be of the same segments, by number of their experiments.

    Raises:
      ValueError: if they are not, or there is no run.
    """
    if not workdirs:
        raise ValueError("no run is given: name the folders of evaluated runs after --runs")
    runs = sorted((read(workdir, corpus, split) for workdir in workdirs), key=lambda run: run.experiment)
    for run in runs[1:]:
        if _judged(run) != _judged(runs[0]):
            raise ValueError(
                f"{run.name} was not judged on the same segments as {runs[0].name} (corpus, tracks, length): evaluate "
                "both in the same way"
            )
    return runs


def _judged(run: Run) -> Any:
    first = run.tracks[0]
    facts = {key: first.facts.get(key) for key in ("corpus", "fingerprint", "split", "sample_rate")}
    return facts, first.protocol, [track.track for track in run.tracks]


def load(workdir: Path, corpus: str, split: str, root: str) -> tuple[Model, Corpus, str]:
    """The best model of a run, the corpus to try it on, by default its own, and its name of cached features.

    Raises:
      ValueError: if there is no checkpoint, or the corpus is not prepared.
    """
    experiment, model = find_model(str(workdir)).load()
    stream, rate = experiment.judged, model.system.sample_rate
    opened = stream.open(root or experiment.data.root, corpus or stream.corpora[0], rate, split, 1)
    return model, opened, features_of(stream)
