"""The conditions of the training tracks of a run, from which class means and retrieval come (Lee et al. 2019, 4.4)."""

import sys
from collections.abc import Iterator

import numpy as np

from data_pipelines.prepared.corpus import Excerpt
from data_pipelines.progress import Progress
from qsep_jax.inference.bank import Bank, make_bank
from qsep_jax.inference.model import Model
from qsep_jax.runs.experiment import Experiment


def training_excerpts(experiment: Experiment) -> Iterator[tuple[str, str, np.ndarray]]:
    """Yield stem, track and audio `[T, C]` of evenly spaced windows of the training tracks.

    Raises:
      ValueError: if the training corpus is not prepared.
    """
    system, stream = experiment.system, next(iter(experiment.data.streams.values()))
    corpus = stream.open(experiment.data.root, stream.corpora[0], system.sample_rate, "train")
    samples, most = system.query_samples, experiment.train.condition_windows
    for stem in corpus.stems:
        for track in corpus.tracks(stem):
            room = max(corpus.length(track, stem) - samples, 0)
            count = min(room // samples + 1, most or sys.maxsize)
            for start in np.linspace(0, room, count).astype(int):
                yield stem, track, corpus.read(Excerpt(track, stem, int(start), samples))


def encode_training_tracks(experiment: Experiment, model: Model) -> Bank:
    """Encode the training tracks of an experiment by a model, with a progress display.

    Raises:
      ValueError: if the training corpus is not prepared.
    """
    with Progress("class means", 0, unit="excerpt") as progress:
        return make_bank(model, progress.over(training_excerpts(experiment)))
