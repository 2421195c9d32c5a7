"""Whether a model is judged on what it was trained on."""

import re

from data_pipelines.prepared.corpus import Corpus
from data_pipelines.recipes.unpaired import UnpairedMixture
from qsep_jax.runs.experiment import Experiment

# Two tracks of one name are the same song if their lengths differ by less.
SAME_LENGTH = 0.01


def refuse_overlap(experiment: Experiment, test: Corpus) -> None:
    """Compare the tracks of every training stream that has true sources with those of a test corpus.

    A song is known by its name, whose spelling differs from corpus to corpus, and by its length. Training corpora that
    are not here are not compared.

    Raises:
      ValueError: if a song is in both; names stream and song.
    """
    tested = _songs(test)
    for name, stream in experiment.data.streams.items():
        if isinstance(stream.recipe, UnpairedMixture):
            continue
        for corpus_name in stream.corpora:
            try:
                corpus = stream.open(experiment.data.root, corpus_name, experiment.system.sample_rate, "train")
            except ValueError:
                continue
            for song, (track, seconds) in _songs(corpus).items():
                there, length = tested.get(song, ("", 0.0))
                if abs(length - seconds) < SAME_LENGTH * seconds:
                    raise ValueError(
                        f"'{track}' of {corpus.folder} is in the training stream '{name}', and as '{there}' in the "
                        f"{test.split} split of {test.folder}: its scores would say nothing. Take it out of one of the "
                        f"two, or train on other tracks (data.streams.{name}.first and .tracks)"
                    )


def _songs(corpus: Corpus) -> dict[str, tuple[str, float]]:
    """By plain name, the tracks of a corpus and how many seconds they last."""
    found = {}
    for track in corpus.all_tracks:
        stems = [stem for stem in corpus.stems if track in corpus.tracks(stem)]
        seconds = max(corpus.length(track, stem) for stem in stems) / corpus.sample_rate
        found[re.sub(r"[\W_]+", "", track.casefold())] = (track, seconds)
    return found
