"""Runs of configs/slizovskaia2021.py: their experiment numbers, and their scores by `qsep evaluate segments`."""

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
from qsep_jax.systems.capabilities import uses_stft, with_frames
from qsep_jax.systems.slizovskaia2021 import Slizovskaia2021
from qsep_jax.systems.sound_of_pixels import SoundOfPixels

BASELINES = (19, 20, 21)
# Fields whose values the paper and its code have differently; with either value, a run is of the same experiment.
VARIATIONS = ("multiply", "film_offset", "competing", "common_gain")
# A segment of a source: track, index of the segment, stem.
Key = tuple[str, int, str]


@dataclasses.dataclass(frozen=True)
class Run:
    """An evaluated run.

    Attributes:
      workdir: Run folder; None for a run that was read from its record.
      scores: For each estimate, a list over tracks.
      variation: Fields in which the run follows the paper instead of the code (`variation_of`).
      seed: Seed of the training.
      share_of_paper: Seconds of audio that the run heard in training, divided by the paper's; NaN if it is not known.
    """

    workdir: Path | None
    name: str
    experiment: int
    corpus: str
    split: str
    scores: dict[str, list[TrackScores]]
    variation: str = ""
    seed: int = 0
    share_of_paper: float = float("nan")

    @property
    def reported(self) -> str:
        """The estimate that the paper reports: after two iterations of the Wiener filter, or unfiltered for SoP."""
        return "model_w0" if self.experiment in BASELINES else "model_w2"

    @property
    def tracks(self) -> list[TrackScores]:
        """The scores of the first estimate by the model, one for each track."""
        return next(tracks for kind, tracks in self.scores.items() if kind.startswith("model"))

    def values(self, estimate: str, metric: str) -> dict[Key, float]:
        """The finite scores of an estimate, by segment."""
        return {
            (track.track, segment, stem): float(value)
            for track in self.scores[estimate]
            for stem, metrics in track.stems.items()
            for segment, value in enumerate(metrics[metric])
            if np.isfinite(value)
        }

    def of(self, estimate: str, metric: str, stem: str = "", sources: int = 0) -> np.ndarray:
        """The finite scores of one stem (or of all), in tracks with `sources` sources (or in all)."""
        counts = {track.track: len(track.facts["sources"]) for track in self.scores[estimate]}
        return np.array(
            [
                value
                for (track, _, name), value in self.values(estimate, metric).items()
                if stem in ("", name) and sources in (0, counts[track])
            ]
        )


def traits(system: System) -> tuple[Any, ...]:
    """The fields that distinguish the experiments, independent of the sizes and rates of a run.

    Raises:
      ValueError: if the system is of another paper.
    """
    if isinstance(system, SoundOfPixels):
        return ("sound of pixels",)
    if not isinstance(system, Slizovskaia2021):
        raise ValueError(f"{type(system).__name__} is not of configs/slizovskaia2021.py")
    visual = system.visual and ("frames" if system.visual.frames > 1 else "frame", system.visual.summary)
    noise, classifier = bool(system.input_noise), bool(system.classifier_weight)
    scales, forms = (system.frequency_scale, system.level_scale), (system.heads, system.output, system.curriculum)
    return (*scales, *forms, noise, classifier, system.conditioning, visual)


def number_of(experiment: Experiment, name: str) -> int:
    """The number of a run's experiment, by its system and, if it contains one, by its name (`exp9`, `exp9_long`).

    Raises:
      ValueError: if the system is of no experiment, if the name has another number, or if the name has none and the
        system does not decide (SoP's experiments 19, 20 and 21 have the same system).
    """
    run_traits = traits(experiment.system)
    matching = [int(key.removeprefix("exp")) for key in EXPERIMENTS if traits(system_of(key)) == run_traits]
    named = re.search(r"(?<![a-z])exp(\d+)", name)
    if not matching:
        raise ValueError(f"{name} is none of the experiments of configs/slizovskaia2021.py: it combines their fields")
    if named and int(named[1]) not in matching:
        raise ValueError(
            f"{name} is named after experiment {named[1]} but has experiment {_alternatives(matching)}: rename it"
        )
    if not named and len(matching) > 1:
        raise ValueError(
            f"{name} may be experiment {_alternatives(matching)}: begin the name of its folder with exp{matching[0]}"
        )
    return int(named[1]) if named else matching[0]


