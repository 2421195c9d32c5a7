"""A check that no test song was used for training."""

import re

from data_pipelines.prepared.corpus import Corpus
from data_pipelines.recipes.unpaired import UnpairedMixture
from qsep_jax.runs.experiment import Experiment

# Two tracks with the same name are the same song if their lengths differ by less than this share.
LENGTH_TOLERANCE = 0.01


def refuse_overlap(experiment: Experiment, test: Corpus) -> None:
    """Compare the tracks of each training stream that has true sources with the tracks of a test corpus.

    Songs are recognised by their length and their name; only letters and digits of the name count, because corpora
    spell names differently. Numbers that are apart stay apart, as those of BWV 29.8 and BWV 298. Training corpora that
    are not prepared on this machine are skipped.

    Raises:
      ValueError: if a song is in both; the message names the stream and the song.
    """
    test_songs = _songs(test)
    for name, stream in experiment.data.streams.items():
        if isinstance(stream.recipe, UnpairedMixture):
            continue
        for corpus_name in stream.corpora:
            try:
                corpus = stream.open(experiment.data.root, corpus_name, experiment.system.sample_rate, "train")
            except ValueError:
                continue
            for song, (track, seconds) in _songs(corpus).items():
                test_track, length = test_songs.get(song, ("", 0.0))
                if abs(length - seconds) < LENGTH_TOLERANCE * seconds:
                    raise ValueError(
                        f"'{track}' of {corpus.folder} is in the training stream '{name}', and as '{test_track}' in "
                        f"the {test.split} split of {test.folder}: its scores would be meaningless. Remove it from one "
                        f"of the two, or train on other tracks (data.streams.{name}.first and .tracks)"
                    )


def _songs(corpus: Corpus) -> dict[str, tuple[str, float]]:
    """The track and its length in seconds for each song of a corpus, by the letters and digits of its name."""
    songs = {}
    for track in corpus.all_tracks:
        stems = [stem for stem in corpus.stems if track in corpus.tracks(stem)]
        seconds = max(corpus.length(track, stem) for stem in stems) / corpus.sample_rate
        songs[_letters_and_digits(track)] = (track, seconds)
    return songs


def _letters_and_digits(name: str) -> str:
    """A name without case and punctuation; a space remains between two digits only."""
    words = re.findall(r"[^\W_]+", name.casefold())
    return re.sub(r"(?<=\D) | (?=\D)", "", " ".join(words))
