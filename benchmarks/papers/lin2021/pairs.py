"""The test mixtures of Lin et al. 2021: two players of one song, each with a query from another song."""

import dataclasses
import itertools
from pathlib import Path

import numpy as np

from data_pipelines.corpora.urmp import published_pairs
from data_pipelines.prepared.corpus import Corpus, Excerpt, open_corpus
from data_pipelines.recipes.instrument_pairs import sounding_parts
from qsep_jax.runs.bundle import find_model
from qsep_jax.runs.experiment import Experiment
from qsep_jax.systems.base import System
from qsep_jax.systems.lin2021 import STREAM, Lin2021


@dataclasses.dataclass(frozen=True)
class Source:
    """One player, and the one whose sounding parts ask for him; each a track and its stem."""

    track: str
    stem: str
    query_track: str


Pair = tuple[Source, Source]


def as_lin2021(system: System, where: str) -> Lin2021:
    """Narrow the system of a run to Lin2021; `where` names the run in the error.

    Raises:
      ValueError: if it is another system.
    """
    if not isinstance(system, Lin2021):
        raise ValueError(f"{where} holds a {type(system).__name__}: this is of configs/lin2021.py")
    return system


def load_run(workdir: Path, corpus: str, root: str) -> tuple[Experiment, Corpus]:
    """The experiment of a run of configs/lin2021.py, and the test split of its corpus, or of another with notes.

    Raises:
      ValueError: if it is no such run, or the corpus is not prepared.
    """
    experiment = find_model(str(workdir)).experiment()
    as_lin2021(experiment.system, str(workdir))
    name, root = corpus or experiment.data.streams[STREAM].corpus, root or experiment.data.root
    return experiment, open_corpus(root, name, experiment.system.sample_rate, "test", channels=1)


def test_pairs(corpus: Corpus, most: int, seed: int) -> list[Pair]:
    """The published pairs on `urmp`; on a corpus of pieces, pairs of instruments of a piece, drawn from a seed.

    The pieces take turns; a query is of the same instrument in another piece. At most `most` pairs (0: all).

    Raises:
      ValueError: if there is no pair.
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
        pairs = _drawn(corpus, seed)
    if not pairs:
        raise ValueError(f"{corpus.folder} has no {corpus.split} piece of two instruments that others play, too")
    return pairs[: most or None]


def _drawn(corpus: Corpus, seed: int) -> list[Pair]:
    rng = np.random.default_rng(seed)
    by_piece: list[list[Pair]] = []
    for piece in sorted({track for stem in corpus.stems for track in corpus.tracks(stem)}):
        others = {stem: [track for track in corpus.tracks(stem) if track != piece] for stem in corpus.stems}
        players = [stem for stem in corpus.stems if piece in corpus.tracks(stem) and others[stem]]
        together = list(itertools.combinations(players, 2))
        found = []
        for index in rng.permutation(len(together)):
            first, second = (
                Source(piece, stem, others[stem][rng.integers(len(others[stem]))]) for stem in together[index]
            )
            found.append((first, second))
        by_piece.append(found)
    return [pair for turn in itertools.zip_longest(*by_piece) for pair in turn if pair is not None]


def waveforms(corpus: Corpus, pair: Pair, seconds: float) -> np.ndarray:
    """The sources of a pair `[2, T, 1]` from their beginning on, as long as the shorter, or `seconds` (0: all)."""
    length = min(corpus.length(source.track, source.stem) for source in pair)
    length = min(length, round(seconds * corpus.sample_rate)) if seconds else length
    return np.stack([corpus.read(Excerpt(source.track, source.stem, 0, length)) for source in pair])


def query(corpus: Corpus, source: Source) -> np.ndarray:
    """Everything in the query's track that its notes do not call silent `[T, 1]`."""
    parts = sounding_parts(corpus, source.query_track, source.stem)
    return np.concatenate(
        [corpus.read(Excerpt(source.query_track, source.stem, start, stop - start)) for start, stop in parts]
    )