def variation_of(system: System, number: int) -> str:
    """The fields of `VARIATIONS` in which a run differs from the config of its experiment: `multiply = after`."""
    published = system_of(f"exp{number}")
    return ", ".join(
        f"{field} = {getattr(system, field)}"
        for field in VARIATIONS
        if isinstance(system, Slizovskaia2021)
        and _has_effect(system, field)
        and getattr(system, field) != getattr(published, field)
    )


def _has_effect(system: Slizovskaia2021, field: str) -> bool:
    """Whether the system depends on a field of `VARIATIONS`."""
    depends = {
        "multiply": system.conditioning == "multiply" and system.competing,
        "film_offset": system.conditioning not in ("none", "multiply"),
        "competing": system.output == "ratio",
        "common_gain": system.output != "ratio",
    }
    return depends[field]


def _alternatives(numbers: Sequence[int]) -> str:
    return " or ".join(map(str, numbers))


def read(workdir: Path, corpus: str, split: str) -> Run:
    """The scores of a run on a corpus (by default, the run's).

    Raises:
      ValueError: if the run is of none of these experiments, has no scores of segments on the corpus, or has scores of
        several checkpoints.
    """
    saved = find_model(str(workdir))
    experiment, name = saved.experiment(), saved.path.resolve().name
    number = number_of(experiment, name)
    chosen = corpus or experiment.judged.corpora[0]
    folder = saved.evaluation / f"{chosen}_{split}_segments" / "tracks"
    scores = {
        kind.name: [TrackScores.from_file(path) for path in sorted(kind.glob("*.json"))]
        for kind in sorted(folder.glob("*"))
    }
    if not any(scores.get(kind) for kind in ("model_w0", "model_w2")):
        command = f"qsep evaluate segments --workdir {workdir} --wiener 0 2"
        command += f" --corpus {corpus}" if corpus else ""
        raise ValueError(
            f"{workdir} has no scores of segments of {chosen}, {split} split. Compute them with:\n  {command}"
        )
    models = {track.facts.get("weights") for tracks in scores.values() for track in tracks}
    if len(models) > 1:
        raise ValueError(
            f"{folder} has scores of several checkpoints of the model: delete it and evaluate {workdir} again"
        )
    seed, variation = experiment.train.seed, variation_of(experiment.system, number)
    return Run(workdir, name, number, chosen, split, scores, variation, seed)


def read_all(workdirs: Sequence[Path], corpus: str, split: str) -> list[Run]:
    """The scores of several runs on the same segments, in the order of `in_order`.

    Raises:
      ValueError: if the segments of the runs differ, or if no run is given.
    """
    return in_order([read(workdir, corpus, split) for workdir in workdirs])


def in_order(runs: Sequence[Run]) -> list[Run]:
    """The runs in the order of their experiment numbers and seeds.

    Raises:
      ValueError: if their segments differ, or if there is no run.
    """
    if not runs:
        raise ValueError("no run is given: give the folders of evaluated runs after --runs")
    runs = sorted(runs, key=lambda run: (run.experiment, run.seed))
    for run in runs[1:]:
        if _segments_of(run) != _segments_of(runs[0]):
            raise ValueError(
                f"{run.name} was not evaluated on the same segments as {runs[0].name} (corpus, tracks, length): "
                "evaluate both in the same way"
            )
    return runs


def _segments_of(run: Run) -> Any:
    first = run.tracks[0]
    facts = {key: first.facts.get(key) for key in ("corpus", "fingerprint", "split", "sample_rate")}
    return facts, first.protocol, [track.track for track in run.tracks]


def of_length(model: Model, seconds: float) -> Model:
    """The model with chunks of `seconds`, the length of the segments that a run was scored on.

    Raises:
      ValueError: if the length of its chunks is fixed to another one.
    """
    samples = round(seconds * model.system.sample_rate)
    if samples == model.system.chunk_samples:
        return model
    return Model(with_frames(model.system, samples // uses_stft(model.system).hop_length), model.variables)


def load(workdir: Path, corpus: str, split: str, root: str) -> tuple[Model, Corpus, str]:
    """The best model of a run, a corpus (by default, the run's), and the name of the run's cached video features.

    Raises:
      ValueError: if the run has no checkpoint, or if the corpus is not prepared.
    """
    experiment, model = find_model(str(workdir)).load()
    stream, rate = experiment.judged, model.system.sample_rate
    opened = stream.open(root or experiment.data.root, corpus or stream.corpora[0], rate, split, 1)
    return model, opened, features_of(stream)
