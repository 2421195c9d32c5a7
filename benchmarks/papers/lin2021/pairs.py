"""The test mixtures of Lin et al. 2021: two players of one piece, each with a query from another piece."""

import dataclasses
import itertools
from pathlib import Path
from typing import Literal

import numpy as np

from data_pipelines.corpora.urmp_lin2021 import published_pairs
from data_pipelines.prepared.corpus import Corpus, Excerpt, open_corpus
from data_pipelines.recipes.instrument_pairs import sounding_parts
from qsep_jax.runs.bundle import find_model
from qsep_jax.runs.experiment import Experiment
from qsep_jax.systems.base import System
from qsep_jax.systems.lin2021 import STREAM, Lin2021

# Level in dB below the loudest frame at which the authors' tests cut a query.
TOP_DB = 18.0
CutBy = Literal["notes", "energy"]


@dataclasses.dataclass(frozen=True)
class Source:
    """A source of a mixture (a track and its stem), and the track with a query of the same stem."""

    track: str
    stem: str
    query_track: str


Pair = tuple[Source, Source]


def as_lin2021(system: System, where: str) -> Lin2021:
    """The system of a run, checked to be a `Lin2021`; `where` names the run in the error message.

    Raises:
      ValueError: if the run has another system.
    """
    if not isinstance(system, Lin2021):
        raise ValueError(f"{where} has a {type(system).__name__}: give a run of configs/lin2021.py")
    return system


def load_run(workdir: Path, corpus: str, root: str) -> tuple[Experiment, Corpus]:
    """The experiment of a run of configs/lin2021.py, and the test split of its corpus or of another with notes.

    Args:
      corpus: Name of the other corpus, or "" for the run's.
      root: Folder of the prepared corpora, or "" for the run's.

    Raises:
      ValueError: if the run is of another system, or if the corpus is not prepared.
    """
    experiment = find_model(str(workdir)).experiment()
    as_lin2021(experiment.system, str(workdir))
    name, root = corpus or experiment.data.streams[STREAM].corpus, root or experiment.data.root
    return experiment, open_corpus(root, name, experiment.system.sample_rate, "test", channels=1)


def test_pairs(corpus: Corpus, limit: int, seed: int) -> list[Pair]:
    """The published pairs for `urmp`; for other corpora, random pairs of instruments of a piece.

    The pieces take turns, and the queries are of the same instrument in another piece. There are at most `limit` pairs
    (0: all).

    Raises:
      ValueError: if the corpus has no pair.
    """
    if corpus.metadata.options.get("kind") == "urmp":
        pairs = [
            (
                Source(pair.track_a, pair.instrument_a, pair.query_track_a),
                Source(pair.track_b, pair.instrument_b, pair.query_track_b),
            )
            for pair in published_pairs()
        ]
    else:
        pairs = _random_pairs(corpus, seed)
    if not pairs:
        raise ValueError(
            f"{corpus.folder} has no {corpus.split} piece with two instruments that occur in other pieces, too"
        )
    return pairs[: limit or None]


def _random_pairs(corpus: Corpus, seed: int) -> list[Pair]:
    rng = np.random.default_rng(seed)
    by_piece: list[list[Pair]] = []
    for piece in sorted({track for stem in corpus.stems for track in corpus.tracks(stem)}):
        others = {stem: [track for track in corpus.tracks(stem) if track != piece] for stem in corpus.stems}
        players = [stem for stem in corpus.stems if piece in corpus.tracks(stem) and others[stem]]
        combinations = list(itertools.combinations(players, 2))
        pairs = []
        for index in rng.permutation(len(combinations)):
            first, second = (
                Source(piece, stem, others[stem][rng.integers(len(others[stem]))]) for stem in combinations[index]
            )
            pairs.append((first, second))
        by_piece.append(pairs)
    return [pair for turn in itertools.zip_longest(*by_piece) for pair in turn if pair is not None]


def waveforms(corpus: Corpus, pair: Pair, seconds: float) -> np.ndarray:
    """The sources of a pair `[2, T, 1]` from their beginning: `seconds`, or (0) the length of the shorter source."""
    length = min(corpus.length(source.track, source.stem) for source in pair)
    length = min(length, round(seconds * corpus.sample_rate)) if seconds else length
    return np.stack([corpus.read(Excerpt(source.track, source.stem, 0, length)) for source in pair])


def query(corpus: Corpus, source: Source, cut_by: CutBy = "notes") -> np.ndarray:
    """The query of a source `[T, 1]`: the parts of its query track that are not silent.

    Args:
      cut_by: what tells silence: the `notes` of the track, as in training, or its `energy` as in the authors' tests,
        which needs no annotation: `librosa.effects.split`, 18 dB below the loudest frame.
    """
    if cut_by == "energy":
        import librosa

        length = corpus.length(source.query_track, source.stem)
        audio = corpus.read(Excerpt(source.query_track, source.stem, 0, length))
        return np.concatenate([audio[start:stop] for start, stop in librosa.effects.split(audio[:, 0], top_db=TOP_DB)])
    parts = sounding_parts(corpus, source.query_track, source.stem)
    return np.concatenate(
        [corpus.read(Excerpt(source.query_track, source.stem, start, stop - start)) for start, stop in parts]
    )
